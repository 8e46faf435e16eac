"""The index of one video file: the presentation time of every frame and of every keyframe.

It is made by demuxing alone, which reads all packets and decodes none, so it takes a small part of
the time of decoding. Headers lie about the number of frames; packets do not. One frame is decoded,
for its size, pixel format and colours. Frames are numbered in presentation order:

    packet (decoding order)   0   1   2   3   4   5
    pts (time shown)          0  30  10  20  40  50     sorted: 0 10 20 30 40 50
    keyframe                  x               x         frame 2 is shown at time 20; to decode it,
                                                        begin at packet 0

What may be wrong, and what happens then:

    times are missing or repeat, or contradict    the frames are decoded once and counted; they are
    the order in which frames come out            found by counting again (exact, but slow)
    the file ends early                           frames are numbered up to where all are there
    it starts before its first keyframe           frames before the keyframe are left out
    an AVI's own index disagrees with its frames  counted, as above
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count, islice

import av
import numpy as np

from dcvc.errors import InputError, ReadError
from dcvc.video.container import declares_more, open_container, open_decoder, reason, video_stream
from dcvc.video.frame_rate import frame_rate
from dcvc.video.h264_slices import is_whole_intra
from dcvc.video.hidden_packets import is_hidden
from dcvc.video.places import PathLike, plain
from dcvc.video.shown_frames import shown_times, size_from, without_undecodable_end
from dcvc.video.source_losses import SQUARE_UNTAGGED, losses, shown_tags
from dcvc.video.sources import stamp_of
from dcvc.video.yuv_to_rgb import MATRIX_OF_TAG

# How far a packet may be from the place of its frame: B-frames move it by at most the length of
# their GOP. Larger distances are times that cannot be trusted.
LARGEST_REORDERING = 64
# Bytes. An AVI's index points to a chunk, FFmpeg to the packet behind the chunk's header.
AVI_CHUNK_HEADER = 8
# Bytes. A last packet that is smaller is decoded to see whether it is a frame at all.
SMALLEST_FRAME = 96
# Packets that tell whether fields are pictures of their own.
FIRST_FIELDS = 60
# Degrees by which the picture is turned, as PyAV counts -> transpose, flip rows, flip columns.
ORIENTATION_OF_ANGLE = {90: (True, True, False), 180: (False, True, True), 270: (True, False, True)}
# Bits of the planar formats that FFmpeg has.
DECODED_DEPTHS = (8, 9, 10, 12, 14, 16)


@dataclass(frozen=True)
class FileIndex:
    """What random access to one file needs. Sizes are those of the displayed (rotated) picture in
    pixels."""

    path: str
    # int64, ascending, in units of time_base; frame numbers if counted.
    pts: np.ndarray = field(repr=False)
    # int64, ascending: presentation times of the keyframes.
    keys: np.ndarray = field(repr=False)
    time_base: Fraction
    height: int
    width: int
    # Coded -> displayed picture: transpose, then flip rows, flip columns.
    orientation: tuple[bool, bool, bool]
    fps: float
    codec: str
    pix_fmt: str
    # A name of dcvc.video.yuv_to_rgb, or "" where the file has no tag.
    matrix: str
    full_range: bool
    # No usable timestamps: frames are found by decoding from the start.
    counted: bool
    # What is suspicious about the file.
    notes: tuple[str, ...]
    # A Stamp: in bytes, and a time or another mark.
    file_size: int
    mtime_ns: int
    # Every frame was decoded once without an error (`dcvc index --verify`).
    verified: bool = False
    # Some frames are two packets, one a field, and the second has a time of its own.
    fields: bool = False
    # How frames are shown: width and height of a pixel, primaries and transfer (ITU-T H.273).
    tags: tuple[int, int, int, int] = SQUARE_UNTAGGED

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def shown_tags(self) -> tuple[int, int, int, int]:
        """`tags` of the displayed picture: turned by a quarter, wide pixels are high ones."""
        width, height = self.tags[:2]
        return (height, width, *self.tags[2:]) if self.orientation[0] else self.tags


@dataclass
class _Packets:
    """What demuxing tells. pts, keys: presentation times in decoding order."""

    pts: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    # Of what the container calls keyframes, those at which no decoder with B-frames can begin.
    refreshes: list[int] = field(default_factory=list)
    cut_short: bool = False
    cut_behind: bool = False
    # Of the last packet, in bytes.
    last_size: int = 0
    last_dts: int | None = None
    # (width, height) where the container tells of other parameters of the codec on the way.
    later_size: tuple[int, int] | None = None
    # Why the times are not usable, "" if they are.
    times_problem: str = ""

    def whole_frames(self) -> tuple[np.ndarray, np.ndarray]:
        """Sorted times of the frames that can be decoded, and of the keyframes."""
        pts, keys = np.sort(np.array(self.pts, np.int64)), np.sort(np.array(self.keys, np.int64))
        if self.cut_short and self.last_dts is not None:
            # A packet that is missing at the end would show after the last decoding time: only what
            # shows before that is complete.
            # The last packet itself is whole where a later one is known to be the one cut short.
            side = "right" if self.cut_behind else "left"
            pts = pts[: np.searchsorted(pts, self.last_dts, side)]
        elif self.cut_short and len(keys):
            pts = pts[pts < keys[-1]]
        return pts, keys


def index_file(path: PathLike) -> FileIndex:
    """Demux `path` once and decode its first frame. Raises MissingError, ReadError."""
    path = plain(path)
    with open_container(path) as container:
        stamp = stamp_of(path)
        stream = video_stream(container, path)
        try:
            packets = _demux(container, stream)
        except av.error.FFmpegError as error:
            raise ReadError(f"{path}: cannot read ({reason(error)})") from None
        # Files that state no rate are given what FFmpeg guesses.
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
        time_base, field_order = stream.time_base, int(stream.codec_context.field_order)
        aspect, extradata = stream.sample_aspect_ratio, stream.codec_context.extradata
        codec = stream.codec_context.name
        reorders = bool(stream.codec_context.has_b_frames)
    if not packets.times_problem and _times_contradict(path, packets.pts, reorders):
        packets.times_problem = "its times contradict the order of its frames"
    # The file is opened anew: a decoder must begin at the first packet.
    first, decoded = _decode(path, count_all=bool(packets.times_problem))
    try:
        sample_depth(first.format.name)
    except InputError as error:
        raise ReadError(f"{path}: cannot read ({error})") from None
    packets.cut_short = packets.cut_short or declares_more(path, stamp.size)
    fields = not packets.times_problem and _pair_fields(path, packets, first, field_order)
    pts, keys, notes = _numbered(packets, decoded)
    if packets.last_size < SMALLEST_FRAME and not packets.times_problem and len(keys):
        pts = without_undecodable_end(path, pts, int(keys[-1]))
    if first.interlaced_frame or field_order > 1:
        notes.insert(0, "interlaced, as pairs of field pictures" if fields else "interlaced")
    if not len(pts) or not len(keys):
        raise ReadError(f"{path}: cannot decode (found no whole frame)")
    orientation = orientation_of(first)
    height, width = (first.width, first.height) if orientation[0] else (first.height, first.width)
    # Numbers are no times: where frames are counted, the container has to be believed.
    times = pts[:1] if packets.times_problem else pts
    fps, varies = frame_rate(times, Fraction(time_base or 1), rate)
    if varies:
        notes.append("variable frame rate, taken as its mean")
    if packets.later_size not in (None, (first.width, first.height)):
        notes.append("picture size changes to {}x{}".format(*packets.later_size))
    notes += losses(first, aspect, extradata)
    return FileIndex(
        path=path, pts=pts, keys=keys, time_base=Fraction(time_base or 1),
        height=height, width=width, orientation=orientation, fps=fps, codec=codec,
        pix_fmt=first.format.name,
        matrix=MATRIX_OF_TAG.get(int(first.colorspace), ""), full_range=is_full_range(first),
        counted=bool(packets.times_problem), notes=tuple(notes),
        file_size=stamp.size, mtime_ns=stamp.mark, fields=fields,
        tags=shown_tags(first, aspect),
    )


def _numbered(packets: _Packets, decoded: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Times of the frames and keyframes, and what is suspicious.

    decoded: how many frames decoding gave.
    """
    if packets.times_problem:
        notes = [f"{packets.times_problem} (slow random access)"]
        pts, keys = np.arange(decoded, dtype=np.int64), np.zeros(1, np.int64)
    else:
        notes = []
        pts, keys = packets.whole_frames()
        if packets.refreshes:
            notes.append("intra refresh with B-frames (slow random access)")
    if packets.cut_short:
        notes.append("cut short")
    if not packets.times_problem and len(keys) and len(pts):
        if pts[0] < keys[0]:
            notes.append("starts before its first keyframe")
        # Leading pictures without their reference cannot be decoded.
        pts = pts[pts >= keys[0]]
    return pts, keys, notes


