"""Rate and PSNR of a model rise with the quality, on every clip: 16 qualities, bytes of written streams.

`python benchmarks/light_monotone.py runs/data/val288 --model light-m --out benchmarks/light_monotone.json`
"""

import argparse
import json
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from dcvc.files import write_text
from dcvc.report.results import read_results

QUALITIES = [str(4 * step + min(step, 3)) for step in range(16)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips")
    parser.add_argument("--model", required=True)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "results.json"
        subprocess.run([sys.executable, "-W", "ignore", "-m", "dcvc.cli", "eval", options.clips, "--model",
                        options.model, "--qualities", *QUALITIES, "--max_frames", str(options.frames),
                        "--intra_period", "-1", "--no-exact", "--no-decode", "--quiet", "-o", str(out)], check=True,
                       stdout=subprocess.DEVNULL)
        points = read_results(out)["points"]
    clips = {}
    for number, row in enumerate(points[0]["sequences"]):
        curve = [(point["sequences"][number]["bpp"], point["sequences"][number]["psnr"]) for point in points]
        clips[row["name"]] = {
            "bpp": [round(bpp, 5) for bpp, _ in curve], "psnr": [round(psnr, 3) for _, psnr in curve],
            "rate_rises": all(low[0] < high[0] for low, high in pairwise(curve)),
            "psnr_rises": all(low[1] < high[1] for low, high in pairwise(curve))}
    record = {"command": f"python benchmarks/light_monotone.py CLIPS --model {options.model} --frames {options.frames} "
                         "--out benchmarks/light_monotone.json",
              "weights": points[0]["settings"]["weights"], "qualities": [float(quality) for quality in QUALITIES],
              "monotone": all(clip["rate_rises"] and clip["psnr_rises"] for clip in clips.values()), "clips": clips}
    write_text(options.out, json.dumps(record, indent=1) + "\n")
    print({name: (clip["rate_rises"], clip["psnr_rises"]) for name, clip in clips.items()})


if __name__ == "__main__":
    main()
