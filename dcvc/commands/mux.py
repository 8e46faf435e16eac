"""Put a dcvc stream and the sound of its video into one file: dcvc mux out.dcvc in.mp4 -o out.mkv.

Nothing is coded anew. dcvc decode out.mkv final.mp4 makes a video with sound of it.
"""

import argparse
import contextlib
import dataclasses
import sys
from fractions import Fraction
from typing import TYPE_CHECKING

from dcvc.codec.stream_parts import StreamParts, cut_stream
from dcvc.commands.messages import told
from dcvc.commands.options import open_stream_file, start_frame
from dcvc.commands.output import MUXED, add_overwrite, check_target
from dcvc.errors import InputError

if TYPE_CHECKING:
    from dcvc.video.frame_times import FrameTimes
    from dcvc.video.picture_tags import PictureTags
    from dcvc.video.source_video import SourceVideo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", help="the stream (.dcvc, or .mkv of this command)")
    parser.add_argument("video", help="the video that it was made of, with the sound")
    parser.add_argument("--start", metavar="TIME", default="0",
                        help="where in the video a stream of dcvc cut begins: the --start of the cut")
    # How many frames there are shows in the stream.
    parser.set_defaults(frames=None)
    parser.add_argument("-o", "--output", required=True, help="the Matroska file to write (.mkv)")
    add_overwrite(parser)


def run(options: argparse.Namespace) -> int | None:
    from dcvc.video.copied_tracks import CopiedTracks
    from dcvc.video.matroska import CodedTrack, Record, output_name, write_matroska
    from dcvc.video.source_video import describe_source

    target = output_name(options.output)
    check_target(options, "output", MUXED, path=target)
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_stream_file(options.input))
        parts = cut_stream(opened.file, opened.name)
        header, source = parts.header, describe_source(options.video)
        place = _place(options, parts, source)
        tags, more = _tags(options, header.width, header.height, source)
        tracks = stack.enter_context(CopiedTracks(options.video, source.start + place.begin))
        track = CodedTrack(header.to_bytes(), header.width, header.height, header.fps, place.times,
                           tags)
        count = write_matroska(target, track, (Record(*part) for part in parts), tracks,
                               place.until)
        left_out = [f"{what}: Matroska cannot hold them, left out" for what in tracks.left_out]
        if parts.unfinished:
            more.insert(0, f"{parts.unfinished}, and alone in {target}; dcvc cut makes a stream with "
                           "an end of them")
        for note in (*place.notes, *more, *left_out):
            print(told(f"note: {note}"), file=sys.stderr)
        sound = (f"{tracks.sounds} audio track{'s' * (tracks.sounds > 1)}" if tracks.sounds
                 else f"no sound ({options.video} has none)")
        print(told(f"{target}: {count} frames, {sound}, {target.stat().st_size} bytes"))
    return 0


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a stream lies in its source. times: of its frames; begin: what of the source's time is
    left out before them; until: where the sound ends if before its file; in seconds."""

    times: "FrameTimes"
    begin: Fraction
    until: Fraction | None
    notes: list[str]


def _place(options: argparse.Namespace, parts: StreamParts, source: "SourceVideo") -> _Place:
    """A stream of the source's rate has its frames, one by one, at their times, however uneven. One
    of another rate was made of converted frames; these are even. Raises InputError where the stream
    is longer than what the source has from --start on."""
    from dcvc.video.frame_times import FrameTimes

    start, count, fps = start_frame(options, parts.header.fps), parts.shown, parts.header.fps
    notes = []
    if fps == source.fps:
        total = len(source.times)
        if start + count > total:
            raise InputError(f"{options.input}: found {count} frames, {options.video} has "
                             f"{max(total - start, 0)}{' from there on' * bool(start)}; give the "
                             "video that the stream was made of")
        times, shorter = source.times.part(start, count), start + count < total
        if not source.counted and times.evened(fps) is times:
            notes.append(f"{options.video} shows its frames at uneven times; the stream's frames "
                         "get the same times")
        if count < total:
            notes.append(f"{options.input} has {count} of the {total} frames of {options.video}; it "
                         "gets the sound of these")
    else:
        times = FrameTimes.even(fps, count, source.times[0] + start / fps)
        notes.append(f"{options.input} has {fps} frames a second, {options.video} {source.fps}; the "
                     "stream's frames are shown evenly")
        # Conversion of a frame rate may add or lose a frame at the end.
        late, slack = times.end(fps) - source.times.end(source.fps), max(1 / fps, 1 / source.fps)
        if late > slack:
            raise InputError(f"{options.input}: ends {_seconds(late)} after {options.video}; give "
                             "the video that the stream was made of")
        shorter = late < -slack
        if shorter:
            notes.append(f"{options.input} ends {_seconds(-late)} before {options.video}; the sound "
                         "ends with it")
    begin = times[0] if start else Fraction(0)
    times = times.earlier(begin)
    return _Place(times, begin, times.end(fps) if shorter else None, notes)


def _seconds(time: Fraction) -> str:
    return f"{float(time):.2f} s"


def _tags(options: argparse.Namespace, width: int, height: int,
          source: "SourceVideo") -> "tuple[PictureTags, list[str]]":
    """The source's tags, for pictures of this size, and notes."""
    size, shown = (width, height), (source.width, source.height)
    if size == shown:
        return source.tags, []
    if size == source.stored:
        raise InputError(f"{options.input}: found {width}×{height}, {options.video} is shown turned, "
                         f"{source.width}×{source.height}; code upright pictures, as dcvc encode "
                         "and ffmpeg without -noautorotate make them")
    # A scaled picture is shown in the shape of the source.
    aspect = source.tags.aspect * Fraction(*shown) / Fraction(*size)
    note = (f"{options.input} is {width}×{height}, {options.video} {source.width}×{source.height}; "
            "the pictures are shown in the same shape")
    return dataclasses.replace(source.tags, aspect=aspect), [note]
