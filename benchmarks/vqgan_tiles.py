"""Memory and time of a VQGAN of f = 8 with attention on a 1080p frame, whole and in tiles.

    python benchmarks/vqgan_tiles.py WORK --out benchmarks/vqgan_tiles.json

Each row is a process of its own: its peak resident memory, and the seconds of one frame's encoding
(codes) and decoding. The models have LlamaGen VQ-8's graph and random weights, `ch` its own (128) or
fewer channels. A row that the record holds is not measured again.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from dcvc.files import write_text
from dcvc.intra import VQGANIFrameModel
from dcvc.intra.vqgan.config import PUBLISHED, config_to_values
from dcvc.intra.vqgan.model import VQGAN

HEIGHT, WIDTH, TILE, ASKED_GB = 1080, 1920, 512, 2.0
ROWS = ((32, TILE), (32, 0), (128, TILE), (128, 0))


def model_file(work: Path, ch: int) -> Path:
    """A folder with random weights whose norms have moved, as trained ones have."""
    folder = work / f"ch{ch}"
    if not (folder / "vqgan.json").exists():
        torch.manual_seed(0)
        config = dataclasses.replace(PUBLISHED["llamagen-vq8"], ch=ch)
        state = VQGAN(config).state_dict()
        for key, value in state.items():
            if "norm" in key and value.ndim == 1:
                value.add_(0.05 * torch.randn(value.shape))
        folder.mkdir(parents=True, exist_ok=True)
        torch.save({"model": state}, folder / "vqgan.pt")
        write_text(folder / "vqgan.json", json.dumps(config_to_values(config)))
    return folder


def measure(folder: Path, tile: int) -> dict:
    torch.set_num_threads(1)
    codec = VQGANIFrameModel(None, folder, "cpu", tile=tile or None)
    x = torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    began = time.process_time()
    codes = codec.codes_of(x)
    encoded = time.process_time()
    codec.frames_of(codes, HEIGHT, WIDTH)
    decoded = time.process_time()
    # Not ru_maxrss: that of the process which began this one counts there as well.
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20
    return {"peak_gb": round(peak, 3), "encode_processor_s": round(encoded - began, 2),
            "decode_processor_s": round(decoded - encoded, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--row", nargs=2, type=int, help="for its own processes")
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(model_file(options.work, options.row[0]), options.row[1])))
        return
    record = json.loads(options.out.read_text()) if options.out.exists() else {"rows": []}
    for ch, tile in ROWS:
        if any((row["ch"], row["tile"]) == (ch, tile) for row in record["rows"]):
            continue
        model_file(options.work, ch)
        done = subprocess.run([sys.executable, __file__, str(options.work), "--out", "-", "--row", str(ch), str(tile)],
                              capture_output=True, text=True)
        row = {"ch": ch, "tile": tile, "frame": f"{WIDTH}x{HEIGHT}", "load_average": os.getloadavg()[0]}
        row |= json.loads(done.stdout) if done.returncode == 0 else {"ended_with": done.returncode}
        record["rows"].append(row)
        record |= {"command": "python benchmarks/vqgan_tiles.py WORK --out benchmarks/vqgan_tiles.json",
                   "asked": {"tiled_peak_gb": ASKED_GB}, "threads": 1, "torch": torch.__version__}
        write_text(options.out, json.dumps(record, indent=1) + "\n")
        print(row, flush=True)


if __name__ == "__main__":
    main()
