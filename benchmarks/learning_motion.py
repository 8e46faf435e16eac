"""What `motion: block` is worth against `none`, and how sizes s, m and l learn: their curves over training time.

    python benchmarks/train_boxed.py light-m --data_only
    dcvc compare runs/data/val288 --max_frames 32 --intra_period 32 --anchors x264:20,25,30,35,40 -o runs/x264.json
    python benchmarks/learning_motion.py runs/data/train360 runs/data/val288 runs/x264.json \\
        --work runs/learning_motion --out benchmarks/learning_motion.json

Each training begins from nothing, as its recipe's first stage does: same samples, same schedule. Time is CPU time of
the training process on one thread, so that other work on the machine changes little. At each of the minutes the
averaged weights are judged on 32 frames of each validation clip, one I-frame, at five qualities: rates of rounded
symbols (estimates), RGB PSNR, and BD numbers of the mean curve against x264 medium zerolatency. Decoders of the two
forms cost the same: motion that is searched has no network but its vectors' few parameters.

What it ends with is a model in WORK: light-s, light-m, light-l, with motion.

It may be killed at any time: a training goes on from its last point, and points in the record are not made again.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from learning_tricks import Variant, clips, judge, make_step

from dcvc.checkpoint import save_pretrained
from dcvc.codec.video_codec import VideoCodec
from dcvc.data.eval_sequences import EvalSequence, open_sequences
from dcvc.files import write_text
from dcvc.report.bd import bd
from dcvc.training.step import TrainingStep

RUNS = [(size, motion) for size in "msl" for motion in ("none", "block")]
FRAMES, QUALITIES = 32, (4.0, 16.0, 28.0, 40.0, 52.0)


def state_of(step: TrainingStep) -> dict[str, Any]:
    return {"model": step.model.state_dict(), "average": step.ema.state_dict(),
            "optimizer": step.optimizer.state_dict(), "random": torch.get_rng_state()}


def load_state(step: TrainingStep, state: dict[str, Any]) -> None:
    step.model.load_state_dict(state["model"])
    step.ema.load_state_dict(state["average"])
    step.optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])


def point(step: TrainingStep, spent: float, steps: int, sequences: list[EvalSequence],
          anchor: list[list[float]]) -> dict[str, Any]:
    curve = judge(step, sequences, QUALITIES, FRAMES)
    found = bd(anchor, curve)
    pixels = steps * step.stage.batch_size * step.stage.gop_size * step.stage.crop_size**2
    return {"cpu_minutes": round(spent / 60, 2), "steps": steps, "gigapixels": round(pixels / 1e9, 3),
            "curve": curve, "bd_rate": found.bd_rate, "bd_psnr": found.bd_quality}


def train(size: str, motion: str, record: dict[str, Any], options: argparse.Namespace,
          sequences: list[EvalSequence], anchor: list[list[float]]) -> None:
    name = f"{size} {motion}"
    points = record["runs"].setdefault(name, [])
    kept = options.work / f"{size}-{motion}.pt"
    variant = Variant(name, size=size, p_frame={"motion": motion}, stage={"final_rate": 0.6})
    step, spent, steps = make_step(variant, ema_decay=0.999), 0.0, 0
    if points:
        load_state(step, torch.load(kept, weights_only=True))
        spent, steps = 60 * points[-1]["cpu_minutes"], points[-1]["steps"]
    batches = clips(variant, options.folder, step, first=steps)
    for minutes in options.minutes[len(points):]:
        while spent < 60 * minutes:
            batch = next(batches)
            begin = time.process_time()
            for group in step.optimizer.param_groups:
                group["lr"] = step.stage.rate_at(steps, step.stage.max_steps)
            step.run([batch.float() / 255 if batch.dtype == torch.uint8 else batch])
            spent += time.process_time() - begin
            steps += 1
        torch.save(state_of(step), kept.with_suffix(".new"))
        kept.with_suffix(".new").rename(kept)
        points.append(point(step, spent, steps, sequences, anchor))
        write_text(options.out, json.dumps(record, indent=1) + "\n")
        print(name, {key: points[-1][key] for key in ("cpu_minutes", "steps", "bd_rate", "bd_psnr")}, flush=True)
    # For other records that need weights which have learned something, exact_decoding.py's among them.
    folder = options.work / f"light-{size}"
    if motion == "block" and not folder.exists():
        with step.ema.swapped_into(step.model):
            save_pretrained(VideoCodec(step.p_frame.eval(), step.intra.eval()), folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("val")
    parser.add_argument("anchor", type=Path)
    parser.add_argument("--minutes", type=float, nargs="+", default=[2.5, 5.0, 10.0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    sequences = [sequence for file in sorted(Path(options.val).iterdir())
                 for sequence in open_sequences(file, max_frames=FRAMES)]
    anchor = [[point["mean"]["bpp"], point["mean"]["psnr"]]
              for point in json.loads(options.anchor.read_text())["points"]]
    record = {"command": "python benchmarks/learning_motion.py DATA VAL X264 --work WORK --out "
                         "benchmarks/learning_motion.json", "minutes": options.minutes, "runs": {}}
    if options.out.exists():
        record = json.loads(options.out.read_text())
    for size, motion in RUNS:
        train(size, motion, record, options, sequences, anchor)


if __name__ == "__main__":
    main()
