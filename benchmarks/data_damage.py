"""Five hundred randomly damaged copies of H.264, HEVC, VP9 and AV1 files: every frame of each read by itself and judged
by a sequential decode of the same damaged file (tests/helpers/damaged_videos.py says what is counted).

`python benchmarks/data_damage.py --copies 500 --out benchmarks/data_damage.json`
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av

TESTS = Path(__file__).resolve().parent.parent / "tests" / "helpers"
FILES = ("h264_open.mp4", "hevc_open.mp4", "vp9.webm", "av1.mp4")


def sample_videos():
    spec = importlib.util.spec_from_file_location("sample_videos", TESTS / "sample_videos.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--copies", type=int, default=500)
    parser.add_argument("--chunk", type=int, default=50, help="copies per process: a crash ends one process")
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    result, began = {}, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        videos = sample_videos().make_all(Path(folder))
        for name in FILES:
            total: dict[str, int] = {"crashed": 0, "hung": 0}
            for first in range(0, options.copies, options.chunk):
                last = min(first + options.chunk, options.copies)
                command = [sys.executable, str(TESTS / "damaged_videos.py"), str(videos[name][0]), "flip", str(first),
                           str(last), folder]
                try:
                    done = subprocess.run(command, capture_output=True, text=True, timeout=10 * (last - first))
                except subprocess.TimeoutExpired:
                    total["hung"] += 1
                    continue
                if done.returncode:
                    total["crashed"] += 1
                    print(f"{name} {first}-{last}: exit {done.returncode} {done.stderr[-300:]}", file=sys.stderr)
                    continue
                counts = json.loads(done.stdout)
                print(f"{name} {last}/{options.copies} {time.monotonic() - began:.0f} s {counts}", file=sys.stderr)
                counts.pop("worst")
                total = {key: total.get(key, 0) + counts.get(key, 0) for key in {**total, **counts}}
            result[name] = total
    record = {"command": f"python benchmarks/data_damage.py --copies {options.copies} --out {options.out}",
              "what": "frames, except copies, unopened (files refused whole), slow (files over 10 s), crashed and hung "
                      "(processes); good, refused, wrong, ... as in tests/helpers/damaged_videos.py",
              "av": av.__version__, "result": result}
    Path(options.out).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
