"""Judging a codec while it trains: frames streamed, clamped references, estimated rates (files: `dcvc eval`)."""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from dcvc.codec.video_codec import VideoCodec
from dcvc.data.eval_sequences import EvalSequence
from dcvc.errors import InputError
from dcvc.evaluation.job import COPY, EvalJob, Step
from dcvc.evaluation.metrics import frame_mse, psnr_from_mse
from dcvc.interfaces import FrameCodec, FrameOutput, PFrameCodec, Until, to_levels


class Sequences(Protocol):
    """What VideoValidationDataset and HEVCB_Dataset offer beside their items."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str: ...

    def stream(self, index: int) -> Iterator[Tensor]: ...


@dataclass
class Totals:
    """Sums over the frames of one type."""

    frames: int = 0
    psnr: float = 0.0
    mse: float = 0.0
    bits: dict[str, float] = field(default_factory=dict)

    def add(self, mse: float, bits: dict[str, float]) -> None:
        self.frames += 1
        self.psnr += psnr_from_mse(mse)
        self.mse += mse
        for term, value in bits.items():
            self.bits[term] = self.bits.get(term, 0.0) + value

    def means(self, pixels: int) -> dict[str, Any]:
        """psnr in dB (mean of the frames'), mse, bpp per term and in sum; pixels: unpadded, of one frame."""
        count = max(self.frames, 1)
        bpp = {term: value / (count * pixels) for term, value in self.bits.items()}
        return {"frames": self.frames, "psnr": self.psnr / count, "mse": self.mse / count,
                "bpp": sum(bpp.values()), "bpp_terms": bpp}


def code_sequence(intra: FrameCodec, p_frame: PFrameCodec, frames: Iterator[Tensor], *, intra_period: int,
                  distortion: Until = "reconstruction", device: torch.device | str = "cpu",
                  ) -> Iterator[tuple[str, Tensor, Tensor | None, FrameOutput]]:
    """Yield (type "I"/"P", frame `(1, 3, H, W)`, what was shown before a P-frame, output with x_hat in [0, 1]).

    distortion "prediction" stops after the prediction, which is then what is shown and what the next frame refers to.
    """
    state = shown = None
    for number, frame in enumerate(frames):
        frame = frame.unsqueeze(0).to(device)
        if number % intra_period == 0:
            kind, before, output = "I", None, intra.forward(frame)
        else:
            kind, before = "P", shown
            output, state = p_frame.reconstruct(state, frame, until=distortion)
        picture = output.prediction if kind == "P" and distortion == "prediction" else output.x_hat
        shown = picture.float().clamp(0, 1)
        if kind == "I":
            state = p_frame.start(shown)
        yield kind, frame, before, FrameOutput(shown, output.bits)


@torch.no_grad()
def evaluate_sequence(intra: FrameCodec, p_frame: PFrameCodec, name: str, frames: Iterator[Tensor],
                      watch: Callable[..., None] | None = None, **options) -> dict:
    """One sequence -> {"name", "width", "height", "I", "P", "all", "copy_psnr"}; memory constant.

    watch: called with what code_sequence yields for each frame.

    "copy_psnr" is the mean PSNR of showing each P-frame's reference again: what a P-frame must beat.
    """
    totals = {"I": Totals(), "P": Totals(), "all": Totals()}
    copies, shape = Totals(), None
    for kind, frame, reference, output in code_sequence(intra, p_frame, frames, **options):
        shape = frame.shape
        if watch:
            watch(kind, frame, reference, output)
        mse = frame_mse(output.x_hat, frame)
        bits = {term: float(value) for term, value in output.bits.items()}
        for group in (kind, "all"):
            totals[group].add(mse, bits)
        if reference is not None:
            copies.add(frame_mse(reference, frame), {})
    if shape is None:
        raise InputError(f"{name}: found no frames to evaluate")
    height, width = shape[-2:]
    return {"name": name, "width": width, "height": height, "copy_psnr": copies.means(1)["psnr"],
            **{group: total.means(height * width) for group, total in totals.items()}}


def mean_of(sequences: list[dict]) -> dict[str, Any]:
    """Mean over sequences, each counting the same, of every number in "I", "P", "all" and of copy_psnr."""
    if not sequences:
        raise InputError("evaluation: found no sequences, needed at least one")
    with_p = [s for s in sequences if s["P"]["frames"]] or sequences
    summary: dict[str, Any] = {"sequences": len(sequences)}
    for group in ("I", "P", "all"):
        members = with_p if group == "P" else sequences
        terms = sorted({term for s in members for term in s[group]["bpp_terms"]})
        summary[group] = {key: _mean(s[group][key] for s in members) for key in ("psnr", "mse", "bpp")}
        summary[group]["bpp_terms"] = {t: _mean(s[group]["bpp_terms"].get(t, 0.0) for s in members) for t in terms}
    summary["copy_psnr"] = _mean(s["copy_psnr"] for s in with_p)
    return summary


def _mean(values: Iterator[float]) -> float:
    values = list(values)
    return math.fsum(values) / len(values)


def evaluate(intra: FrameCodec, p_frame: PFrameCodec, sequences: Sequences, *, intra_period: int = 10,
             distortion: Until = "reconstruction", device: torch.device | str = "cpu",
             process: int = 0, processes: int = 1, gather: Callable[[list], list] | None = None,
             progress: Callable[[str], None] | None = None, watch: Callable[..., None] | None = None,
             ) -> dict[str, Any]:
    """Evaluate every sequence (each process its share) -> {"rates": "estimate", "mode", "mean", "sequences"}.

    progress: called with each sequence's name. watch: called with what code_sequence yields for each frame.
    """
    training = p_frame.training
    p_frame.eval()
    try:
        mine = []
        for index in range(process, len(sequences), processes):
            if progress:
                progress(sequences.name(index))
            mine.append((index, evaluate_sequence(
                intra, p_frame, sequences.name(index), sequences.stream(index), watch, intra_period=intra_period,
                distortion=distortion, device=device)))
    finally:
        p_frame.train(training)
    everyone = gather(mine) if gather else mine
    results = [result for _, result in sorted(everyone, key=lambda item: item[0])]
    return {"rates": "estimate", "mode": "stream", "distortion": distortion, "intra_period": intra_period,
            "mean": mean_of(results), "sequences": results}


def results_table(results: dict[str, Any]) -> str:
    """Per sequence and in the mean: PSNR and estimated bpp of I- and P-frames, and PSNR of copying the reference."""
    lines = [f"{'sequence':<28}{'size':>11}{'frames':>8}{'PSNR I':>9}{'PSNR P':>9}{'copy':>8}{'bpp I':>9}{'bpp P':>9}"]
    for s in results["sequences"]:
        size = f"{s['width']}x{s['height']}"
        lines.append(f"{s['name'][:27]:<28}{size:>11}{s['all']['frames']:>8}" + _numbers(s))
    lines.append(f"{'mean':<28}{'':>11}{'':>8}" + _numbers(results["mean"]))
    lines.append("bpp: estimate, not written bytes" if results["rates"] == "estimate" else "bpp: written bytes")
    return "\n".join(lines)


def _numbers(s: dict[str, Any]) -> str:
    return (f"{s['I']['psnr']:>9.2f}{s['P']['psnr']:>9.2f}{s['copy_psnr']:>8.2f}"
            f"{s['I']['bpp']:>9.4f}{s['P']['bpp']:>9.4f}")


def to_json(results: dict[str, Any]) -> str:
    return json.dumps(results, indent=1)


@torch.no_grad()
def evaluate_estimate(codec: VideoCodec, sequence: EvalSequence, job: EvalJob, step: Step) -> dict[str, dict]:
    """As `evaluate_stream` without writing: bits from the models' likelihoods."""
    recorder, total = job.recorder(sequence), 0.0
    copier, i_bits, shown = job.recorder(sequence, COPY) if job.copy else None, 0.0, None
    frames = (frame.float() / 255 for frame in sequence.stream())
    coded = code_sequence(codec.intra, codec.p_frame, frames, intra_period=job.gop, device=codec.device)
    seconds, began = 0.0, time.perf_counter()
    for kind, x, _, output in coded:
        seconds += time.perf_counter() - began
        terms = {term: float(value) for term, value in output.bits.items()}
        bits, x, x_hat = sum(terms.values()), to_levels(x[0]).cpu(), to_levels(output.x_hat[0]).cpu()
        measured = recorder.add(kind, bits, x, x_hat, terms)
        total += bits
        if copier is not None:
            shown, i_bits = (x_hat, i_bits + bits) if kind == "I" else (shown, i_bits)
            copier.add(kind, bits if kind == "I" else 0, x, shown, measured=measured if kind == "I" else None)
        step()
        began = time.perf_counter()
    row = recorder.result(total, encode_seconds=seconds, decode_seconds=None)
    return {"": row, **({COPY: copier.result(i_bits)} if copier else {})}
