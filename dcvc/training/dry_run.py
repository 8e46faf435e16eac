"""What a recipe would do and take, before it does it: its table, with times from a measurement.

    time of a stage = steps * (seconds of an update * updates of a step + seconds of reading samples)

With workers, reading goes on beside the updates, and the slower of the two counts.
"""

import time
from dataclasses import replace
from typing import Any

import torch
from tqdm import tqdm

from dcvc.data.factory import training_set
from dcvc.inter.registry import build_p_frame, codec_entry
from dcvc.interfaces import FrameOutput, Quality
from dcvc.intra import build_intra_codec
from dcvc.schedule import Stage, schedule_table
from dcvc.training.job import make_accelerator, stage_samples
from dcvc.training.recipe_run import RecipeJob, StageSize, count_steps, parts_of, stage_job
from dcvc.training.step import prepare_step

# Measured on a CPU at most, two crops of 128x128; the result is scaled to the batch.
MEASURED_PIXELS = 2 * 128 * 128


def dry_run(job: RecipeJob) -> str:
    """The table of all parts with steps and estimated times. Trains two steps of each kind of stage
    on noise and reads two samples of each GOP size. Validation is not in the times.

    Raises what preparing the run would raise.
    """
    sizes, parts = count_steps(job), parts_of(job)
    times = _seconds_of_stages(job, sizes)
    total = sum(times[part.stage.label] for part in parts)
    lambdas = ", ".join(f"{value:g}" for value in job.lambdas or (job.train.lambda_value,))
    table = schedule_table(
        tuple(part.stage for part in parts), {label: size[0] for label, size in sizes.items()},
        {label: tqdm.format_interval(seconds) for label, seconds in times.items()})
    lines = [f"recipe {job.recipe.name} for lambda {lambdas}, model {job.recipe.model_size}, "
             f"batch {job.data.batch_size}, crop {job.data.crop_size}", table,
             f"about {tqdm.format_interval(total)} in all on this machine, validation not counted"]
    if job.intra is None:
        lines.insert(1, f"first the I-frame codec: a VQGAN ({job.recipe.vqgan}), not in the time")
    return "\n".join(lines)


def _seconds_of_stages(job: RecipeJob, sizes: dict[str, StageSize]) -> dict[str, float]:
    """Stage label -> seconds."""
    codec = build_intra_codec(job.intra) if job.intra else None
    # Stages that differ in their GOP size alone take the same time a frame: measured once.
    kinds = {_kind(item): item for item in job.recipe.stages}
    seconds = {kind: _update_seconds(job, item, codec) for kind, item in kinds.items()}
    times = {}
    for item in job.recipe.stages:
        steps, samples = sizes[item.label]
        compute = (item.gop_size - 1) * seconds[_kind(item)] * job.train.gradient_accumulation_steps
        reading = samples * _sample_seconds(job, item) / max(1, job.data.num_workers)
        beside = max(compute, reading) if job.data.num_workers else compute + reading
        times[item.label] = steps * beside
    return times


def _kind(item: Stage) -> tuple[Any, ...]:
    return (item.trains, item.distortion, item.rate_terms, item.crop_size, item.batch_size,
            tuple(item.added))


def _update_seconds(job: RecipeJob, item: Stage, codec: Any) -> float:
    """Of one P-frame of a batch, the I-frame's share included."""
    one = replace(item, gop_size=2, cascaded=False)
    part = replace(parts_of(job)[0], stage=one)
    # Of one P-frame: a GOP's time is that of its P-frames, cascaded or not.
    accelerator = make_accelerator(stage_job(job, part, job.intra))
    device = accelerator.device
    data = stage_samples(job.data, item)
    batch, crop = data.batch_size, data.crop_size
    # A CPU computes in proportion to the pixels, so a small picture tells enough. A GPU does not:
    # a small picture would leave most of it idle.
    if device.type == "cpu" and batch * crop * crop > MEASURED_PIXELS:
        batch, crop = 1, min(crop, 128)
    # Random weights and noise for frames: the time depends on neither.
    p_frame = build_p_frame(codec_entry(job.recipe.codec).size(job.recipe.model_size))
    intra = codec.to(device) if codec is not None else UncodedFrames()
    step = prepare_step(accelerator, intra, p_frame, one, replace(job.train, use_ema=False))
    clip = torch.rand(batch, 2, 3, crop, crop, device=device)
    float(step.run([clip])["loss"])                          # the first one warms up
    begin = time.perf_counter()
    float(step.run([clip])["loss"])
    scale = data.batch_size * data.crop_size**2 / (batch * crop * crop)
    return (time.perf_counter() - begin) * scale


class UncodedFrames:
    """Stands for an I-frame codec that is yet to be trained: its frames cost nothing."""

    rates = None

    def forward(self, x: torch.Tensor, quality: Quality = None) -> FrameOutput:
        return FrameOutput(x, {})


def _sample_seconds(job: RecipeJob, item: Stage) -> float:
    data = stage_samples(job.data, item)
    dataset = training_set(data, item.gop_size, job.train.seed, item.long_sequences)
    # Two, because the first one also opens its video; more would make people wait.
    count = min(2, len(dataset))
    begin = time.perf_counter()
    for index in range(count):
        dataset.sample(0, index)
    return (time.perf_counter() - begin) / count
