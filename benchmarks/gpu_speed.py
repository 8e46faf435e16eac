"""Training steps on a GPU: pixels a second of light-m and DCVC-2021, by precision and batch.

    python benchmarks/gpu_speed.py --seconds 3 --out benchmarks/gpu_speed.json

light-m trains as the second stage of its recipe does, GOPs of five 160x160 frames, I- and P-frames together, so all
pixels count; DCVC-2021 as its last stage does, and its I-frames cost nothing here, so P-frames count. Steps follow each
other as in a training, and nothing waits for the GPU but what the step itself waits for; reading is not part of it.
"""

import argparse
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from dcvc.bench.data import versions
from dcvc.bench.moving_pictures import moving_pictures
from dcvc.files import write_text
from dcvc.inter.registry import build_p_frame, codec_entry
from dcvc.intra.light.config import SIZES as INTRA_SIZES
from dcvc.intra.light.model import LightIFrameModel
from dcvc.training.config import TrainConfig
from dcvc.training.dry_run import UncodedFrames
from dcvc.training.step import TrainingStep, prepare_step

GOP, CROP, WARM_UP = 5, 160, 3
TRIED = [*(("light-m", "bf16", batch) for batch in (8, 32, 96)), ("light-m", "no", 32), ("dcvc2021", "bf16", 8)]


def training(name: str, accelerator: Accelerator) -> TrainingStep:
    if name == "light-m":
        entry = codec_entry("light")
        return prepare_step(accelerator, LightIFrameModel(INTRA_SIZES["m"], trainable=True).to(accelerator.device),
                            build_p_frame(entry.size("m")), entry.recipes["light-m"].stages[1],
                            TrainConfig(use_ema=True))
    entry = codec_entry("dcvc2021")
    return prepare_step(accelerator, UncodedFrames(), build_p_frame(entry.size("full")),
                        replace(entry.stages[4], gop_size=GOP), TrainConfig())


def steps(step: TrainingStep, clips: torch.Tensor) -> Iterator[float]:
    """The time at the end of each step."""
    while True:
        float(step.run([clips])["loss"])
        yield time.perf_counter()


def measured(name: str, precision: str, batch: int, device: str, seconds: float) -> dict:
    AcceleratorState._reset_state(True)
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision=precision)
    step = training(name, accelerator)
    clips = moving_pictures(GOP, CROP, CROP, batch, 0).unflatten(0, (batch, GOP)).to(accelerator.device)
    times = steps(step, clips)
    begin = next(time for number, time in enumerate(times) if number == WARM_UP)
    count, end = next((number, time) for number, time in enumerate(times, 1) if time > begin + seconds)
    frames = batch * (GOP if step.stage.intra else GOP - 1)
    memory = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None
    return {"codec": name, "precision": precision, "batch": batch, "steps_per_second": count / (end - begin),
            "megapixels_per_second": count * frames * CROP**2 / (end - begin) / 1e6, "peak_gib": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=3, help="of each row, behind its first steps")
    parser.add_argument("--only", type=int, help="so many rows")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = []
    for tried in TRIED[:options.only]:
        if options.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        try:
            rows.append(measured(*tried, options.device, options.seconds))
        except RuntimeError as error:   # out of memory: the next row may fit
            rows.append({"codec": tried[0], "precision": tried[1], "batch": tried[2], "error": str(error)[:300]})
        print(rows[-1], flush=True)
    name = torch.cuda.get_device_name() if options.device == "cuda" else platform.machine()
    record = {"command": f"python benchmarks/gpu_speed.py --seconds {options.seconds}", "device": name, "gop": GOP,
              "crop": CROP, "versions": versions(), "rows": rows}
    write_text(options.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
