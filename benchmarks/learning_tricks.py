"""What each trick of training buys at equal time: short trainings that differ in one thing, from the same samples.

    python benchmarks/learning_tricks.py runs/data/train360 runs/data/val288 --minutes 4 \\
        --out benchmarks/learning_tricks.json

Time is CPU time of the training process on one thread, so that other work on the machine changes little. Reading is
done beside it. At the end the averaged weights are judged on the first frames of each validation clip, one I-frame, at
four qualities: rates of rounded symbols (estimates), RGB PSNR, the mean curve. "bd_rate" is against the mean of "base"
and "base again": what is above zero needs more bits, and how far those two lie apart is chance. A variant that is in
the record is left out; name some to measure only those.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from dcvc.codec.video_codec import VideoCodec
from dcvc.data.config import DataConfig, SamplingOptions
from dcvc.data.eval_sequences import EvalSequence, open_sequences
from dcvc.data.factory import training_set
from dcvc.data.step_sampler import StepSampler, step_loader
from dcvc.evaluation.estimated import measure_estimate
from dcvc.evaluation.measured_codec import MeasuredCodec
from dcvc.files import write_text
from dcvc.inter.light.model import LightPFrameModel
from dcvc.inter.registry import codec_entry
from dcvc.interfaces import RateRange
from dcvc.intra.light.config import SIZES as INTRA_SIZES
from dcvc.intra.light.model import LightIFrameModel
from dcvc.report.bd import bd
from dcvc.schedule import Stage
from dcvc.training import step as training_step
from dcvc.training.config import TrainConfig
from dcvc.training.step import TrainingStep, prepare_step
from dcvc.training.variations import Variations, draw_variations

# One draw of samples is too little to compare with: two trainings of the same differ by 20 %.
BASES = ("base", "base again")
QUALITIES, FRAMES = (8.0, 24.0, 40.0, 56.0), 12


@dataclass(frozen=True)
class Variant:
    """What differs from the base: dimensions of the P-frame codec, the stage, the rest."""

    why: str
    size: str = "m"
    p_frame: dict[str, Any] = field(default_factory=dict)
    stage: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)
    random_start: bool = False
    precision: str = "no"
    detached: bool = False
    one_quality: bool = False
    seed: int = 0


VARIANTS = {
    "base": Variant("light-m as its recipe begins"),
    "base again": Variant("the same from other samples: how much short trainings differ by chance", seed=1),
    "no motion": Variant("what moves is found by convolutions alone", p_frame={"motion": "none"}),
    "random start": Variant("weights as torch draws them, no transform codec", random_start=True),
    "kernels 3": Variant("depthwise kernels that look for motion: 3 instead of 5",
                         p_frame={"adaptor_m_kernel": 3, "extractor_kernel": 3}),
    "kernels 7": Variant("the same, 7", p_frame={"adaptor_m_kernel": 7, "extractor_kernel": 7}),
    "equal frames": Variant("the I-frame's distortion counts once, not twice", stage={"frame_weights": (1.0,)}),
    "crop 96": Variant("16 small crops instead of 6", stage={"crop_size": 96, "batch_size": 16}),
    "crop 176": Variant("5 crops as large as the smallest videos allow",
                        stage={"crop_size": 176, "batch_size": 5}),
    "GOP 2": Variant("one P-frame a clip", stage={"gop_size": 2, "batch_size": 9}),
    "GOP 6": Variant("five P-frames a clip", stage={"gop_size": 6, "batch_size": 3}),
    "detached": Variant("no gradient from a frame to the one before it", detached=True),
    "one quality": Variant("all samples of a step have one quality, another one in each step", one_quality=True),
    "YCbCr loss": Variant("6:1:1 instead of RGB; judged by RGB all the same", stage={"metric": "ycbcr"}),
    "flips": Variant("half of the clips mirrored, half backwards", sampling={"flip": True, "reverse": True}),
    "bf16": Variant("networks in 16 bits", precision="bf16"),
    "slow rate": Variant("a fifth of the learning rate", stage={"learning_rate": 1e-4}),
    "size s": Variant("the small size", size="s"),
    "size l": Variant("the large size", size="l"),
}


def make_step(variant: Variant, ema_decay: float = 0.99) -> TrainingStep:
    torch.manual_seed(variant.seed)
    entry = codec_entry("light")
    p_frame = LightPFrameModel(replace(entry.size(variant.size), **variant.p_frame))
    intra = LightIFrameModel(INTRA_SIZES[variant.size], trainable=True)
    for module in (*p_frame.modules(), *intra.modules()) if variant.random_start else ():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    stage = entry.recipes[f"light-{variant.size}"].stages[0]
    stage = replace(stage, **{"final_rate": 0.1, "rate_terms": p_frame.terms, **variant.stage})
    if variant.detached:
        detach(p_frame)
    # Accelerate keeps the precision of a process's first accelerator for all later ones.
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=True, mixed_precision=variant.precision)
    config = TrainConfig(use_ema=True, ema_decay=ema_decay, mixed_precision=variant.precision)
    return prepare_step(accelerator, intra, p_frame, stage, config)


def detach(p_frame: LightPFrameModel) -> None:
    """What a frame refers to is a number like any other from now on, and learns nothing from it."""
    start, forward = p_frame.start, p_frame.forward
    p_frame.start = lambda x_hat: start(x_hat.detach())
    p_frame.forward = lambda state, *rest, **options: forward(state.detach(), *rest, **options)


def one_quality(stage: Stage, rates: RateRange, clip: Tensor) -> tuple[Tensor, Variations]:
    """As the trainer draws it, but the first sample's for all."""
    clip, drawn = draw_variations(stage, rates, clip)
    return clip, drawn._replace(quality=drawn.quality[:, :1].expand_as(drawn.quality))


