"""A coded stream as a track of a Matroska file, beside the sound of the video it was made of.

    stream      header | record 0 | record 1 | hidden | record 2 | …             one file, .dcvc
    track       CodecPrivate: header
                block 0: record 0    block 1: record 1    block 2: hidden, record 2    …

Every block is one picture that is shown, and has its time. Records that show nothing go with the
next one that does, the last of them with the last picture. So header and blocks, one behind the
other, are the stream again, byte for byte. What a record means is nobody's business here; a file
that was damaged is found by the stream's own checksums.

Matroska has a place for codecs that it has no name for: V_MS/VFW/FOURCC, with a code of four letters
in a bitmap header. Ours is DCVC. FFmpeg finds no decoder for it, so players show no picture, but
they open the file and play its sound. In memory FFmpeg wants a codec with a number of its own: it
is told the one of a codec that has no name in Matroska either, and nothing of that is written.
"""

import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, NamedTuple

import av
import numpy as np
from av.bitstream import BitStreamFilterContext

from dcvc.errors import InputError, MissingError, ReadError
from dcvc.files import replaced
from dcvc.video.container import open_container, whole_packets
from dcvc.video.copied_tracks import CopiedTracks
from dcvc.video.frame_times import ROUNDING, FrameTimes
from dcvc.video.matroska_aspect import ROOM, set_display_aspect
from dcvc.video.picture_tags import PictureTags

# The first bytes of every Matroska file.
MATROSKA = b"\x1a\x45\xdf\xa3"
FOURCC = "DCVC"
# A codec with a name in Matroska, so that PyAV makes the track, and one without.
NAMED, NAMELESS = "mjpeg", "zmbv"
# "unofficial" allows a code of our own. Sound of AAC begins a little before time 0; FFmpeg would
# move everything else back for it, but a block may be earlier than the cluster it lies in.
OPTIONS = {"strict": "unofficial", "avoid_negative_ts": "disabled"}

# Milliseconds: how much earlier than its cluster a block may be.
EARLIEST = -(1 << 15)


class Record(NamedTuple):
    """A piece of a stream. number: of its frame; hidden: it shows no picture."""

    data: bytes
    number: int
    keyframe: bool
    hidden: bool = False


@dataclass(frozen=True)
class CodedTrack:
    """header: the stream's. width, height in pixels. times: of its frames, by their numbers."""

    header: bytes
    width: int
    height: int
    fps: Fraction
    times: FrameTimes
    tags: PictureTags


@dataclass(frozen=True)
class MuxedStream:
    """What `read_matroska` found. file: the stream, byte for byte, at its beginning; times: of the
    pictures, in whole milliseconds. Closing the file is the caller's."""

    path: str
    file: BinaryIO
    times: FrameTimes
    tags: PictureTags


