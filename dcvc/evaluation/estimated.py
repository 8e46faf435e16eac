"""Measuring a codec without writing streams: bits are estimates, -log2 of the symbols' likelihoods.

`evaluate` judges a codec while it trains. `measure_estimate` serves `dcvc eval --estimate`. Frames
are streamed: one frame and one reference are held, however long a sequence is.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from dcvc.codec.frame_plan import FramePlan, Qualities, Refreshes, stepped_quality
from dcvc.codec.video_codec import VideoCodec
from dcvc.data.eval_sequences import EvalSequence
from dcvc.errors import InputError
from dcvc.evaluation.frame_counter import FrameDone
from dcvc.evaluation.frame_sums import FrameSums
from dcvc.evaluation.measured_codec import MeasuredCodec
from dcvc.evaluation.metrics import frame_mse, psnr_from_mse
from dcvc.evaluation.stopwatch import Stopwatch
from dcvc.interfaces import FrameCodec, FrameOutput, PFrameCodec, Until, bind, from_levels, to_levels
from dcvc.video.frame_stack import Planes

TABLE = (("PSNR I", 9), ("PSNR P", 9), ("previous", 10), ("bpp I", 9), ("bpp P", 9))


# A frame and what a decoder shows of it, `(1, 3, H, W)` -> numbers by name.
Measure = Callable[[Tensor, Tensor], dict[str, float]]


class Sequences(Protocol):
    """What VideoValidationDataset and HEVCB_Dataset offer beside their items."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str: ...

    def stream(self, index: int) -> Iterator[Tensor]: ...


class TypeSums:
    """Sums over the frames of one type: quality, and bits of each term."""

    def __init__(self) -> None:
        self.quality, self.bits, self.terms = FrameSums(), FrameSums(), FrameSums()

    def add(self, mse: float, bits: dict[str, float], terms: dict[str, float]) -> None:
        self.quality.add({"psnr": psnr_from_mse(mse), "mse": mse})
        self.bits.add(bits)
        self.terms.add(terms)

    def means(self, pixels: int) -> dict[str, Any]:
        """psnr in dB (mean of the frames'), mse, bpp per term and in sum; pixels: of one frame,
        without padding. "terms" where the caller measured more."""
        count = max(self.quality.frames, 1)
        quality = {name: self.quality.total.get(name, 0.0) / count for name in ("psnr", "mse")}
        bpp = {term: value / (count * pixels) for term, value in self.bits.total.items()}
        return {"frames": self.quality.frames, **quality, "bpp": sum(bpp.values()),
                "bpp_terms": bpp,
                **({"terms": self.terms.means()} if self.terms.total else {})}


def code_sequence(intra: FrameCodec, p_frame: PFrameCodec, frames: Iterator[Tensor], *,
                  intra_period: int, distortion: Until = "reconstruction",
                  device: torch.device | str = "cpu", quality: Qualities = None,
                  refresh: Refreshes = None,
                  ) -> Iterator[tuple[str, Tensor, Tensor | None, FrameOutput]]:
    """Yield (type "I"/"P", frame `(1, 3, H, W)`, the decoded frame before a P-frame, output with
    x_hat in [0, 1]). quality, refresh: see dcvc.codec.frame_plan.

    distortion "prediction" stops after the prediction, which is then the decoded frame, and what
    the next one refers to.
    """
    bind(intra, p_frame)
    plan = FramePlan(p_frame, intra, intra_period, quality, refresh)
    state = decoded = None
    for number, frame in enumerate(frames):
        frame = frame.unsqueeze(0).to(device)
        if number % intra_period == 0:
            kind, previous, output = "I", None, intra.forward(frame, **plan.of_i_frame(number))
        else:
            kind, previous = "P", decoded
            output, state = p_frame.reconstruct(state, frame, until=distortion,
                                                **plan.of_p_frame(number))
        stops = kind == "P" and distortion == "prediction"
        decoded = (output.prediction if stops else output.x_hat).float().clamp(0, 1)
        if kind == "I":
            # As in a stream: P-frames refer to the picture of 256 levels.
            state = p_frame.start(from_levels(to_levels(decoded)))
        yield kind, frame, previous, FrameOutput(decoded, output.bits)


@torch.no_grad()
def evaluate_sequence(intra: FrameCodec, p_frame: PFrameCodec, name: str, frames: Iterator[Tensor],
                      watch: Callable[..., None] | None = None,
                      measure: Measure | None = None, **options) -> dict:
    """One sequence -> {"name", "width", "height", "I", "P", "all", "copy_psnr"}; memory constant.

    watch: called with what code_sequence yields for each frame. measure: see evaluate.

    "copy_psnr" (its name in files of before) is the mean PSNR of showing the previous decoded frame
    in place of each P-frame: what a P-frame must beat.
    """
    sums = {"I": TypeSums(), "P": TypeSums(), "all": TypeSums()}
    previous_psnr, shape = FrameSums(), None
    for kind, frame, previous, output in code_sequence(intra, p_frame, frames, **options):
        shape = frame.shape
        if watch:
            watch(kind, frame, previous, output)
        mse = frame_mse(output.x_hat, frame)
        bits = {term: float(value) for term, value in output.bits.items()}
        terms = measure(frame, output.x_hat) if measure else {}
        for group in (kind, "all"):
            sums[group].add(mse, bits, terms)
        if previous is not None:
            previous_psnr.add({"psnr": psnr_from_mse(frame_mse(previous, frame))})
    if shape is None:
        raise InputError(f"{name}: found no frames to evaluate")
    height, width = shape[-2:]
    return {"name": name, "width": width, "height": height,
            "copy_psnr": previous_psnr.means().get("psnr", 0.0),
            **{group: total.means(height * width) for group, total in sums.items()}}