def clips(variant: Variant, folder: str, step: TrainingStep, first: int = 0) -> Iterator[Tensor]:
    data = DataConfig(use_video_dataset=True, train_video_dir=(folder,), crop_size=step.stage.crop_size,
                      sampling=SamplingOptions(on_bad_video="skip", **variant.sampling))
    dataset = training_set(data, step.stage.gop_size, seed=variant.seed)
    sampler = StepSampler(len(dataset), step.stage.batch_size, variant.seed, first_step=first, last_step=100_000)
    return iter(step_loader(dataset, sampler, num_workers=1, pin_memory=False))


def judge(step: TrainingStep, sequences: list[EvalSequence], qualities: tuple[float, ...] = QUALITIES,
          frames: int = FRAMES) -> list[list[float]]:
    """[bpp, PSNR] of the mean curve, by the averaged weights."""
    curve = []
    with step.ema.swapped_into(step.model):
        codec = VideoCodec(step.p_frame.eval(), step.intra.eval())
        for quality in qualities:
            measured = MeasuredCodec(label="", setting="", model=None, intra_period=frames, estimate=True,
                                     decode=False, quality=quality)
            rows = [next(iter(measure_estimate(codec, sequence, measured, lambda: None).values()))
                    for sequence in sequences]
            curve.append([sum(row[name] for row in rows) / len(rows) for name in ("bpp", "psnr")])
    step.p_frame.train()
    step.intra.train()
    return curve


def train(variant: Variant, folder: str, sequences: list[EvalSequence], minutes: float) -> dict[str, Any]:
    training_step.draw_variations = one_quality if variant.one_quality else draw_variations
    step, spent, steps, total = make_step(variant), 0.0, 0, 60 * minutes
    batches = clips(variant, folder, step)
    while spent < total:
        batch = next(batches)
        begin = time.process_time()
        for group in step.optimizer.param_groups:
            group["lr"] = step.stage.rate_at(int(1000 * min(spent / total, 1)), 1001)
        step.run([batch.float() / 255 if batch.dtype == torch.uint8 else batch])
        spent += time.process_time() - begin
        steps += 1
    pixels = steps * step.stage.batch_size * step.stage.gop_size * step.stage.crop_size**2
    return {"cpu_minutes": round(spent / 60, 2), "steps": steps, "gigapixels": round(pixels / 1e9, 3),
            "curve": judge(step, sequences)}


def compare(rows: dict[str, dict[str, Any]]) -> None:
    """Every curve with the mean of those of the bases that are there."""
    curves = [rows[name]["curve"] for name in BASES if name in rows]
    mean = [[sum(values) / len(values) for values in zip(*points, strict=True)]
            for points in zip(*curves, strict=True)]
    for row in rows.values():
        found = bd(mean, row["curve"])
        row |= {"bd_rate": found.bd_rate, "bd_psnr": found.bd_quality}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("val")
    parser.add_argument("variants", nargs="*", default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sequences = [sequence for file in sorted(Path(options.val).iterdir())
                 for sequence in open_sequences(file, max_frames=FRAMES)]
    record = {"command": f"python benchmarks/learning_tricks.py DATA VAL --minutes {options.minutes:g} --out "
                         "benchmarks/learning_tricks.json", "variants": {}}
    if options.out.exists():
        record = json.loads(options.out.read_text())
    for name in options.variants:
        if name not in record["variants"]:
            row = train(VARIANTS[name], options.folder, sequences, options.minutes)
            record["variants"][name] = {"why": VARIANTS[name].why, **row}
            compare(record["variants"])
            write_text(options.out, json.dumps(record, indent=1) + "\n")
            print(name, row["steps"], record["variants"][name]["bd_rate"], flush=True)


if __name__ == "__main__":
    main()
