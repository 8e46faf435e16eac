"""What it buys to code I-frames and some P-frames better than the rest: BD-rate against one quality for all frames.

    python benchmarks/quality_steps.py runs/data/val288 --out benchmarks/quality_steps.json

Written streams of the first frames of each clip, one I-frame, at four qualities; RGB PSNR, the mean over frames. The
same at other steps: --steps 12,-4,0,-4,4 16,-5,0,-5,5. What the record has already is left out.
"""

import argparse
import json
from pathlib import Path

import torch

from dcvc.bench.data import versions
from dcvc.checkpoint import load_codec
from dcvc.codec.quality_steps import parse_steps
from dcvc.data.eval_sequences import EvalSequence, open_sequences
from dcvc.evaluation.measured_codec import MeasuredCodec
from dcvc.evaluation.written import measure_stream
from dcvc.files import write_text
from dcvc.report.bd import bd

QUALITIES, FLAT = (10.0, 24.0, 38.0, 52.0), "flat"
STEPS = ("6,0", "12,0", "6,-3,0,-3,3", "12,-4,0,-4,4", "12,-4,0,-4,2,-4,0,-4,6", "16,-5,0,-5,5")


def curve(codec, sequence: EvalSequence, steps: str, frames: int) -> list[list[float]]:
    """[bpp, PSNR] at each quality."""
    points = []
    for quality in QUALITIES:
        measured = MeasuredCodec(label="", setting="", model=None, intra_period=frames, quality=quality,
                                 steps=parse_steps(steps), decode=False, metrics=("psnr", "psnr_yuv"))
        row = measure_stream(codec, sequence, measured, lambda: None)[""]
        points.append([row["bpp"], row["psnr"]])
    return points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--model", default="light-m")
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--steps", nargs="+", default=STEPS)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    codec = load_codec(options.model)
    start = {"model": options.model, "weights": codec.inter_hash.hex(), "frames": options.frames}
    record = json.loads(options.out.read_text()) if options.out.exists() else {}
    if record.get("start") != start:
        record = {"start": start, "curves": {}}
    for steps in (FLAT, *options.steps):
        curves = record["curves"].setdefault(steps, {})
        for sequence in open_sequences(options.clips, max_frames=options.frames):
            if sequence.name not in curves:
                curves[sequence.name] = curve(codec, sequence, steps, options.frames)
        flat = record["curves"][FLAT]
        rates = {name: bd(flat[name], curves[name]).bd_rate for name in curves}
        record.setdefault("bd_rate", {})[steps] = {**rates, "mean": sum(rates.values()) / len(rates)}
        record |= {"command": "python benchmarks/quality_steps.py runs/data/val288 --out benchmarks/quality_steps.json",
                   "versions": versions()}
        write_text(options.out, json.dumps(record, indent=1) + "\n")
        print(steps, round(record["bd_rate"][steps]["mean"], 2), flush=True)


if __name__ == "__main__":
    main()
