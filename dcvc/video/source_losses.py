"""What a source holds that frames do not: told once a file, wherever frames are measured or written.

Frames are RGB of 8 bits, with the source's matrix and range undone, in square pixels. Transfer and
primaries are not converted: the samples of an HDR video are measured and coded as they are.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction

import av

# Numbers of ITU-T H.273.
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
UNSPECIFIED = 2
# Of square pixels, and of a file that says nothing about primaries and transfer.
SQUARE_UNTAGGED = (1, 1, UNSPECIFIED, UNSPECIFIED)
WIDE_PRIMARIES = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
# How the note begins.
LOST = "not kept: "


def shown_tags(frame: av.VideoFrame, aspect: Fraction | None) -> tuple[int, int, int, int]:
    """Width and height of a pixel, primaries and transfer, as outputs that can hold them take them."""
    aspect = aspect or Fraction(1)
    return (aspect.numerator, aspect.denominator, int(frame.color_primaries), int(frame.color_trc))


def losses(frame: av.VideoFrame, aspect: Fraction | None, extradata: bytes | None) -> list[str]:
    """One note, or none. frame: the first one. aspect: width of a pixel over its height. extradata:
    the codec's, as the container has it."""
    lost = _told_by(shown_tags(frame, aspect))
    depth = max(component.bits for component in frame.format.components)
    if depth > 8:
        lost.append(f"{depth} bits, taken as 8")
    if has_alpha(frame.format):
        lost.append("alpha")
    if frame.format.name.startswith(("yuv", "nv", "p0")) and layers(extradata) > 1:
        lost.append("further views or layers")
    return [LOST + ", ".join(lost)] if lost else []


def losses_beside_tags(notes: Iterable[str], tags: tuple[int, int, int, int],
                       kept: Sequence[str] = ()) -> list[str]:
    """The notes of a source, for an output that carries its tags: what those tell is kept there, and
    so is what `kept` names, in the words of the notes."""
    remaining = []
    for note in notes:
        if note.startswith(LOST):
            words = note.removeprefix(LOST)
            for known in (*_told_by(tags), *kept):
                words = words.replace(known, "")
            words = ", ".join(part for part in words.split(", ") if part)
            note = LOST + words if words else ""
        remaining += [note] if note else []
    return remaining


def _told_by(tags: tuple[int, int, int, int]) -> list[str]:
    """What frames lose that their file's tags tell."""
    width, height, primaries, transfer = tags
    lost = []
    if transfer in HDR_TRANSFERS:
        lost.append(f"HDR ({HDR_TRANSFERS[transfer]})")
    if primaries in WIDE_PRIMARIES:
        lost.append(f"{WIDE_PRIMARIES[primaries]} primaries")
    if width != height:
        lost.append(f"pixels of {width}:{height}")
    return lost


def has_alpha(form: av.VideoFormat) -> bool:
    """By the format's name: PyAV gives no flag for it."""
    return any(mark in form.name for mark in ("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya8", "ya16"))


def layers(extradata: bytes | None) -> int:
    """Layers of an HEVC stream by its video parameter set (MV-HEVC: a layer is a view); 1 where it
    has none."""
    # The set's two bytes of header; then its number (4 bits), two flags, layers less one (6 bits).
    place = (extradata or b"").find(b"\x40\x01")
    if place < 0 or len(extradata) < place + 4:
        return 1
    first, second = extradata[place + 2: place + 4]
    return ((first & 3) << 4 | second >> 4) + 1