def sample_depth(pix_fmt: str) -> int:
    """Bits of the samples that frames of this pixel format are taken in.

    Raises InputError beyond 16 bits.
    """
    bits = max(component.bits for component in av.VideoFormat(pix_fmt).components)
    depth = next((depth for depth in DECODED_DEPTHS if bits <= depth), None)
    if depth is None:
        raise InputError(f"found pixel format {pix_fmt}, needed at most 16 bits per sample")
    return depth


def _demux(container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> _Packets:
    """Read all packets of the stream."""
    packets = _Packets()
    format, codec = stream.container.format.name, stream.codec_context.name
    # Only of H.264 are keyframes looked into.
    reorders = codec == "h264" and bool(stream.codec_context.has_b_frames)
    extradata = stream.codec_context.extradata
    # Taken before reading: FFmpeg adds to these entries while it reads on.
    listed = _avi_index(stream) if format == "avi" else []
    total, places = 0, []
    for packet in _until_unreadable(container.demux(stream), packets):
        if packet.size == 0:
            continue
        total += 1
        packets.last_size = packet.size
        if packet.is_corrupt:
            packets.cut_short = packets.cut_behind = True
            continue
        if packet.dts is not None:
            packets.last_dts = packet.dts
        if listed:
            places.append((packet.dts, packet.pos))
        if is_hidden(codec, packet):
            continue
        if packet.has_sidedata("new_extradata"):
            packets.later_size = packets.later_size or size_from(codec, packet)
        if packet.pts is None:
            packets.times_problem = "no usable timestamps"
            continue
        if packet.is_keyframe:
            refreshes = reorders and not is_whole_intra(bytes(packet), extradata)
            (packets.refreshes if refreshes else packets.keys).append(packet.pts)
        if not packet.is_discard:
            packets.pts.append(packet.pts)
    if len(set(packets.pts)) != len(packets.pts) or (packets.pts and not packets.keys):
        packets.times_problem = "no usable timestamps"
    if listed and not packets.cut_short and places != listed[: len(places)]:
        packets.times_problem = "its index disagrees with its frames"
    if format.startswith(("mov", "avi")) and _listed_frames(stream, total) > total:
        packets.cut_short = True
    return packets


def _listed_frames(stream: av.video.stream.VideoStream, total: int) -> int:
    """How many frames the file's own list has, to be compared with those that were read.

    Some writers list an empty one at the end, or where a frame was dropped: it is none that is
    missing. The list is gone through only where it is too long.
    """
    listed = len(stream.index_entries)
    return listed if listed <= total else sum(entry.size > 0 for entry in stream.index_entries)


def _until_unreadable(read: Iterator[av.Packet], packets: _Packets) -> Iterator[av.Packet]:
    """All packets, up to where the container cannot be read on. Raises av.error.FFmpegError where
    that is its first."""
    for number in count():
        try:
            packet = next(read, None)
        except av.error.FFmpegError:
            if not number:
                raise
            packets.cut_short = packets.cut_behind = True
            return
        if packet is None:
            return
        yield packet


def _avi_index(stream: av.video.stream.VideoStream) -> list[tuple[int, int]]:
    """The time and position of each packet by an AVI's own index.

    AVI frames carry no times: reading on counts frames, and after seeking the index counts. Where
    damage makes these disagree, seeking would give other frames.
    """
    return [(entry.timestamp, entry.pos + AVI_CHUNK_HEADER) for entry in stream.index_entries]


def _pair_fields(path: str, packets: _Packets, first: av.VideoFrame, field_order: int) -> bool:
    """Whether some frames are two packets, one a field; the packets' times are then the frames'.

    So it is in broadcast: H.264 or MPEG-2 that codes fields as pictures of their own. Which are
    pairs only decoding tells.
    """
    if not (first.interlaced_frame or field_order > 1):
        return False
    shown = shown_times(path, FIRST_FIELDS)
    seen = [time for time in packets.pts if shown and min(shown) <= time <= max(shown)]
    if len(seen) < len(shown) * 1.25:
        return False
    times = sorted(shown_times(path, None))
    if len(set(times)) != len(times) or not set(times) <= set(packets.pts):
        packets.times_problem = "its fields have times that its frames do not have"
        return False
    packets.pts = times
    packets.keys = [time for time in packets.keys if time in set(times)]
    return True


def _times_contradict(path: str, pts: list[int], reorders: bool) -> bool:
    """Whether frames come out in another order than that of their times.

    pts: the times in decoding order.
    So it is where parts of different origin were joined, or where a program wrote B-frames with
    their times of decoding only. reorders: what the stream says about itself.
    """
    moved = int(np.abs(np.argsort(pts, kind="stable") - np.arange(len(pts))).max(initial=0))
    if moved > LARGEST_REORDERING:
        return True
    # Only where the times and the stream tell different stories are frames decoded to see which is
    # true.
    return (moved > 0) != reorders and not _come_out_in_order(path)


def _come_out_in_order(path: str) -> bool:
    """Whether the first frames come out in the order of their times.

    An error among them says nothing here: that is for _decode to tell.
    """
    last = None
    container, stream = open_decoder(path)
    with container, suppress(av.error.FFmpegError):
        for packet in islice(container.demux(stream), 100):
            for frame in stream.codec_context.decode(packet if packet.size else None):
                if None not in (last, frame.pts) and frame.pts < last:
                    return False
                last = frame.pts if frame.pts is not None else last
    return True


def _decode(path: str, count_all: bool) -> tuple[av.VideoFrame, int]:
    """The first frame and, if `count_all`, how many frames decoding the whole file gives."""
    first, total, problem = None, 0, "it holds no frame"
    container, stream = open_decoder(path)
    with container:
        try:
            for packet in container.demux(stream):
                try:
                    frames = stream.codec_context.decode(packet if packet.size else None)
                except av.error.FFmpegError as error:
                    problem = reason(error)
                    if not packet.size:
                        break
                    continue
                total += len(frames)
                first = first or (frames[0] if frames else None)
                if first is not None and not count_all:
                    break
        except av.error.FFmpegError as error:
            problem = reason(error)
    if first is None:
        raise ReadError(f"{path}: cannot decode ({problem})")
    return first, total


def is_full_range(frame: av.VideoFrame) -> bool:
    return int(frame.color_range) == 2 or frame.format.name.startswith("yuvj")


def orientation_of(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """The display matrix of a frame as (transpose, flip rows, flip columns)."""
    try:
        kinds = list(frame.side_data)
    except (ValueError, KeyError):
        # PyAV refuses all of it where one kind is newer than its list; the angle it reads alone.
        return ORIENTATION_OF_ANGLE.get(round(frame.rotation) % 360, (False, False, False))
    for data in kinds:
        if data.type.name == "DISPLAYMATRIX":
            # Of the 3x3 matrix only the four numbers that turn and mirror count: a b / c d.
            a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5]
            if abs(int(b)) > abs(int(a)):
                return True, bool(b < 0), bool(c < 0)
            return False, bool(d < 0), bool(a < 0)
    return False, False, False
