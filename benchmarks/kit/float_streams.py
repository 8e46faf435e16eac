"""Streams that are not exact, and how far what another machine decodes is from what the encoder had.

    bits = write_float_stream(folder, "name", codec, frames, 40.0)      name.dcvc, and its pictures in name.npy
    drift_of_stream(folder, "name", bits, codec)                        here, or on another machine
    drift_summary(rows)                                                 of several of them
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dcvc.codec.clip_coders import ClipDecoder, CodedFrame
from dcvc.codec.drift import Drift
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.video_codec import VideoCodec
from dcvc.evaluation.metrics import psnr_from_mse

Bits = list[dict[str, float]]


def write_float_stream(folder: Path, name: str, codec: VideoCodec, frames: Sequence[Tensor], quality: float) -> Bits:
    """-> what the symbols of each frame cost by their integer tables."""
    size = tuple(frames[0].shape[1:])
    header = codec.header(size, Fraction(25), len(frames), len(frames), source=b"test")
    with open(folder / f"{name}.dcvc", "wb") as file:
        coded = list(codec.encode(frames, header, file, quality=quality))
    np.save(folder / f"{name}.npy", torch.stack([frame.x_hat.cpu() for frame in coded]).numpy())
    return [frame.bits for frame in _read(folder / f"{name}.dcvc", codec, None)]


def _read(path: Path, codec: VideoCodec, drift: Drift | None) -> list[CodedFrame]:
    with open(path, "rb") as file:
        reader = StreamReader(file)
        clip = ClipDecoder(codec, reader.header, reader.name, drift)
        return [clip.decode(record, measure=True) for record in reader]


def drift_of_stream(folder: Path, name: str, bits: Bits, codec: VideoCodec) -> dict[str, Any]:
    drift = Drift()
    shown = _read(folder / f"{name}.dcvc", codec, drift)
    theirs = torch.from_numpy(np.load(folder / f"{name}.npy")).float()
    errors = [(frame.x_hat.cpu().float() - other).abs() for frame, other in zip(shown, theirs, strict=True)]
    # Other symbols, or other tables, would have cost other bits.
    return {"frames": drift.compared, "differing": drift.differing,
            "same_symbols": [frame.bits for frame in shown] == bits,
            "largest": max(float(error.max()) for error in errors),
            "square": max(float(error.square().mean()) for error in errors)}


def drift_summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    worst = max(row["square"] for row in rows)
    return {"streams": len(rows), **{key: sum(row[key] for row in rows) for key in ("frames", "differing")},
            "streams_of_other_symbols": sum(not row["same_symbols"] for row in rows),
            "largest_difference_in_levels": max(row["largest"] for row in rows),
            "psnr_of_the_worst_frame": psnr_from_mse(worst / 255**2) if worst else None}
