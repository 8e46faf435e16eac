"""How large the tensors of a model become, for its exact form: measured once, kept beside the model.

    model.safetensors      both codecs
    exact.json             their ranges, with the hashes of the weights that they were measured of

A tensor is limited to its range (dcvc/layers/exact_blocks.py), so a range is part of the arithmetic: encoder
and decoder need the same ones, and the tables CRC of a stream tells whether they have them. A range that is
too small costs quality where a picture exceeds it; one that is too large costs time, since sums of large
numbers need float64. Without a file all ranges are large.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dcvc.errors import InputError, ReadError
from dcvc.files import write_text
from dcvc.interfaces import FrameCodec, PFrameCodec, from_levels, to_levels
from dcvc.layers.exact_blocks import RANGE_UNIT, Ranges
from dcvc.layers.exact_recorder import RangeRecorder

RANGES_FILE, FORMAT = "exact.json", "dcvc-exact-1"
# What is measured, of hard pictures too, is taken this many times: others may go farther.
MARGIN = 1.25
# Of each channel at least this share of the largest one: one that was silent may speak.
LEAST_SHARE = 1 / 16


class CodecRanges(NamedTuple):
    p_frame: Ranges
    intra: Ranges


def read_ranges(path: Path | None, inter_hash: bytes, intra_hash: bytes) -> CodecRanges:
    """Empty where there is no file. Raises ReadError for a damaged one, InputError for one of another
    model."""
    if path is None or not path.is_file():
        return CodecRanges({}, {})
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ReadError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ReadError(f"{path}: found no format {FORMAT}, needed ranges as exact_ranges writes them")
    found, needed = content.get("weights"), {"P": inter_hash.hex(), "I": intra_hash.hex()}
    if found != needed:
        raise InputError(f"{path}: measured of weights {found}, this model has {needed}; measure its own ranges, "
                         "or remove the file")
    # Of the right model, so what is wrong in it now is damage.
    ranges = CodecRanges(content.get("P"), content.get("I"))
    if not all(isinstance(part, dict) and all(map(_is_range, part.values())) for part in ranges):
        raise ReadError(f"{path}: found a range that is no number above 0 and no list of them")
    return ranges


def _is_range(value: object) -> bool:
    values = value if isinstance(value, list) else [value]
    # bool is an int to Python.
    return bool(values) and all(type(x) is int and 0 < x < 1 << 20 for x in values)


def write_ranges(path: Path, ranges: CodecRanges, inter_hash: bytes, intra_hash: bytes) -> None:
    weights = {"P": inter_hash.hex(), "I": intra_hash.hex()}
    content = {"format": FORMAT, "weights": weights, "P": dict(ranges.p_frame), "I": dict(ranges.intra)}
    # One line a tensor: a list of channels over many lines helps nobody.
    lines = json.dumps(content, separators=(",", ":")).replace('],"', '],\n"').replace('},"', '},\n"')
    write_text(path, lines + "\n")


@torch.no_grad()
def measure_ranges(p_frame: PFrameCodec, intra: FrameCodec, clips: Iterable[Iterable[Tensor]],
                   qualities: Iterable[float]) -> CodecRanges:
    """Of the float codecs over clips of uint8 frames (3, H, W), each at all qualities."""
    qualities = list(qualities)
    with RangeRecorder(p_frame) as inter_seen, RangeRecorder(intra) as intra_seen:
        for clip in map(list, clips):
            for quality in qualities:
                first = from_levels(clip[0][None]).to(intra.device)
                # As streams have it: P-frames follow a picture of 256 levels.
                picture = from_levels(to_levels(intra.reconstruct(first, quality).x_hat))
                state = p_frame.start(picture)
                for frame in clip[1:]:
                    _, state = p_frame(state, from_levels(frame[None]).to(picture.device), quality)
    return CodecRanges(_used(p_frame, _ranges_of(inter_seen.found)), _used(intra, _ranges_of(intra_seen.found)))


class _Asked(dict):
    """Ranges that remember which of them were asked for."""

    def __init__(self, ranges: Ranges) -> None:
        super().__init__(ranges)
        self.names: set[str] = set()

    def get(self, name: str, default: int) -> int | list[int]:
        self.names.add(name)
        return super().get(name, default)


def _used(codec: PFrameCodec | FrameCodec, ranges: Ranges) -> Ranges:
    """Without those of networks that only an encoder has, which stay floats."""
    asked = _Asked(ranges)
    codec.exact_form(asked)
    return {name: value for name, value in ranges.items() if name in asked.names}


def _ranges_of(found: Mapping[str, Tensor]) -> Ranges:
    """Largest magnitudes -> ranges, of single numbers and of channels."""
    ranges: dict[str, int | list[int]] = {}
    for name, largest in found.items():
        limits = torch.maximum(largest, largest.max() * LEAST_SHARE) * (MARGIN * RANGE_UNIT)
        # Whole numbers above zero, which JSON keeps exactly.
        values = limits.ceil().clamp(1, (1 << 20) - 1).int().tolist()
        ranges[name] = values[0] if largest.dim() == 1 and len(values) == 1 else values
    return ranges
