"""The index of one video file: the presentation time of every frame, made by demuxing alone.

Headers lie about frame counts; packets do not. Frames are numbered in presentation order. Files whose packets carry
no usable timestamps, or such as contradict the order of their frames, are decoded once and counted; their frames are
found by counting again (exact, but slow).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice

import av
import numpy as np

from dcvc.errors import InputError, ReadError
from dcvc.video.container import decoder_options, open_container, reason, video_stream
from dcvc.video.yuv_to_rgb import MATRIX_OF_TAG

_FARTHEST = 64  # frames between a packet's place and its frame's: in a GOP of B-frames as many as the GOP has


@dataclass(frozen=True)
class FileIndex:
    """What random access to one file needs. Sizes are those of the displayed (rotated) picture in pixels."""

    path: str
    pts: np.ndarray = field(repr=False)       # int64, ascending, in units of time_base; frame numbers if counted
    keys: np.ndarray = field(repr=False)      # int64, ascending: presentation times of the keyframes
    time_base: Fraction
    height: int
    width: int
    orientation: tuple[bool, bool, bool]      # coded -> displayed picture: transpose, then flip rows, flip columns
    fps: float
    codec: str
    pix_fmt: str
    matrix: str                               # a name of dcvc.video.yuv_to_rgb, or "" where the file has no tag
    full_range: bool
    counted: bool                             # no usable timestamps: frames are found by decoding from the start
    notes: tuple[str, ...]                    # what is suspicious about the file
    file_size: int
    mtime_ns: int
    verified: bool = False                    # every frame was decoded once without an error (`dcvc index --verify`)

    def __len__(self) -> int:
        return len(self.pts)


@dataclass
class _Packets:
    pts: list[int]
    keys: list[int]
    usable: bool
    cut_short: bool
    last_dts: int | None
    reason: str = "no usable timestamps"


def index_file(path: str | os.PathLike) -> FileIndex:
    """Demux `path` once and decode its first frame. Raises MissingError, ReadError."""
    path = os.fspath(path)
    with open_container(path) as container:
        status = os.stat(path)
        stream = video_stream(container, path)
        try:
            packets = _demux(container, stream)
        except av.error.FFmpegError as error:
            raise ReadError(f"{path}: cannot read ({reason(error)})") from None
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
        time_base, field_order = stream.time_base, int(stream.codec_context.field_order)
        codec = stream.codec_context.name
        reorders = bool(stream.codec_context.has_b_frames)
    if packets.usable and _times_contradict(path, packets.pts, reorders):
        packets.usable, packets.reason = False, "its times contradict the order of its frames"
    first, decoded = _decode(path, count=not packets.usable)
    try:
        sample_depth(first.format.name)
    except InputError as error:
        raise ReadError(f"{path}: cannot read ({error})") from None
    notes = []
    if first.interlaced_frame or field_order > 1:
        notes.append("interlaced")
    cut_short = packets.cut_short or _ends_early(path, status.st_size)
    pts, keys = np.sort(np.array(packets.pts, np.int64)), np.sort(np.array(packets.keys, np.int64))
    if not packets.usable:
        notes.append(f"{packets.reason} (slow random access)")
        pts, keys = np.arange(decoded, dtype=np.int64), np.zeros(1, np.int64)
    elif cut_short:
        # A packet that is missing at the end would show after the last decoding time: only what shows before is whole.
        if packets.last_dts is not None:
            pts = pts[: np.searchsorted(pts, packets.last_dts)]
        elif len(keys):
            pts = pts[pts < keys[-1]]
    if cut_short:
        notes.append("cut short")
    if packets.usable and len(keys) and len(pts):
        if pts[0] < keys[0]:
            notes.append("starts before its first keyframe")
        pts = pts[pts >= keys[0]]  # leading pictures without their reference cannot be decoded
    if not len(pts) or not len(keys):
        raise ReadError(f"{path}: cannot decode (found no whole frame)")
    orientation = orientation_of(first)
    height, width = (first.width, first.height) if orientation[0] else (first.height, first.width)
    span = float((pts[-1] - pts[0]) * time_base) if packets.usable else 0.0
    fps = float(rate) if rate else ((len(pts) - 1) / span if span else 25.0)
    return FileIndex(
        path=path, pts=pts, keys=keys, time_base=Fraction(time_base or 1), height=height, width=width,
        orientation=orientation, fps=fps, codec=codec, pix_fmt=first.format.name,
        matrix=MATRIX_OF_TAG.get(int(first.colorspace), ""), full_range=is_full_range(first),
        counted=not packets.usable, notes=tuple(notes), file_size=status.st_size, mtime_ns=status.st_mtime_ns,
    )


def sample_depth(pix_fmt: str) -> int:
    """Bits of the samples that frames of this pixel format are taken in. Raises InputError where there are none."""
    bits = max(component.bits for component in av.VideoFormat(pix_fmt).components)
    found = next((known for known in (8, 9, 10, 12, 14, 16) if bits <= known), None)
    if found is None:
        raise InputError(f"found pixel format {pix_fmt}, needed at most 16 bits per sample")
    return found


def _demux(container, stream) -> _Packets:
    """Presentation times of all packets that show a frame."""
    found = _Packets([], [], True, False, None)
    codec, total = stream.codec_context.name, 0
    listed = _listed(stream) if stream.container.format.name == "avi" else None
    places = []
    for packet in container.demux(stream):
        if packet.size == 0:
            continue
        total += 1
        if packet.is_corrupt:
            found.cut_short = True
            continue
        if packet.dts is not None:
            found.last_dts = packet.dts
        if listed is not None:
            places.append((packet.dts, packet.pos))
        if codec.startswith("vp8") and not bytes(packet)[0] & 0x10:
            continue  # VP8 keeps references that are never shown in packets of their own
        if packet.pts is None:
            found.usable = False
            continue
        if packet.is_keyframe:
            found.keys.append(packet.pts)
        if not packet.is_discard:
            found.pts.append(packet.pts)
    if len(set(found.pts)) != len(found.pts) or (found.pts and not found.keys):
        found.usable = False
    if listed and not found.cut_short and places != listed[: len(places)]:
        found.usable, found.reason = False, "its index disagrees with its frames"
    if stream.container.format.name.startswith(("mov", "avi")) and len(stream.index_entries) > total:
        found.cut_short = True
    return found


def _listed(stream) -> list[tuple[int, int]]:
    """Time and place of each packet by an AVI's own index. AVI frames carry no times, reading on counts them, and
    after seeking the index counts: where damage makes these disagree, seeking would give other frames."""
    header = 8  # of each chunk; the index points to it, a packet's place is behind it
    return [(entry.timestamp, entry.pos + header) for entry in stream.index_entries]


def _ends_early(path: str, size: int) -> bool:
    """Whether the container itself says that the file should be longer."""
    with open(path, "rb") as file:
        head = file.read(4096)
    if head[:1] == b"\x47" and len(head) > 188 and head[188] == 0x47:
        return size % 188 != 0
    position = head.find(b"\x18\x53\x80\x67")  # Matroska's Segment element
    if head[:4] == b"\x1a\x45\xdf\xa3" and position > 0:
        first = head[position + 4]
        length = 9 - first.bit_length()
        value = int.from_bytes(head[position + 4: position + 4 + length], "big") & ((1 << 7 * length) - 1)
        unknown = value == (1 << 7 * length) - 1
        return not unknown and position + 4 + length + value > size
    return False


def _times_contradict(path: str, pts: list[int], reorders: bool) -> bool:
    """Whether frames come out in another order than that of their times, which are given in the order of decoding:
    where parts of different origin were joined, or B-frames written by a program that knew only times of decoding."""
    moved = int(np.abs(np.argsort(pts, kind="stable") - np.arange(len(pts))).max(initial=0))
    if moved > _FARTHEST:
        return True
    return (moved > 0) != reorders and not _shown_in_order(path)


@contextmanager
def _decoder(path: str) -> Iterator[tuple[Iterator[av.Packet], av.VideoCodecContext]]:
    """The packets of the file's video and what decodes them."""
    with open_container(path) as container:
        stream = video_stream(container, path)
        stream.codec_context.thread_count = 1
        stream.codec_context.options = decoder_options(stream.codec_context.name)
        yield container.demux(stream), stream.codec_context


