"""One more point of a training's learning curve: the averaged weights as they are now, against an anchor.

    dcvc prepare runs/data/shippable.txt runs/data/train360 --short_side 360 --skip_bad
    python benchmarks/val_clips.py ../shared/clips/val runs/data/val288
    dcvc compare runs/data/val288 --max_frames 32 --intra_period 32 --anchors x264:20,25,30,35,40 -o runs/x264.json
    dcvc train --recipe light-m --train_video_dir runs/data/train360 --val_video_dir ../shared/clips/val \\
        --checkpoint_dir runs/light-m
    python benchmarks/learning_curve.py runs/light-m --clips runs/data/val288 --anchor runs/x264.json \\
        --out benchmarks/light_learning.json

Rates are estimates of rounded symbols, within 0.1 % of written bytes (tests/codec/test_quality_streams.py). PSNR is
that of RGB; BD numbers are those of `dcvc report` for each clip over its whole curve. Run it beside a training, as
often as you like: each call adds a point, with the steps done and the pixels seen until then.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from dcvc.files import write_text
from dcvc.models.run_folder import stage_folders
from dcvc.weights import read_checkpoint


def dcvc(*arguments: object) -> str:
    command = [sys.executable, "-m", "dcvc.cli", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def seen(run: Path) -> tuple[int, float]:
    """Steps done and billions of pixels seen by all stages so far, as their checkpoints say."""
    steps, pixels = 0, 0.0
    for _, folder in stage_folders(run):
        # ema.pt is what is judged, and it is written with every checkpoint.
        content = read_checkpoint(folder / "ema.pt")
        done, stage = content["progress"]["step"], content["settings"]["stage"]
        steps += done
        pixels += done * stage["batch_size"] * stage["gop_size"] * stage["crop_size"] ** 2 / 1e9
    return steps, round(pixels, 3)


def judge(weights: Path, options: argparse.Namespace, scratch: Path) -> dict:
    """The curve over the clips, and BD numbers for each clip and the mean curve."""
    results = scratch / "results.json"
    dcvc("eval", options.clips, "--model", weights, "--qualities", *options.qualities, "--max_frames", options.frames,
         "--intra_period", options.frames, "--estimate", "--no-copy", "--quiet", "-o", results)
    found = json.loads(dcvc("report", results, options.anchor, "-o", scratch / "page.html", "--json"))
    bd = {row["sequence"]: {"bd_rate": row["bd_rate"], "bd_psnr": row["bd_quality"]}
          for row in found["bd"] if row["metric"] == "psnr"}
    points = json.loads(results.read_text())["points"]
    return {"curve": [{"quality": point["setting"], "bpp": point["mean"]["bpp"], "psnr": point["mean"]["psnr"]}
                      for point in points], "bd": bd}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--anchor", type=Path, required=True)
    parser.add_argument("--qualities", nargs="+", default=["4", "16", "28", "40", "52"])
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--note", default="", help="what a reader should know of this point")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    record = json.loads(options.out.read_text()) if options.out.exists() else {"command": __doc__, "points": []}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "ema.pt"
        shutil.copy(stage_folders(options.run)[-1][1] / "ema.pt", weights)
        steps, pixels = seen(options.run)
        point = {"run": options.run.name, "steps": steps, "gigapixels": pixels, "note": options.note}
        record["points"].append(point | judge(weights, options, Path(folder)))
    write_text(options.out, json.dumps(record, indent=1) + "\n")
    print(json.dumps(record["points"][-1]["bd"], indent=1))


if __name__ == "__main__":
    main()
