"""Collects what is measured of one coded sequence, frame by frame, in constant memory but for a few numbers a frame."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from dcvc.data.eval_sequences import EvalSequence
from dcvc.evaluation.metrics import RunningMetrics, measure_frame, ms_ssim_scales, psnr_from_mse
from dcvc.files import replacing


def snapshot_frame(frames: int, intra_period: int) -> int:
    """The frame that the report shows: in the middle, a P-frame where there is one."""
    middle = frames // 2
    return middle + 1 if middle % intra_period == 0 and middle + 1 < frames and intra_period > 1 else middle


def save_picture(path: Path, frame: Tensor) -> None:
    """uint8 `(3, H, W)` -> PNG, atomically."""
    with replacing(path) as file:
        Image.fromarray(np.ascontiguousarray(frame.permute(1, 2, 0).cpu().numpy())).save(file, format="PNG")


def safe_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def describe_sequence(sequence: EvalSequence, gop: int, folder: Path) -> dict[str, Any]:
    """Its entry in the results. Reads every frame once, so that gaps, sizes and damage end a run before it begins;
    keeps the frame that the report shows."""
    shown, digest = snapshot_frame(sequence.frames, gop), sequence.new_digest()
    path = folder / f"{safe_name(sequence.name)}_original.png"
    for number, frame in enumerate(sequence.stream()):
        digest.update(frame.contiguous().numpy())
        if number == shown:
            save_picture(path, frame)
    return {**sequence.describe(), "digest": digest.hexdigest(), "snapshot": {"frame": shown, "file": str(path)}}


class SequenceRecorder:
    """`add` every frame, then `result`. picture: where to save the decoded frame number `shown`, None: nowhere.
    lpips: that metric, where it is measured."""

    def __init__(self, sequence: EvalSequence, shown: int, picture: Path | None,
                 lpips: Callable[[Tensor, Tensor], float] | None = None) -> None:
        self.sequence, self.shown, self.picture, self.lpips = sequence, shown, picture, lpips
        self._running = RunningMetrics()
        self._frames: dict[str, list] = {}
        self._terms: dict[str, list[float]] = {}

    def add(self, kind: str, bits: float, x: Tensor, x_hat: Tensor, terms: dict[str, float] | None = None,
            measured: dict[str, Any] | None = None) -> dict[str, Any]:
        """kind "I" or "P"; frames uint8 `(3, H, W)`; terms: estimated bits by name, if known. Returns what was
        measured; another recorder takes it as `measured` when it shows the same frame."""
        if measured is None:
            measured = measure_frame(x_hat.float() / 255, x.float() / 255, lpips=self.lpips)
        self._running.add(measured)
        values = {"type": kind, "bits": bits, "psnr": psnr_from_mse(measured["mse"]),
                  **{name: measured[name] for name in ("ms_ssim", "lpips") if name in measured}}
        for name, value in values.items():
            self._frames.setdefault(name, []).append(round(value, 6) if isinstance(value, float) else value)
        number = self._running.frames - 1
        for term, value in (terms or {}).items():
            self._terms.setdefault(term, [0.0] * number).append(round(float(value), 1))
        for values in self._terms.values():
            values.extend([0.0] * (number + 1 - len(values)))
        if self.picture is not None and number == self.shown:
            save_picture(self.picture, x_hat)
        return measured

    def result(self, bits: float, **more: Any) -> dict[str, Any]:
        """bits: of the whole stream, everything counted."""
        s = self.sequence
        count = self._running.frames
        pixels = s.width * s.height * count
        estimate = math.fsum(value for values in self._terms.values() for value in values)
        return {"name": s.name, "width": s.width, "height": s.height, "frames": count, "bits": bits,
                "bpp": bits / pixels, **({"bpp_estimate": estimate / pixels} if self._terms else {}),
                **self._running.means(), "ms_ssim_scales": ms_ssim_scales(s.height, s.width), **more,
                "snapshot": {"frame": self.shown, "file": str(self.picture) if self.picture else None},
                "per_frame": {**self._frames, "terms": self._terms}}
