"""What `dcvc tune --minutes 10` saves where a camera stands still: trained on two thirds, judged on the last one.

    python benchmarks/tune_static.py ../shared/clips --out benchmarks/tune_static.json

A clip that is in the record with the same start is left out. Two of the five, cups and office, had no part in the
boxed model's training; the others had, so that there is less left for it to learn of them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from dcvc.bench.data import versions
from dcvc.files import write_text
from dcvc.models.catalog import find_model

CLIPS = ("val/sam2_02_cups.mp4", "val/chromeos_office.mkv", "train/vehicle_counting.mp4",
         "train/openmpf_antarctica.mp4", "train/intel_car_detection.mp4")
ASKED_SAVING, ASKED_CLIPS = 15, 3


def mean_curves(folder: Path) -> dict[str, list[list[float]]]:
    """[bpp, PSNR] at each setting, before and after tuning, and of the anchors."""
    found: dict[str, list[list[float]]] = {}
    for file in ("before", "after", "anchors"):
        for point in json.loads((folder / f"{file}.json").read_text())["points"]:
            name = point["codec"] if file == "anchors" else file
            found.setdefault(name, []).append([point["mean"]["bpp"], point["mean"]["psnr"]])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="light-m")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clips", nargs="+", default=CLIPS)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    start = json.loads(find_model(options.model).with_name("model.json").read_text())["weights"]
    record = json.loads(options.out.read_text()) if options.out.exists() else {"clips": {}}
    for clip in options.clips:
        if record["clips"].get(Path(clip).stem, {}).get("start") == start:
            continue
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "dcvc.cli", "tune", "--videos", str(options.folder / clip),
                 "--model", options.model, "--minutes", str(options.minutes), "-o", f"{folder}/tuned", "--json",
                 "--quiet"], check=True, capture_output=True, text=True)
            steps = json.loads(Path(folder, "tuned", "tune.json").read_text())["steps"]
            curves = mean_curves(Path(folder, "tuned"))
        record["clips"][Path(clip).stem] = {
            "start": start, "load_average": os.getloadavg()[0], "steps": steps, **json.loads(done.stdout),
            "curves": curves}
        savings = [row["saving"] for row in record["clips"].values()]
        record |= {"command": f"python benchmarks/tune_static.py CLIPS --model {options.model} --minutes "
                              f"{options.minutes:g} --out benchmarks/tune_static.json", "versions": versions(),
                   "asked": {"saving": ASKED_SAVING, "clips": ASKED_CLIPS},
                   "clips_that_save_so_much": sum((saving or 0) >= ASKED_SAVING for saving in savings)}
        write_text(options.out, json.dumps(record, indent=1) + "\n")
        print(clip, record["clips"][Path(clip).stem]["saving"], flush=True)


if __name__ == "__main__":
    main()