def is_matroska(path: str | os.PathLike) -> bool:
    """Whether a file begins like one. False for a file that cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MATROSKA)) == MATROSKA
    except OSError:
        return False


def holds_stream(path: str | os.PathLike) -> bool:
    """Whether a file is one of `write_matroska`. False for a file that cannot be read."""
    try:
        with open_container(os.fspath(path)) as container:
            _find_track(container, os.fspath(path))
    except (ReadError, MissingError):
        return False
    return True


def write_matroska(path: str | os.PathLike, track: CodedTrack, records: Iterable[Record],
                   tracks: CopiedTracks, until: Fraction | None = None) -> int:
    """Write `records` as the first track, the copied ones beside it -> how many pictures.

    until: seconds at which the sound ends; None: with its file. The file has its name when all is
    written. Raises InputError for sound that Matroska cannot hold and for a stream without
    pictures, ReadError where the file cannot be written.
    """
    pictures, stamp = 0, EARLIEST
    with replaced(path) as partial:
        with av.open(str(partial), "w", format="matroska", options=OPTIONS) as container:
            stream = _add_track(container, track)
            tracks.add_to(container, os.fspath(path))
            for block in _blocks(records):
                time = track.times[block.number]
                # Packets come in the order of time, and FFmpeg sorts what is close together.
                tracks.write_until(time if until is None else min(time, until))
                # Two pictures within a millisecond are shown one after the other all the same.
                stamp = max(round(time / ROUNDING), stamp + 1)
                container.mux(_packet(stream, block, stamp, track))
                pictures += 1
            tracks.write_until(until)
        set_display_aspect(partial, track.tags.aspect * track.width / track.height)
    return pictures


def _blocks(records: Iterable[Record]) -> Iterator[Record]:
    """One for each shown picture, with the hidden records around it."""
    shown, hidden = None, b""
    for record in records:
        if record.hidden:
            hidden += record.data
            continue
        # Held back until the next picture: what is hidden at the end belongs to the last one.
        if shown is not None:
            yield shown
        shown, hidden = record._replace(data=hidden + record.data), b""
    if shown is None:
        raise InputError("stream: found no picture, needed at least one")
    yield shown._replace(data=shown.data + hidden)


def _add_track(container: av.container.OutputContainer,
               track: CodedTrack) -> av.video.stream.VideoStream:
    with _scratch() as scratch:
        named, nameless = scratch.add_stream(NAMED), scratch.add_stream(NAMELESS)
        stream = container.add_stream_from_template(named, opaque=True)
        # The filter does nothing, but on its way it copies what a stream is.
        BitStreamFilterContext("null", nameless, stream)
    context = stream.codec_context
    context.codec_tag, context.extradata = FOURCC, track.header
    context.width, context.height, context.framerate = track.width, track.height, track.fps
    track.tags.write_to(context)
    stream.time_base = ROUNDING
    stream.metadata["title"] = ROOM
    return stream


def _packet(stream: av.video.stream.VideoStream, block: Record, stamp: int,
            track: CodedTrack) -> av.Packet:
    packet = av.Packet(block.data)
    packet.stream, packet.time_base = stream, ROUNDING
    packet.pts = packet.dts = stamp
    packet.duration = round(1 / track.fps / ROUNDING)
    packet.is_keyframe = block.keyframe
    return packet


def read_matroska(path: str | os.PathLike) -> MuxedStream:
    """The stream in a file of `write_matroska`, copied into a temporary file.

    Raises MissingError, ReadError. What damage left is read as far as it goes: whoever reads the
    stream will miss the rest.
    """
    path = os.fspath(path)
    with open_container(path) as container:
        stream, context = _find_track(container, path)
        tags = PictureTags.of(context, stream.sample_aspect_ratio)
        unit, stamps = stream.time_base, []
        try:
            # A file, since a stream may be larger than the memory, and its readers may seek.
            with ExitStack() as opened:
                file = opened.enter_context(tempfile.TemporaryFile())
                file.write(context.extradata or b"")
                for packet in whole_packets((container, stream)):
                    stamps.append(packet.dts if packet.pts is None else packet.pts)
                    file.write(packet)
                file.seek(0)
                # Nothing went wrong: the file stays open for the caller.
                opened.pop_all()
        # Closing a file writes what is left of it, and may fail as well.
        except OSError as error:
            raise ReadError(f"{path}: its stream cannot be copied to {tempfile.gettempdir()} "
                            f"({error.strerror}); free space or set TMPDIR") from None
    late = np.flatnonzero(np.diff(stamps) <= 0)
    if len(late):
        file.close()
        raise ReadError(f"{path}: frame {late[0] + 1}: found {stamps[late[0] + 1]} ms, needed later "
                        f"than {stamps[late[0]]} ms, the time of the frame before; the file is "
                        "damaged")
    return MuxedStream(path, file, FrameTimes(np.array(stamps, np.int64), unit), tags)


def _find_track(container: av.container.InputContainer, path: str
                ) -> tuple[av.video.stream.VideoStream, av.VideoCodecContext]:
    """Our track and what it is; other tracks are discarded. Raises ReadError where there is none."""
    chosen, found = None, []
    for stream in container.streams:
        context = stream.codec_context
        if chosen is None and stream.type == "video" and context is None:
            context = _description(stream)
            if _code(context) == FOURCC:
                chosen = stream, context
                continue
        found.append(f"{stream.type} {context.name if context else ''}".strip())
        stream.discard = av.stream.Discard.all
    if chosen is None:
        raise ReadError(f"{path}: found {', '.join(found) or 'nothing'}, needed a track with the "
                        f"code {FOURCC}; dcvc mux makes such files")
    return chosen


def _description(stream: av.video.stream.VideoStream) -> av.VideoCodecContext:
    """What a stream without a decoder is: PyAV shows it of streams with a codec only."""
    with _scratch() as scratch:
        copy = scratch.add_stream(NAMELESS)
        BitStreamFilterContext("null", stream, copy)
        return copy.codec_context


def _code(context: av.VideoCodecContext) -> str:
    try:
        return context.codec_tag
    except UnicodeDecodeError:
        return ""


def _scratch() -> av.container.OutputContainer:
    """A place for streams that only describe something; nothing is written to it."""
    return av.open(io.BytesIO(), "w", format="null")


def output_name(path: str) -> Path:
    """The path of a Matroska file to be written. Raises InputError for another suffix."""
    if Path(path).suffix.lower() != ".mkv":
        raise InputError(f"{path}: found suffix '{Path(path).suffix}', needed .mkv")
    return Path(path)
