"""How long the first `dcvc encode` takes on a fresh machine: start-up, compiling of loops and 300 frames of 640x360.

`python benchmarks/first_encode.py ../shared/clips/val/flutter_bee.mp4 --out benchmarks/first_encode.json`

The package is built as a wheel and unpacked into an empty folder, with an empty cache of compiled loops; no --model is
given. Then the same once more, with everything compiled. --no-exact: by floats, as the record has it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from zipfile import ZipFile

import torch
import torch.nn.functional as F

from dcvc.bench.data import versions
from dcvc.files import write_text
from dcvc.interfaces import from_levels, to_levels
from dcvc.video.reader import VideoReader
from dcvc.video.writer import VideoWriter

FRAMES, SIZE, ASKED_SECONDS = 300, (640, 360), 60


def write_clip(source: str, target: Path) -> None:
    """The source's frames in that size; from its beginning again where it is shorter."""
    with VideoReader(source) as reader, VideoWriter(target, SIZE, Fraction(25)) as writer:
        for frame in islice(cycle(reader), FRAMES):
            small = F.interpolate(from_levels(frame)[None], size=SIZE[::-1], mode="area")
            writer.write(to_levels(small)[0].permute(1, 2, 0).numpy())


def seconds(site: Path, clip: Path, threads: int, exact: bool) -> float:
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": str(threads),
                   "NUMBA_CACHE_DIR": str(site / "cache")}
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "dcvc.cli", "encode", str(clip), str(clip.with_suffix(".dcvc")), "--quiet",
                    *([] if exact else ["--no-exact"])],
                   check=True, env=environment, cwd=site, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--exact", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    root = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        subprocess.run([sys.executable, "-m", "pip", "wheel", str(root), "--no-deps", "--no-build-isolation", "-q",
                        "-w", str(place)], check=True, capture_output=True)
        (wheel,) = place.glob("*.whl")
        ZipFile(wheel).extractall(place / "site")
        write_clip(options.clip, place / "clip.mp4")
        first, again = (seconds(place / "site", place / "clip.mp4", options.threads, options.exact)
                        for _ in range(2))
        size = (place / "clip.dcvc").stat().st_size
        floats = "" if options.exact else "--no-exact "
        record = {"command": f"python benchmarks/first_encode.py CLIP --threads {options.threads} {floats}--out "
                             "benchmarks/first_encode.json",
                  "exact": options.exact, "frames": FRAMES, "size": SIZE, "threads": options.threads,
                  "load_average": os.getloadavg()[0],
                  "first_seconds": first, "again_seconds": again, "asked_seconds": ASKED_SECONDS,
                  "wheel_bytes": wheel.stat().st_size, "stream_bytes": size, "versions": versions()}
    write_text(options.out, json.dumps(record, indent=1) + "\n")
    print({key: record[key] for key in ("first_seconds", "again_seconds", "wheel_bytes")})


if __name__ == "__main__":
    main()
