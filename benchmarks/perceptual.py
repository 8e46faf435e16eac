"""What the recipe `perceptual-s` gives against the model it starts from, at equal rate.

    python benchmarks/perceptual.py ../shared/clips WORK --out benchmarks/perceptual.json

Clips are made small first (288 rows, no further loss): the first frames of those in train/ to learn
from, of those in val/ to judge by. Then `dcvc train --recipe perceptual-s`, then both models code the
clips of val/ (one I-frame, then P-frames; rates are the entropy models' estimates, which streams keep
to within a percent). The trained model gets the quality, a fraction, at which it has the rate of its
start. As a control the same training without the added terms, at the lambdas of the start: what that gains
is owed to more training.
What WORK already holds is not made again.

The perceptual metric is 1 - STSIM (dcvc/evaluation/stsim.py), which the recipe also trains on. LPIPS and
DISTS are not in the record: their networks' weights are nowhere to be had here. PSNR and MS-SSIM, which
are no perceptual metrics in this sense, stand beside it.
"""

import argparse
import json
import math
import os
import resource
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from val_clips import cut

from dcvc.bench.data import versions
from dcvc.checkpoint import load_codec
from dcvc.codec.frame_plan import stepped_quality
from dcvc.codec.video_codec import VideoCodec
from dcvc.evaluation.estimated import code_sequence
from dcvc.evaluation.flicker import Flicker
from dcvc.evaluation.metrics import ms_ssim, psnr
from dcvc.evaluation.stsim import stsim
from dcvc.files import write_text
from dcvc.inter.light.recipes import LAMBDAS
from dcvc.interfaces import from_levels, to_levels
from dcvc.video.reader import VideoReader

ROWS, TRAINED_FRAMES, JUDGED_FRAMES = 288, 30, 25
QUALITIES = (16.0, 32.0, 48.0)
ASKED = {"distance_percent": -10.0, "rate_percent": 3.0, "flicker_percent": 0.0}
TOLERANCE = 0.01


def make_clips(clips: Path, work: Path) -> None:
    for part, frames in (("train", TRAINED_FRAMES), ("val", JUDGED_FRAMES)):
        (work / part).mkdir(parents=True, exist_ok=True)
        for source in sorted((clips / part).iterdir()):
            target = work / part / f"{source.stem}.mp4"
            if source.suffix != ".tsv" and not target.exists():
                cut(source, target, ROWS, frames)


def train(work: Path, name: str, settings: list[str]) -> dict:
    """Goes on where it was. Returns the command and the minutes it took here, of the processor too."""
    command = ["train", "--recipe", "perceptual-s", "--train_video_dir", str(work / "train"),
               "--val_video_dir", str(work / "val"), "--checkpoint_dir", str(work / name), "--device", "cpu",
               "--num_workers", "0", "--quiet", "--set", *settings]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([sys.executable, "-W", "ignore", "-m", "dcvc.cli", *command], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"command": shlex.join(["dcvc", *command]).replace(str(work), "WORK"),
            "minutes": round((time.monotonic() - began) / 60, 1), "processor_minutes": round(processor / 60, 1)}


@torch.no_grad()
def judged(codec: VideoCodec, clips: list[Path], quality: float, rate_alone: bool = False) -> dict[str, float]:
    """Means over the frames of each clip, then over the clips, each counting the same."""
    rows = []
    for clip in clips:
        with VideoReader(clip) as reader:
            frames = reader.read(0, len(reader))
        height, width = frames.shape[-2:]
        bits, found, flicker = 0.0, [], Flicker()
        steps = stepped_quality(codec.p_frame, quality, None)
        coded = code_sequence(codec.intra, codec.p_frame, (from_levels(frame) for frame in frames),
                              intra_period=len(frames), quality=steps)
        for _, x, _, output in coded:
            bits += sum(float(value) for value in output.bits.values())
            if not rate_alone:
                shown = to_levels(output.x_hat[0])
                x_hat = from_levels(shown)[None]
                found.append({"distance": 1 - float(stsim(x, x_hat)), "psnr": psnr(x_hat, x),
                              "ms_ssim": ms_ssim(x_hat, x), "flicker": flicker(shown, to_levels(x[0]))})
        row = {"bpp": bits / (len(frames) * height * width)}
        for name in found[0] if found else ():
            row[name] = statistics.fmean(one[name] for one in found if one[name] is not None)
        rows.append(row)
    return {name: statistics.fmean(row[name] for row in rows) for name in rows[0]}


def quality_of_rate(codec: VideoCodec, clips: list[Path], wanted: float, start: float) -> float:
    """The quality at which the clips have this rate, to within TOLERANCE: the logarithm of the rate is
    nearly a line in it."""
    points = [(start, math.log(judged(codec, clips, start, True)["bpp"] / wanted))]
    quality = start - points[0][1] / 0.07
    while abs(points[-1][1]) > math.log1p(TOLERANCE) and len(points) < 6:
        quality = min(max(quality, 0.0), 63.0)
        points.append((quality, math.log(judged(codec, clips, quality, True)["bpp"] / wanted)))
        (q, error), (q_before, error_before) = points[-1], points[-2]
        quality = q - error * (q - q_before) / (error - error_before)
    return points[-1][0]


def compared(work: Path, run: str, start: dict[str, dict]) -> list[dict]:
    codec = load_codec(work / run)
    clips, rows = sorted((work / "val").glob("*.mp4")), []
    for quality in QUALITIES:
        before = start[f"{quality:g}"]
        own = quality_of_rate(codec, clips, before["bpp"], quality)
        after = judged(codec, clips, own)
        change = {name: round(100 * (after[name] / before[name] - 1), 2) for name in ("bpp", "distance", "flicker")}
        rows.append({"quality_of_start": quality, "quality": round(own, 3), "start": before, "trained": after,
                     "change_percent": change})
        print(run, quality, json.dumps(change), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--set", nargs="*", default=[], help="changes to the recipe, as dcvc train takes them")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    make_clips(options.clips, options.work)
    steps = f"max_steps={options.steps}"
    record = json.loads(options.out.read_text()) if options.out.exists() else {
        "command": f"python benchmarks/perceptual.py ../shared/clips WORK --steps {options.steps} --out "
                   "benchmarks/perceptual.json",
        "asked": ASKED, "rows": ROWS, "judged_frames": JUDGED_FRAMES, "threads": 1, "versions": versions()}
    if "start" not in record:
        codec, clips = load_codec("light-s"), sorted((options.work / "val").glob("*.mp4"))
        record["start"] = {f"{quality:g}": judged(codec, clips, quality) for quality in QUALITIES}
        write_text(options.out, json.dumps(record, indent=1) + "\n")
    plain = ["added={}", f"lambdas={json.dumps(LAMBDAS)}"]
    for run, settings in (("perceptual", [steps, *options.set]), ("control", [steps, *options.set, *plain])):
        if run not in record:
            took = train(options.work, run, settings)
            record[run] = {**took, "load_average": os.getloadavg()[0],
                           "points": compared(options.work, run, record["start"])}
            write_text(options.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
