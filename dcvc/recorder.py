"""Collects what is measured of one coded sequence, frame by frame, in constant memory but for a few numbers a frame."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from dcvc.data.sequences import EvalSequence
from dcvc.files import replacing
from dcvc.metrics import RunningMetrics, measure_frame, ms_ssim_scales, psnr_from_mse


def snapshot_frame(frames: int, intra_period: int) -> int:
    """The frame that the report shows: in the middle, a P-frame where there is one."""
    middle = frames // 2
    return middle + 1 if middle % intra_period == 0 and middle + 1 < frames and intra_period > 1 else middle


def save_picture(path: Path, frame: Tensor) -> None:
    """uint8 `(3, H, W)` -> PNG, atomically."""
    with replacing(path) as file:
        Image.fromarray(np.ascontiguousarray(frame.permute(1, 2, 0).cpu().numpy())).save(file, format="PNG")


class SequenceRecorder:
    """`add` every frame, then `result`. picture: where to save the decoded frame number `shown`, None: nowhere."""

    def __init__(self, sequence: EvalSequence, shown: int, picture: Path | None) -> None:
        self.sequence, self.shown, self.picture = sequence, shown, picture
        self._running = RunningMetrics()
        self._frames: dict[str, list] = {"type": [], "bits": [], "psnr": [], "ms_ssim": []}
        self._terms: dict[str, list[float]] = {}

    def add(self, kind: str, bits: float, x: Tensor, x_hat: Tensor, terms: dict[str, float] | None = None) -> None:
        """kind "I" or "P"; frames uint8 `(3, H, W)`; terms: estimated bits by name, if known."""
        measured = measure_frame(x_hat.float() / 255, x.float() / 255)
        self._running.add(measured)
        values = (kind, bits, psnr_from_mse(measured["mse"]), measured["ms_ssim"])
        for name, value in zip(self._frames, values, strict=True):
            self._frames[name].append(round(value, 6) if isinstance(value, float) else value)
        number = self._running.frames - 1
        for term, value in (terms or {}).items():
            self._terms.setdefault(term, [0.0] * number).append(round(float(value), 1))
        for values in self._terms.values():
            values.extend([0.0] * (number + 1 - len(values)))
        if self.picture is not None and number == self.shown:
            save_picture(self.picture, x_hat)

    def result(self, bits: float, **more: Any) -> dict[str, Any]:
        """bits: of the whole stream, everything counted."""
        s = self.sequence
        count = self._running.frames
        return {"name": s.name, "width": s.width, "height": s.height, "frames": count, "bits": bits,
                "bpp": bits / (s.width * s.height * count), **self._running.means(),
                "ms_ssim_scales": ms_ssim_scales(s.height, s.width), **more,
                "snapshot": {"frame": self.shown, "file": str(self.picture) if self.picture else None},
                "per_frame": {**self._frames, "terms": self._terms}}
