"""How large the tensors of a model become, for its exact form: measured once, kept with the model.

    model.safetensors, best.pt      both codecs, and under "exact" the ranges of both
    exact.json                      beside a file without: ranges, and the hashes of the weights that they were
                                    measured of

`dcvc train` measures them at the end, `save_pretrained` and so `dcvc tune` where there are none. No videos are
needed: drawn pictures are harder than those of cameras (hard_pictures.py).

A tensor is limited to its range (dcvc/layers/exact_blocks.py), so a range is part of the arithmetic: encoder
and decoder need the same ones, and the tables CRC of a stream tells whether they have them. A range that is
too small costs quality where a picture exceeds it; one that is too large costs time, since sums of large
numbers need float64. Without a file all ranges are large.
"""

import copy
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dcvc.codec.hard_pictures import hard_clip
from dcvc.errors import InputError, ReadError
from dcvc.files import write_text
from dcvc.interfaces import FrameCodec, PFrameCodec, bind, from_levels, to_levels, usually_exact
from dcvc.layers.exact_blocks import RANGE_UNIT, Ranges
from dcvc.layers.exact_recorder import RangeRecorder

RANGES_FILE, FORMAT = "exact.json", "dcvc-exact-1"
# The entry of a model's own file.
RANGES = "exact"
QUALITIES = (2.0, 20.0, 40.0, 61.0)
# What is measured, of hard pictures too, is taken this many times: others may go farther.
MARGIN = 1.25
# Of each channel at least this share of the largest one: one that was silent may speak.
LEAST_SHARE = 1 / 16


class CodecRanges(NamedTuple):
    p_frame: Ranges
    intra: Ranges


# Where ranges come from: a file beside a model, the model's own file, nowhere.
RangesSource = Path | CodecRanges | None


def read_ranges(source: RangesSource, inter_hash: bytes, intra_hash: bytes) -> CodecRanges:
    """Empty where there are none. Raises ReadError for a damaged file, InputError for one of another
    model."""
    if isinstance(source, CodecRanges):
        return source
    if source is None or not source.is_file():
        return CodecRanges({}, {})
    content = _read(source)
    found, needed = content.get("weights"), _weights(inter_hash, intra_hash)
    if found != needed:
        raise InputError(f"{source}: measured of weights {found}, this model has {needed}; measure its own ranges, "
                         "or remove the file")
    # Of the right model, so what is wrong in it now is damage.
    return ranges_in(content, str(source))


def were_measured(source: RangesSource, inter_hash: bytes, intra_hash: bytes) -> bool:
    """Whether there are ranges, and those of this very model. Raises ReadError for a damaged file."""
    if isinstance(source, CodecRanges):
        return True
    return (source is not None and source.is_file()
            and _read(source).get("weights") == _weights(inter_hash, intra_hash))


def _read(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ReadError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ReadError(f"{path}: found no format {FORMAT}, needed ranges as exact_ranges writes them")
    return content


def _weights(inter_hash: bytes, intra_hash: bytes) -> dict[str, str]:
    return {"P": inter_hash.hex(), "I": intra_hash.hex()}


def ranges_in(content: object, where: str) -> CodecRanges:
    """Of a JSON value with both codecs' ranges. Raises ReadError naming `where`, the file."""
    parts = (content.get("P"), content.get("I")) if isinstance(content, dict) else (None, None)
    if not all(isinstance(part, dict) and all(map(_is_range, part.values())) for part in parts):
        raise ReadError(f"{where}: found a range that is no number above 0 and no list of them")
    return CodecRanges(*parts)


def ranges_content(ranges: CodecRanges) -> dict[str, dict]:
    """What `ranges_in` takes."""
    return {"P": dict(ranges.p_frame), "I": dict(ranges.intra)}


def _is_range(value: object) -> bool:
    values = value if isinstance(value, list) else [value]
    # bool is an int to Python.
    return bool(values) and all(type(x) is int and 0 < x < 1 << 20 for x in values)


def write_ranges(path: Path, ranges: CodecRanges, inter_hash: bytes, intra_hash: bytes) -> None:
    content = {"format": FORMAT, "weights": _weights(inter_hash, intra_hash), **ranges_content(ranges)}
    # One line a tensor: a list of channels over many lines helps nobody.
    lines = json.dumps(content, separators=(",", ":")).replace('],"', '],\n"').replace('},"', '},\n"')
    write_text(path, lines + "\n")


@torch.no_grad()
def measure_ranges(p_frame: PFrameCodec, intra: FrameCodec, clips: Iterable[Iterable[Tensor]] | None = None,
                   qualities: Sequence[float] = QUALITIES) -> CodecRanges:
    """Of the float codecs over clips of uint8 frames (B, 3, H, W), each at all qualities; of drawn pictures where
    no clips are given. Raises InputError for codecs without an exact form."""
    clips = [hard_clip()] if clips is None else map(list, clips)
    with RangeRecorder(p_frame) as inter_seen, RangeRecorder(intra) as intra_seen:
        for clip, quality in itertools.product(clips, qualities):
            first = from_levels(clip[0]).to(intra.device)
            # As streams have it: P-frames follow a picture of 256 levels.
            picture = from_levels(to_levels(intra.reconstruct(first, quality).x_hat))
            state = p_frame.start(picture)
            for frame in clip[1:]:
                _, state = p_frame(state, from_levels(frame).to(picture.device), quality)
    return CodecRanges(_used(p_frame, _ranges_of(inter_seen.found)), _used(intra, _ranges_of(intra_seen.found)))


def measured_if_exact(p_frame: PFrameCodec, intra: FrameCodec) -> CodecRanges | None:
    """The ranges of codecs whose streams are usually exact, None of others."""
    if not all(map(usually_exact, (p_frame, intra))):
        return None
    if intra.device.type != "cpu":
        # Not every device has what exact forms are built of.
        p_frame, intra = (copy.deepcopy(codec).to("cpu") for codec in (p_frame, intra))
    bind(intra, p_frame)
    try:
        # What has no exact form by its kind says so before anything is measured.
        for codec in (p_frame, intra):
            codec.exact_form({})
        return measure_ranges(p_frame, intra)
    except InputError:
        return None


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
