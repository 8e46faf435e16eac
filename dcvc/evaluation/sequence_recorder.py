"""Collects what is measured of one coded sequence; memory grows by a few numbers a frame only."""

import hashlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from dcvc.data.eval_sequences import EvalSequence
from dcvc.evaluation.flicker import Flicker
from dcvc.evaluation.metric_names import FILTERS, OF_PLANES, chosen_metrics
from dcvc.evaluation.metrics import (
    RunningMetrics,
    measure_frame,
    ms_ssim_scales,
    psnr_from_mse,
    yuv_psnr,
)
from dcvc.evaluation.plane_filters import PlaneFilter
from dcvc.evaluation.plane_metrics import Triple, planes_ms_ssim, planes_mse, planes_of
from dcvc.evaluation.vmaf import Vmaf
from dcvc.files import replacing
from dcvc.video.frame_stack import Planes


def snapshot_frame(frames: int, intra_period: int) -> int:
    """The frame that the report shows: in the middle, a P-frame where there is one."""
    middle = frames // 2
    is_i_frame = middle % intra_period == 0
    return middle + 1 if is_i_frame and middle + 1 < frames and intra_period > 1 else middle


def save_picture(path: Path, frame: Tensor) -> None:
    """uint8 `(3, H, W)` -> PNG, atomically."""
    with replacing(path) as file:
        pixels = np.ascontiguousarray(frame.permute(1, 2, 0).cpu().numpy())
        # The quickest of zlib's levels: one picture took as long as the coding of four frames.
        Image.fromarray(pixels).save(file, format="PNG", compress_level=1)


# Bytes of a safe name; more follows it in the names of files.
LONGEST_SAFE_NAME = 100


def safe_name(name: str) -> str:
    """A file's name for a sequence of this name, another one for each: "_" stands for whatever such
    a name should not hold. Where it was changed, or differs from others in capitals alone, a hash
    tells it from them ("clip 1" and "clip_1", "A" and "a" where a disk takes them for the same)."""
    clean = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    clean = os.fsencode(clean)[:LONGEST_SAFE_NAME].decode("utf-8", "ignore")
    if clean == name == name.lower():
        return clean
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{clean}-{digest[:8]}"


def describe_sequence(sequence: EvalSequence, intra_period: int, folder: Path) -> dict[str, Any]:
    """Its entry in the results. Reads every frame once, so that gaps, sizes and damage end a run
    before it begins; keeps the frame that the report shows."""
    snapshot, digest = snapshot_frame(sequence.frames, intra_period), sequence.new_digest()
    path = folder / f"{safe_name(sequence.name)}_original.png"
    for number, frame in enumerate(sequence.source_frames()):
        digest.update(frame.rgb.contiguous().numpy())
        if frame.planes is not None:
            # Planes that are judged count too: different ones of 10 bits may look the same in RGB.
            for plane in (frame.planes.y, frame.planes.u, frame.planes.v):
                digest.update(plane.contiguous().numpy())
        if number == snapshot:
            save_picture(path, frame.rgb)
    return {**sequence.describe(), "digest": digest.hexdigest(),
            "snapshot": {"frame": snapshot, "file": str(path)}}


