"""What a recipe would do and take, before it does it: its table, with times from a short measurement."""

import time
from dataclasses import replace
from typing import Any

import torch
from tqdm import tqdm

from dcvc.data.factory import training_set
from dcvc.inter.registry import build_p_frame, codec_entry
from dcvc.interfaces import FrameOutput
from dcvc.intra import build_intra_codec
from dcvc.schedule import Stage, schedule_table
from dcvc.training.job import make_accelerator, stage_samples
from dcvc.training.recipe_run import RecipeJob, count_steps, parts_of, stage_job
from dcvc.training.step import prepare_updates

MEASURED_PIXELS = 2 * 128 * 128                              # on a CPU; the result is scaled to the batch


def dry_run(job: RecipeJob) -> str:
    """The table of all parts with steps and estimated times. Trains two steps of each kind of stage on noise and
    reads two samples of each GOP size. Validation is not in the times. Raises what preparing the run would raise."""
    counts, parts = count_steps(job), parts_of(job)
    intra = job.intra
    times = {}
    codec = build_intra_codec(intra) if intra else None
    seconds = {kind: _update_seconds(job, item, codec) for kind, item in
               {_kind(item): item for item in job.recipe.stages}.items()}
    for item in job.recipe.stages:
        compute = (item.gop_size - 1) * seconds[_kind(item)] * job.train.gradient_accumulation_steps
        reading = counts[item.label][1] * _sample_seconds(job, item) / max(1, job.data.num_workers)
        times[item.label] = counts[item.label][0] * (max(compute, reading) if job.data.num_workers else
                                                     compute + reading)
    total = sum(times[part.stage.label] for part in parts)
    shown = {label: tqdm.format_interval(value) for label, value in times.items()}
    lambdas = ", ".join(f"{value:g}" for value in job.lambdas or (job.train.lambda_value,))
    lines = [f"recipe {job.recipe.name} for lambda {lambdas}, model {job.recipe.model_size}, "
             f"batch {job.data.batch_size}, crop {job.data.crop_size}",
             schedule_table(tuple(part.stage for part in parts), {k: v[0] for k, v in counts.items()}, shown),
             f"about {tqdm.format_interval(total)} in all on this machine, validation not counted"]
    if intra is None:
        lines.insert(1, f"first the I-frame codec: a VQGAN ({job.recipe.vqgan}), not in the time")
    return "\n".join(lines)


def _kind(item: Stage) -> tuple[Any, ...]:
    return item.trains, item.distortion, item.rate_terms, item.crop_size, item.batch_size


def _update_seconds(job: RecipeJob, item: Stage, codec: Any) -> float:
    """Of one P-frame of a batch, the I-frame's share included."""
    one = replace(item, gop_size=2, cascaded=False)
    part = replace(parts_of(job)[0], stage=one)
    accelerator = make_accelerator(stage_job(job, part, job.intra))
    device = accelerator.device
    data = stage_samples(job.data, item)
    batch, crop = data.batch_size, data.crop_size
    if device.type == "cpu" and batch * crop * crop > MEASURED_PIXELS:
        batch, crop = 1, min(crop, 128)
    p_frame = build_p_frame(codec_entry(job.recipe.codec).size(job.recipe.model_size))
    intra = codec.to(device) if codec is not None else UncodedFrames()
    updates = prepare_updates(accelerator, intra, p_frame, one, replace(job.train, use_ema=False))
    clip = torch.rand(batch, 2, 3, crop, crop, device=device)
    float(updates.step([clip])["loss"])
    begin = time.perf_counter()
    float(updates.step([clip])["loss"])
    scale = data.batch_size * data.crop_size**2 / (batch * crop * crop)
    return (time.perf_counter() - begin) * scale


class UncodedFrames:
    """Stands for an I-frame codec that is yet to be trained: its frames cost nothing."""

    def forward(self, x: torch.Tensor) -> FrameOutput:
        return FrameOutput(x, {})


def _sample_seconds(job: RecipeJob, item: Stage) -> float:
    dataset = training_set(stage_samples(job.data, item), item.gop_size, job.train.seed, item.long_sequences)
    begin = time.perf_counter()
    for index in range(min(2, len(dataset))):
        dataset.sample(0, index)
    return (time.perf_counter() - begin) / min(2, len(dataset))
