"""Speed and memory of training, stage by stage, against a plain loop that always runs the whole network in float32.

The plain loop is what a stage costs without knowing that it is one: every parameter has gradients, both branches run
and keep their activations, the optimizer is torch's default and every frame's loss is asked for at once. Its loss is
the same function of the same noise; the bench compares both.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dcvc.bench.moving_pictures import moving_pictures
from dcvc.inter.registry import build_p_frame, codec_entry
from dcvc.interfaces import PFrameCodec, bits_per_pixel
from dcvc.schedule import Stage
from dcvc.training.config import TrainConfig
from dcvc.training.dry_run import UncodedFrames
from dcvc.training.step import prepare_step

LAMBDA = 1024.0
MEMORY_SIZE = (4, 256)                                       # batch and crop


class PlainLoop:
    """The baseline: `step(clip)` trains on a clip `(B, T, 3, H, W)` frame by frame and returns the mean loss."""

    def __init__(self, model: PFrameCodec, item: Stage, device: torch.device) -> None:
        self.model, self.stage = model.to(device).train(), item
        names = set(model.part_parameters(item.trains))
        self.trained = [p for name, p in model.named_parameters() if name in names]
        self.optimizer = torch.optim.Adam(self.trained, lr=item.learning_rate)

    def step(self, clip: Tensor) -> float:
        losses = []
        state = self.model.start(clip[:, 0])
        for frame in clip[:, 1:].unbind(1):
            output, _ = self.model(state, frame)
            shown = output.prediction if self.stage.distortion == "prediction" else output.x_hat
            loss = LAMBDA * torch.nn.functional.mse_loss(shown, frame)
            for term in self.stage.rate_terms:
                loss = loss + bits_per_pixel(output.bits[term], frame)
            self.model.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
            self.optimizer.step()
            losses.append(loss.item())
            state = self.model.start(shown.detach().clamp(0, 1))
        return sum(losses) / len(losses)


def make_plain(config: Any, item: Stage, accelerator: Accelerator) -> Callable[[Tensor], float]:
    torch.manual_seed(0)
    return PlainLoop(build_p_frame(config), item, accelerator.device).step


def make_ours(config: Any, item: Stage, accelerator: Accelerator, **options: Any) -> Callable[[Tensor], float]:
    torch.manual_seed(0)
    step = prepare_step(accelerator, UncodedFrames(), build_p_frame(config), item,
                        TrainConfig(lambda_value=LAMBDA, **options))
    return lambda clip: float(step.run([clip])["loss"])


MAKERS = {"plain": make_plain, "ours": make_ours}


def bench_training(codec: str, size: str, batch: int = 2, crop: int = 128, gop: int = 2, repeats: int = 5,
                   memory: bool = True, device: str = "cpu", mixed_precision: str = "no",
                   compiled: bool = False) -> dict[str, Any]:
    """Every stage, alternating, medians. frames_per_second counts the P-frames.

    mixed_precision: of ours, on a GPU; the plain loop stays in float32. compiled: ours by
    torch.compile. memory: on a CPU, of stages 2 and 3 at the
    published batch of four 256x256 crops, each in a process of its own.
    """
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision=mixed_precision)
    entry = codec_entry(codec)
    entry.require_stages()
    config = entry.size(size)
    result: dict[str, Any] = {
        "codec": codec, "model": size, "batch": batch, "crop": crop, "gop": gop, "repeats": repeats,
        "device": accelerator.device.type, "threads": torch.get_num_threads(), "compiled": compiled,
        "mixed_precision": mixed_precision, "stages": {}}
    stages = {number: item for number, item in entry.stages.items() if not item.long_sequences}
    for number, item in stages.items():
        item = replace(item, gop_size=gop)
        row = _race(config, item, accelerator, batch, crop, repeats, {"compile": compiled})
        # A stage that leaves a part frozen but runs it can save the memory of that part's activations.
        saves = item.trains != "all" and item.distortion == "reconstruction"
        if memory and saves and accelerator.device.type == "cpu":
            row["peak_mib"] = {name: _peak_in_child(name, config, item, *MEMORY_SIZE) for name in MAKERS}
            row["peak_ratio"] = row["peak_mib"]["ours"] / row["peak_mib"]["plain"]
        result["stages"][str(number)] = row
    if accelerator.device.type == "cpu":
        result["matmul_gflops"] = matmul_gflops()
        result["modules"] = module_shares(config, batch, crop, result["matmul_gflops"])
    return result


def _race(config: Any, item: Stage, accelerator: Accelerator, batch: int, crop: int, repeats: int,
          options: dict[str, Any]) -> dict[str, Any]:
    steps = {"plain": make_plain(config, item, accelerator), "ours": make_ours(config, item, accelerator, **options)}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    losses: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats + 1):
        clip = _clip(batch, item.gop_size, crop, repeat).to(accelerator.device)
        for name in sorted(steps, reverse=repeat % 2 == 1):
            torch.manual_seed(repeat)                        # the same noise
            begin = time.perf_counter()
            losses[name].append(steps[name](clip))
            if repeat:                                       # the first warms up
                seconds[name].append(time.perf_counter() - begin)
    frames = batch * (item.gop_size - 1)
    speed = {name: frames / statistics.median(values) for name, values in seconds.items()}
    first = [losses[name][0] for name in steps]
    return {"frames_per_second": speed, "times_plain": speed["ours"] / speed["plain"],
            "loss": dict(zip(steps, first, strict=True)), "loss_difference": abs(first[0] - first[1]) / abs(first[0])}


def _clip(batch: int, gop: int, crop: int, seed: int) -> Tensor:
    """Smooth pictures that move, `(B, T, 3, H, W)`."""
    return moving_pictures(gop, crop, crop, batch, seed).unflatten(0, (batch, gop))


# ---- memory

def _peak_in_child(name: str, config: Any, item: Stage, batch: int, crop: int, **options: Any) -> float:
    """Highest resident memory of a process of its own, in MiB: one step on small frames, which makes the optimizer's
    state, then one on full ones."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (name, config, item, batch, crop, torch.get_num_threads(), options))


