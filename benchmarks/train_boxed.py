"""From the clips to a training that becomes a model of the package, by documented commands; goes on where it was.

    python benchmarks/train_boxed.py light-m            # run it with nice -n 19; it may be killed at any time
    python benchmarks/box_model.py light-m

What it does, each step only where its result is missing:

    1  the list of clips whose manifest states a source -> runs/data/shippable.txt
    2  dcvc prepare: short segments of 360 rows         -> runs/data/train360
    3  the validation clips at 288 rows, without loss   -> runs/data/val288
    4  x264 and x265 on them, by two structures         -> runs/data/anchors
    5  dcvc train --recipe NAME                         -> runs/NAME

The validation clips take no part in training. `runs` lies in the current folder and is not committed.
"""

import argparse
import csv
import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path("runs")
SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "clips"
MANIFEST, VAL = SHARED / "train" / "MANIFEST.tsv", SHARED / "val"
DATA = ROOT / "data"
SOURCES, PREPARED, CLIPS, ANCHORS = DATA / "shippable.txt", DATA / "train360", DATA / "val288", DATA / "anchors"
FRAMES, PERIODS = 96, ("32", "-1")


def dcvc(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", "dcvc.cli", *arguments]


def training(name: str) -> list[str]:
    """The arguments of the training itself."""
    return ["train", "--recipe", name, "--train_video_dir", str(PREPARED), "--val_video_dir", os.path.relpath(VAL),
            "--checkpoint_dir", str(ROOT / name), "--sampling", "on_bad_video=skip", "--set", "log_every=50"]


def command_of(name: str) -> str:
    return shlex.join(["dcvc", *training(name)])


def shippable() -> list[str]:
    """Clips whose manifest says where they come from. Raises FileNotFoundError without the manifest."""
    with open(MANIFEST, encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if "not stated" not in row["file_licence_note"]]
    return [str(MANIFEST.parent / row["file"]) for row in rows]


def run(arguments: list[str]) -> None:
    print(shlex.join(arguments[3:]), flush=True)
    subprocess.run(arguments, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("light-s", "light-m", "light-l"))
    parser.add_argument("--data_only", action="store_true", help="steps 1 to 4 alone")
    options = parser.parse_args()
    DATA.mkdir(parents=True, exist_ok=True)
    if not SOURCES.exists():
        SOURCES.write_text("\n".join(shippable()) + "\n")
    if not (PREPARED / "manifest.json").exists():
        run(dcvc("prepare", str(SOURCES), str(PREPARED), "--short_side", "360", "--skip_bad", "--quiet"))
    if not CLIPS.exists():
        run([sys.executable, str(Path(__file__).with_name("val_clips.py")), str(VAL), str(CLIPS)])
    for period in PERIODS:
        out = ANCHORS / f"{period}.json"
        if not out.exists():
            ANCHORS.mkdir(parents=True, exist_ok=True)
            run(dcvc("compare", str(CLIPS), "--max_frames", str(FRAMES), "--intra_period", period, "--anchors",
                     "x264:20,25,30,35,40", "x265:20,25,30,35,40", "-o", str(out), "--quiet"))
    if not options.data_only:
        # One thread: on a machine with other work, two wait for each other most of the time.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        run(dcvc(*training(options.name)))


if __name__ == "__main__":
    main()