class SequenceRecorder:
    """`add` every frame, then `result`.

    snapshot: number of the frame that the report shows. picture: where to save it as it was
    decoded, None: nowhere. metrics: by their names (metric_names), None for the usual ones. lpips,
    dists: those networks, where they are measured. with_flicker: measure that.
    """

    def __init__(self, sequence: EvalSequence, snapshot: int, picture: Path | None,
                 metrics: tuple[str, ...] | None = None,
                 lpips: Callable[[Tensor, Tensor], float] | None = None,
                 with_flicker: bool = False,
                 dists: Callable[[Tensor, Tensor], float] | None = None) -> None:
        self.sequence, self.snapshot, self.picture = sequence, snapshot, picture
        planes = sequence.conditions is not None
        self.metrics = metrics or chosen_metrics(None, planes=planes, lpips=lpips is not None)
        self.lpips, self.dists = lpips, dists
        self.flicker = Flicker() if with_flicker else None
        size = (sequence.height, sequence.width)
        self._filters = {name: PlaneFilter(name, sequence.planar[0], size, sequence.fps)
                         for name in self.metrics if name in FILTERS}
        self._vmaf = Vmaf() if "vmaf" in self.metrics else None
        self.bits = 0.0
        self._means = RunningMetrics()
        self._frames: dict[str, list] = {}
        self._terms: dict[str, list[float]] = {}

    def add(self, kind: str, bits: float, x: Tensor, x_hat: Tensor,
            terms: dict[str, float] | None = None,
            measured: dict[str, Any] | None = None, *, source: Planes | None = None,
            decoded: Triple | None = None) -> dict[str, Any]:
        """kind "I", "P" or "B"; frames uint8 `(3, H, W)`; terms: estimated bits by name, if known.
        source: the original's own planes where these are judged; decoded: planes that a decoder
        gave, None: they are made of x_hat. Returns what was measured; another recorder takes it as
        `measured` when it shows the same frame."""
        if measured is None:
            measured = measure_frame(x_hat, x, self.metrics, self.lpips, dists=self.dists)
            if source is not None and set(self.metrics) & set(OF_PLANES):
                measured |= self._of_planes(decoded or planes_of(x_hat, source.colour), source)
            if self.flicker is not None:
                measured["flicker"] = self.flicker(x_hat.cpu(), x.cpu())
        number = self._means.frames
        self._means.add(measured)
        self.bits += bits
        values = {"type": kind, "bits": bits, "psnr": psnr_from_mse(measured["mse"]),
                  **{name: measured[name] for name in ("ms_ssim", "lpips", "dists", "stsim", "flicker")
                     if name in measured}}
        if "mse_planes" in measured:
            values["psnr_planes"] = yuv_psnr(measured["mse_planes"], peak=1.0)
        for name, value in values.items():
            self._frames.setdefault(name,
                                    []).append(round(value, 6) if isinstance(value, float)
                                               else value)
        # A term's list begins with its first frame: zeros stand for the frames before and for those
        # without it.
        for term, value in (terms or {}).items():
            self._terms.setdefault(term, [0.0] * number).append(round(float(value), 1))
        for values in self._terms.values():
            values.extend([0.0] * (number + 1 - len(values)))
        if self.picture is not None and number == self.snapshot:
            save_picture(self.picture, x_hat)
        return measured

    @property
    def remembers(self) -> bool:
        """Whether a metric looks at the frames before, too: then each frame must be measured
        here."""
        return bool(self._filters) or self._vmaf is not None or self.flicker is not None

    def _of_planes(self, decoded: Triple, source: Planes) -> dict[str, list[float]]:
        """Lists of three, for Y, U and V."""
        measured: dict[str, Any] = {}
        if "psnr_planes" in self.metrics:
            measured["mse_planes"] = planes_mse(decoded, source)
        if "ms_ssim_planes" in self.metrics and (found := planes_ms_ssim(decoded, source)):
            measured["ms_ssim_planes"] = found
        if self._vmaf is not None:
            self._vmaf.add(decoded[0], source.y[0], (1 << source.colour.depth) - 1)
        return measured | {name: one.add(decoded, source) for name, one in self._filters.items()}

    def result(self, bits: float | None = None, **more: Any) -> dict[str, Any]:
        """The sequence's entry in a results point. bits: of the whole stream with its container,
        None: those of the frames. more: entries that are known to the caller alone."""
        s = self.sequence
        count = self._means.frames
        pixels = s.width * s.height * count
        bits = self.bits if bits is None else bits
        estimate = math.fsum(value for values in self._terms.values() for value in values)
        return {"name": s.name, "width": s.width, "height": s.height, "frames": count, "bits": bits,
                "bpp": bits / pixels,
                **({"bpp_estimate": estimate / pixels} if self._terms else {}),
                **self._means.means(), **self._mean_flicker(),
                **({} if self._vmaf is None else {"vmaf": self._vmaf.mean()}),
                "ms_ssim_scales": ms_ssim_scales(s.height, s.width), **more,
                "snapshot": {"frame": self.snapshot,
                             "file": str(self.picture) if self.picture else None},
                "per_frame": {**self._frames, "terms": self._terms}}

    def _mean_flicker(self) -> dict[str, float]:
        # The first frame has none.
        values = self._frames.get("flicker", [])[1:]
        return {"flicker": math.fsum(values) / len(values)} if values else {}
