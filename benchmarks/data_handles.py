"""Memory and file handles over many opens and reads in one process.

`python benchmarks/data_handles.py --opens 20000 --out benchmarks/data_handles.json`
"""

import argparse
import importlib.util
import json
import tempfile
from pathlib import Path

import av
import psutil

from dcvc.data import VideoReader

KINDS = ("h264_closed.mp4", "hevc_open.mp4", "vp9.webm", "av1.mp4", "h264_open.ts", "mpeg4_b.avi")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--opens", type=int, default=20_000)
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    tests = Path(__file__).resolve().parent.parent / "tests" / "helpers" / "sample_videos.py"
    spec = importlib.util.spec_from_file_location("sample_videos", tests)
    samples = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(samples)
    process = psutil.Process()
    memory, handles, threads = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        videos = samples.make_all(Path(folder))
        paths = [videos[kind][0] for kind in KINDS]
        for k in range(options.opens):
            if k % 1000 == 0:
                memory.append(round(process.memory_info().rss / 2**20, 2))
                handles.append(process.num_fds())
                threads.append(process.num_threads())
            with VideoReader(paths[k % len(paths)]) as reader:
                reader.read(k * 7 % 40, 2, crop=(0, 0, 32, 32))
    memory.append(round(process.memory_info().rss / 2**20, 2))
    warm = memory[1:]
    record = {
        "command": f"python benchmarks/data_handles.py --opens {options.opens} --out {options.out}",
        "files": KINDS, "opens_and_reads": options.opens, "rss_mib_every_1000": memory, "handles_every_1000": handles,
        "threads_every_1000": threads,
        "mib_per_1000_after_the_first_1000": round((warm[-1] - warm[0]) / max(1, len(warm) - 1), 3),
        "av": av.__version__,
    }
    Path(options.out).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
