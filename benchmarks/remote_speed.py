"""Samples a second from prepared segments behind HTTP on loopback, beside the same ones from a folder: at the first
read, and once the blocks are in the cache.

`dcvc prepare ../shared/clips/train READY --short_side 360`, then
`python benchmarks/remote_speed.py READY --out benchmarks/remote_speed.json`

An epoch reads one sample of every segment, in an order of its own. The three ways take turns, and the server is a
process of its own; the clock is the wall's, so a quiet machine is needed, whose second core serves.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch
from kit.object_server import serving

from dcvc.data import VideoGOPDataset
from dcvc.video import block_cache

GOP, CROP = 7, 256


def serve(folder: Path, pipe) -> None:
    with serving(files={f"/{path.name}": path.read_bytes() for path in folder.glob("*.mp4")}) as server:
        pipe.send(server.url)
        pipe.recv()


def samples_a_second(data: VideoGOPDataset, epoch: int) -> float:
    # New readers, as a process has that comes to its first epoch.
    data._readers.__setstate__(data._readers.__getstate__())
    data.set_epoch(epoch)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(epoch)).tolist()
    begin = time.perf_counter()
    for index in order:
        data[index]
    return len(order) / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pipe, other = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(options.folder, other), daemon=True)
    server.start()
    url, load = pipe.recv(), round(os.getloadavg()[0], 2)
    rates: dict[str, list[float]] = {"folder": [], "first read": [], "cached": []}
    with tempfile.TemporaryDirectory() as work:
        os.environ["DCVC_CACHE"], blocks = f"{work}/indices", Path(work, "blocks")
        os.environ[block_cache.FOLDER] = str(blocks)
        sampling = {"small_videos": "skip", "short_videos": "skip"}
        local, remote = (VideoGOPDataset(source, GOP, crop_size=CROP, seed=0, **sampling)
                         for source in (options.folder, f"{url}/"))
        assert all(torch.equal(local[index], remote[index]) for index in range(0, len(local), 10))
        for turn in range(options.rounds):
            ways = [("folder", local), ("first read", remote), ("cached", remote)]
            for name, data in ways[turn % 2:] + ways[: turn % 2]:
                if name == "first read":
                    shutil.rmtree(blocks)
                rates[name].append(samples_a_second(data, turn))
    pipe.send("enough")
    server.join()

    def share(name: str) -> float:
        return round(statistics.median(b / a for a, b in zip(rates["folder"], rates[name], strict=True)), 3)

    record = {"command": f"python benchmarks/remote_speed.py READY --out {options.out}", "segments": len(local),
              "gop": GOP, "crop": CROP,
              "samples a second": {name: [round(rate, 1) for rate in values] for name, values in rates.items()},
              "first read, times the folder's": share("first read"), "cached, times the folder's": share("cached"),
              "load before": load}
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