def _shown_in_order(path: str) -> bool:
    """Whether frames come out in the order of their times, as far as a look at the first ones tells (an error
    among them is for _decode to tell)."""
    last = None
    with _decoder(path) as (packets, context), suppress(av.error.FFmpegError):
        for packet in islice(packets, 100):
            for frame in context.decode(packet if packet.size else None):
                if None not in (last, frame.pts) and frame.pts < last:
                    return False
                last = frame.pts if frame.pts is not None else last
    return True


def _decode(path: str, count: bool):
    """The first frame and, if `count`, the number of frames a full decode gives."""
    first, total, problem = None, 0, "it holds no frame"
    with _decoder(path) as (packets, context):
        try:
            for packet in packets:
                try:
                    frames = context.decode(packet if packet.size else None)
                except av.error.FFmpegError as error:
                    problem = reason(error)
                    if not packet.size:
                        break
                    continue
                total += len(frames)
                first = first or (frames[0] if frames else None)
                if first is not None and not count:
                    break
        except av.error.FFmpegError as error:
            problem = reason(error)
    if first is None:
        raise ReadError(f"{path}: cannot decode ({problem})")
    return first, total


def is_full_range(frame) -> bool:
    return int(frame.color_range) == 2 or frame.format.name.startswith("yuvj")


def orientation_of(frame) -> tuple[bool, bool, bool]:
    """The display matrix of a frame as (transpose, flip rows, flip columns)."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5]
            if abs(int(b)) > abs(int(a)):
                return True, bool(b < 0), bool(c < 0)
            return False, bool(d < 0), bool(a < 0)
    return False, False, False
