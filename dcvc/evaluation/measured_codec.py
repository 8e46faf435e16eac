"""One codec that `dcvc eval` measures, and how it is to be measured."""

from dataclasses import dataclass
from pathlib import Path

from dcvc.codec.quality_steps import Steps
from dcvc.data.eval_sequences import EvalSequence
from dcvc.evaluation.copy_recorder import COPY, CopyRecorder
from dcvc.evaluation.dists import shared_dists
from dcvc.evaluation.lpips import shared_lpips
from dcvc.evaluation.sequence_recorder import SequenceRecorder, safe_name, snapshot_frame
from dcvc.intra.config import IntraConfig


@dataclass(frozen=True)
class MeasuredCodec:
    """A codec, and what is measured of it on any number of sequences. Plain data: it travels to
    other processes.

    label, setting: name of the curve and of the point on it. model: run folder or checkpoint file;
    None: the I-frame codec `intra` alone, on every frame. estimate: bits from likelihoods, no
    stream. decode: decode the written stream again, compare its frames with the encoder's, and
    measure the time. copy: also measure showing the last I-frame again. folder: for the decoded
    frames that the report shows. rate_models: of a VQGAN alone, one point each; None: all that its
    checkpoint holds. lpips, dists: files of that metric's weights; none: it is not measured. quality: of
    a model with many rates, None for its own default; steps: around it, None: the model's own;
    refresh: every so many frames, None for never; exact: the arithmetic of its streams, None: the model's usual one.
    weights: "raw" or "ema", of a model's file that holds both. metrics: by their names
    (metric_names), None for the usual ones. with_flicker: measure that too.
    """

    label: str
    setting: str
    model: str | None
    intra: IntraConfig | None = None
    intra_period: int = 10
    estimate: bool = False
    decode: bool = True
    copy: bool = False
    device: str = "cpu"
    folder: Path | None = None
    rate_models: tuple[str, ...] | None = None
    lpips: tuple[str, ...] = ()
    dists: tuple[str, ...] = ()
    quality: float | None = None
    steps: Steps | None = None
    refresh: int | None = None
    exact: bool | None = None
    weights: str | None = None
    metrics: tuple[str, ...] | None = None
    with_flicker: bool = False

    @property
    def name(self) -> str:
        return f"{self.label} {self.setting}"

    def recorder(self, sequence: EvalSequence, variant: str = "") -> SequenceRecorder:
        """For what the codec, or a variant of it, shows of a sequence."""
        parts = "_".join(part for part in (self.label, self.setting, variant) if part)
        name = f"{safe_name(sequence.name)}_{safe_name(parts)}"
        return SequenceRecorder(
            sequence, snapshot_frame(sequence.frames, self.intra_period),
            picture=self.folder / f"{name}.png" if self.folder else None,
            metrics=self.metrics, lpips=shared_lpips(self.lpips, self.device),
            dists=shared_dists(self.dists, self.device),
            with_flicker=self.with_flicker)

    def recorder_with_copy(self, sequence: EvalSequence) -> CopyRecorder:
        copy = self.recorder(sequence, COPY) if self.copy else None
        return CopyRecorder(self.recorder(sequence), copy)
