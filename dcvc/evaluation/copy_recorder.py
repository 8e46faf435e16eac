"""What a codec shows of a sequence and, beside it, what copying would show.

"Copy" means one thing in this kit: the last I-frame is shown again until the next one comes. That
costs the bits of the I-frames alone, and any P-frame codec must do better:

    coded      I0   P1   P2   I3   P4        bits  900   80   70  880   90
    copy       I0   I0   I0   I3   I3        bits  900    0    0  880    0
"""

from typing import Any

from torch import Tensor

from dcvc.evaluation.sequence_recorder import SequenceRecorder
from dcvc.video.frame_stack import Planes

COPY = "copy"


class CopyRecorder:
    """`add` every coded frame, then `results`. own: for the codec; copy: for copying, or None."""

    def __init__(self, own: SequenceRecorder, copy: SequenceRecorder | None) -> None:
        self.own, self.copy = own, copy
        self._last_i_frame: Tensor | None = None

    def add(self, kind: str, bits: float, x: Tensor, x_hat: Tensor, terms: dict[str, float],
            source: Planes | None = None) -> None:
        """As SequenceRecorder.add."""
        measured = self.own.add(kind, bits, x, x_hat, terms, source=source)
        if self.copy is None:
            return
        if kind == "I":
            self._last_i_frame = x_hat
            # Copying shows the same picture here: it is not measured twice, where it need not be.
            known = None if self.copy.remembers else measured
            self.copy.add(kind, bits, x, x_hat, measured=known, source=source)
        else:
            self.copy.add(kind, 0, x, self._last_i_frame, source=source)

    def results(self, bits: float | None = None, **more: Any) -> dict[str, dict[str, Any]]:
        """{"": entry of the codec[, "copy": entry of copying]}; see SequenceRecorder.result."""
        entries = {"": self.own.result(bits, **more)}
        return entries if self.copy is None else {**entries, COPY: self.copy.result()}
