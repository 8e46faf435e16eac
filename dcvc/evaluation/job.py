"""One codec to be judged on sequences: what `dcvc eval` is told about it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from dcvc.data.eval_sequences import EvalSequence
from dcvc.evaluation.lpips import load_lpips
from dcvc.evaluation.sequence_recorder import SequenceRecorder, safe_name, snapshot_frame
from dcvc.intra.config import IntraConfig

COPY = "copy"


Step = Callable[[], None]


@dataclass(frozen=True)
class EvalJob:
    """One codec on any number of sequences. model: run folder or checkpoint; None: `intra` alone on every frame.
    decode: decode the written stream again, compare it with the encoder's frames, and time it.
    rate_models: of a VQGAN alone, one point each; None: all that its checkpoint holds. lpips: files of its weights."""

    label: str
    setting: str
    model: str | None
    intra: IntraConfig | None = None
    gop: int = 10
    estimate: bool = False
    decode: bool = True
    copy: bool = False
    device: str = "cpu"
    folder: Path | None = None
    rate_models: tuple[str, ...] | None = None
    lpips: tuple[str, ...] = ()

    def recorder(self, sequence: EvalSequence, variant: str = "") -> SequenceRecorder:
        name = "_".join(safe_name(part) for part in (sequence.name, self.label, self.setting, variant) if part)
        return SequenceRecorder(sequence, snapshot_frame(sequence.frames, self.gop),
                                self.folder / f"{name}.png" if self.folder else None, _lpips(self.lpips, self.device))


@lru_cache(maxsize=1)
def _lpips(files: tuple[str, ...], device: str) -> Callable[[Tensor, Tensor], float] | None:
    return load_lpips(files, device) if files else None