def mean_of(sequences: list[dict]) -> dict[str, Any]:
    """Mean over sequences, each counting the same, of "I", "P", "all" and "copy_psnr"."""
    if not sequences:
        raise InputError("evaluation: found no sequences, needed at least one")
    with_p = [s for s in sequences if s["P"]["frames"]] or sequences
    summary: dict[str, Any] = {"sequences": len(sequences)}
    for group in ("I", "P", "all"):
        members = [s[group] for s in (with_p if group == "P" else sequences)]
        terms = sorted({term for s in members for term in s["bpp_terms"]})
        summary[group] = {key: _mean(s[key] for s in members) for key in ("psnr", "mse", "bpp")}
        summary[group]["bpp_terms"] = {t: _mean(s["bpp_terms"].get(t, 0.0) for s in members)
                                       for t in terms}
        if any("terms" in s for s in members):
            names = next(s["terms"] for s in members if "terms" in s)
            summary[group]["terms"] = {name: _mean(s["terms"][name] for s in members)
                                       for name in names}
    summary["copy_psnr"] = _mean(s["copy_psnr"] for s in with_p)
    return summary


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return math.fsum(values) / len(values)


def evaluate(intra: FrameCodec, p_frame: PFrameCodec, sequences: Sequences, *,
             intra_period: int = 10, distortion: Until = "reconstruction",
             device: torch.device | str = "cpu", quality: Qualities = None, process: int = 0,
             processes: int = 1, gather: Callable[[list], list] | None = None,
             progress: Callable[[str], None] | None = None,
             watch: Callable[..., None] | None = None,
             measures: Callable[[], Measure] | None = None) -> dict[str, Any]:
    """Evaluate every sequence (each process its share) -> {"rates": "estimate", "mode", "mean", …}.

    progress: called with each sequence's name. watch: called with what code_sequence yields for
    each frame. measures: gives for each sequence what measures more of its frames, whose means are
    "terms".
    """
    training = p_frame.training
    p_frame.eval()
    try:
        own_share = []
        for index in range(process, len(sequences), processes):
            name = sequences.name(index)
            if progress:
                progress(name)
            own_share.append((index, evaluate_sequence(
                intra, p_frame, name, sequences.stream(index), watch,
                measures() if measures else None,
                intra_period=intra_period, distortion=distortion, device=device,
                quality=quality)))
    finally:
        p_frame.train(training)
    everyone = gather(own_share) if gather else own_share
    results = [result for _, result in sorted(everyone, key=lambda item: item[0])]
    return {"rates": "estimate", "mode": "stream", "distortion": distortion,
            "intra_period": intra_period, "mean": mean_of(results), "sequences": results}


def results_table(results: dict[str, Any]) -> str:
    """Per sequence and in the mean: PSNR and estimated bpp of I- and P-frames, and the PSNR of
    showing the previous frame again."""
    heads = "".join(f"{name:>{width}}" for name, width in TABLE)
    lines = [f"{'sequence':<28}{'size':>11}{'frames':>8}{heads}"]
    for s in results["sequences"]:
        size = f"{s['width']}x{s['height']}"
        lines.append(f"{s['name'][:27]:<28}{size:>11}{s['all']['frames']:>8}" + _numbers(s))
    lines.append(f"{'mean':<28}{'':>11}{'':>8}" + _numbers(results["mean"]))
    lines.append("bpp: estimate, not written bytes" if results["rates"] == "estimate"
                 else "bpp: written bytes")
    return "\n".join(lines)


def _numbers(s: dict[str, Any]) -> str:
    return (f"{s['I']['psnr']:>9.2f}{s['P']['psnr']:>9.2f}{s['copy_psnr']:>10.2f}"
            f"{s['I']['bpp']:>9.4f}{s['P']['bpp']:>9.4f}")


def to_json(results: dict[str, Any]) -> str:
    return json.dumps(results, indent=1)


@torch.no_grad()
def measure_estimate(codec: VideoCodec, sequence: EvalSequence, measured: MeasuredCodec,
                     frame_done: FrameDone) -> dict[str, dict]:
    """As written.measure_stream without writing: the bits are the models' estimates."""
    recorder, watch = measured.recorder_with_copy(sequence), Stopwatch()
    quality = stepped_quality(codec.p_frame, measured.quality, measured.steps)
    # A frame is taken when the one before it is done, so that one original waits at a time.
    planes: list[Planes | None] = []

    def frames() -> Iterator[Tensor]:
        for frame in sequence.source_frames():
            planes.append(frame.planes)
            yield from_levels(frame.rgb)

    coded = code_sequence(codec.intra, codec.p_frame, frames(),
                          intra_period=measured.intra_period, device=codec.device,
                          quality=quality, refresh=measured.refresh)
    for kind, x, _, output in watch.through(coded):
        terms = {term: float(value) for term, value in output.bits.items()}
        x, x_hat = to_levels(x[0]).cpu(), to_levels(output.x_hat[0]).cpu()
        recorder.add(kind, sum(terms.values()), x, x_hat, terms, planes.pop())
        frame_done()
    return recorder.results(encode_seconds=watch.seconds, decode_seconds=None)