def _peak(name: str, config: Any, item: Stage, batch: int, crop: int, threads: int, options: dict[str, Any]) -> float:
    torch.set_num_threads(threads)
    step = MAKERS[name](config, item, Accelerator(cpu=True), **options)
    for side in (64, crop):
        step(_clip(batch, item.gop_size, side, 0))
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def bench_checkpointing(codec: str, size: str, crop: int = 256, gop: int = 7) -> dict[str, Any]:
    """Peak memory of one cascaded GOP when everything trains, batch 1, without and with activation checkpointing."""
    entry = codec_entry(codec)
    whole = next(item for item in entry.stages.values() if item.trains == "all")
    item = replace(whole, gop_size=gop, cascaded=True)
    peaks = {text: _peak_in_child("ours", entry.size(size), item, 1, crop, activation_checkpointing=flag)
             for text, flag in (("without", False), ("with", True))}
    return {"model": size, "crop": crop, "gop": gop, "peak_mib": peaks, "ratio": peaks["with"] / peaks["without"]}


# ---- where the time goes

def matmul_gflops(size: int = 1536) -> float:
    """Float32 matrix product, the best of five."""
    a = torch.rand(size, size)
    best = min(_seconds(lambda: a @ a) for _ in range(5))
    return 2 * size**3 / best / 1e9


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def module_shares(config: Any, batch: int, crop: int, peak_gflops: float) -> dict[str, dict[str, float]]:
    """Each part of the network by itself, forward and backward as when everything trains: share of the time of all
    parts, GFLOP/s, and their share of the machine's matrix product."""
    torch.manual_seed(0)
    model = build_p_frame(config).to(memory_format=torch.channels_last).train()
    inputs: dict[str, tuple] = {}
    hooks = [module.register_forward_pre_hook(lambda _, args, name=name: inputs.setdefault(name, args))
             for name, module in model.named_children()]
    clip = _clip(batch, 2, crop, 0)
    model(model.start(clip[:, 0]), clip[:, 1])
    for hook in hooks:
        hook.remove()
    rows = {}
    for name, args in inputs.items():
        # A part that sees the frames alone has inputs without gradients.
        leaf = any(argument.requires_grad for argument in args)
        work = _part(getattr(model, name), [argument.detach() for argument in args], leaf)
        with FlopCounterMode(display=False) as counter:
            work()
        seconds = statistics.median(_seconds(work) for _ in range(3))
        rows[name] = {"seconds": seconds, "gflops": counter.get_total_flops() / seconds / 1e9}
    total = sum(row["seconds"] for row in rows.values())
    return {name: {"share": row["seconds"] / total, **row, "of_matmul": row["gflops"] / peak_gflops}
            for name, row in sorted(rows.items(), key=lambda entry: -entry[1]["seconds"])}


def _part(module: torch.nn.Module, args: list[Tensor], leaf: bool) -> Callable[[], None]:
    """Forward and backward of one part; leaf: its input has gradients, as inside the network."""
    def work() -> None:
        inputs = [argument.requires_grad_(leaf and argument.is_floating_point()) for argument in args]
        output = module(*inputs)
        output.sum().backward()

    return work


def as_text(result: dict[str, Any]) -> str:
    lines = [f"model {result['model']}, batch {result['batch']}, crop {result['crop']}, GOP {result['gop']}, "
             f"{result['device']}, {result['threads']} threads",
             f"{'stage':<7}{'plain, frames/s':>17}{'ours':>9}{'times':>8}{'peak MiB plain':>17}{'ours':>9}{'ratio':>8}"]
    for number, row in result["stages"].items():
        speed, peak = row["frames_per_second"], row.get("peak_mib", {})
        lines.append(f"{number:<7}{speed['plain']:>17.3f}{speed['ours']:>9.3f}{row['times_plain']:>8.2f}"
                     + (f"{peak['plain']:>17.0f}{peak['ours']:>9.0f}{row['peak_ratio']:>8.2f}" if peak else ""))
    for name, row in list(result.get("modules", {}).items())[:8]:
        lines.append(f"{name:<26}{row['share']:>7.1%} of the parts' time, {row['of_matmul']:.0%} of the rate of a "
                     "matrix product")
    return "\n".join(lines)
