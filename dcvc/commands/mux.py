"""Put a dcvc stream and the sound of its video into one file: dcvc mux out.dcvc in.mp4 -o out.mkv.

Nothing is coded anew. dcvc decode out.mkv final.mp4 makes a video with sound of it.
"""

import argparse
import contextlib
import dataclasses
import sys
from fractions import Fraction

from dcvc.codec.stream_parts import StreamParts, cut_stream
from dcvc.commands.options import open_stream_file, refuse_own_input
from dcvc.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", help="the stream (.dcvc, or .mkv of this command)")
    parser.add_argument("video", help="the video that it was made of, with the sound")
    parser.add_argument("-o", "--output", required=True, help="the Matroska file to write (.mkv)")


def run(options: argparse.Namespace) -> int | None:
    from dcvc.video.copied_tracks import CopiedTracks
    from dcvc.video.matroska import CodedTrack, Record, output_name, write_matroska
    from dcvc.video.source_video import describe_source

    target = output_name(options.output)
    refuse_own_input(target, options.input, options.video)
    with contextlib.ExitStack() as stack:
        parts = cut_stream(stack.enter_context(open_stream_file(options.input))[0], options.input)
        header, source = parts.header, describe_source(options.video)
        tracks = stack.enter_context(CopiedTracks(options.video, source.start))
        times, until, notes = _times(options, parts, source)
        tags, more = _tags(options, header.width, header.height, source)
        track = CodedTrack(header.to_bytes(), header.width, header.height, header.fps, times, tags)
        count = write_matroska(target, track, (Record(*part) for part in parts), tracks, until)
        left_out = [f"{what}: Matroska cannot hold them, left out" for what in tracks.left_out]
        for note in (*notes, *more, *left_out):
            print(f"note: {note}", file=sys.stderr)
        sound = (f"{tracks.sounds} audio track{'s' * (tracks.sounds > 1)}" if tracks.sounds
                 else f"no sound ({options.video} has none)")
        print(f"{target}: {count} frames, {sound}, {target.stat().st_size} bytes")
    return 0


def _times(options: argparse.Namespace, parts: StreamParts, source):
    """When the stream's frames are shown, where the sound ends if before its file, and notes.

    A stream of the source's rate has its frames, one by one, at their times, however uneven. One of
    another rate was made of converted frames; these are even, and begin with the source.
    """
    from dcvc.video.frame_times import FrameTimes

    count, fps = len(parts.records), parts.header.fps
    whole = source.times.end(source.fps)
    if fps == source.fps:
        if count > len(source.times):
            raise InputError(f"{options.input}: found {count} frames, {options.video} has "
                             f"{len(source.times)}; give the video that the stream was made of")
        times, notes = source.times.first(count), []
        if not source.counted and times.evened(fps) is times:
            notes.append(f"{options.video} shows its frames at uneven times; the stream's frames "
                         "get the same times")
        if count < len(source.times):
            notes.append(f"{options.input} has {count} of the {len(source.times)} frames of "
                         f"{options.video}; the sound ends with them")
            return times, times.end(fps), notes
        return times, None, notes
    times = FrameTimes.even(fps, count, source.times[0])
    notes = [f"{options.input} has {fps} frames a second, {options.video} {source.fps}; the "
             "stream's frames are shown evenly"]
    # Conversion of a frame rate may add or lose a frame at the end.
    slack = max(1 / fps, 1 / source.fps)
    if times.end(fps) > whole + slack:
        raise InputError(f"{options.input}: lasts {_seconds(times.end(fps) - times[0])}, "
                         f"{options.video} {_seconds(whole - times[0])}; give the video that the "
                         "stream was made of")
    if times.end(fps) < whole - slack:
        notes.append(f"{options.input} ends {_seconds(whole - times.end(fps))} before "
                     f"{options.video}; the sound ends with it")
        return times, times.end(fps), notes
    return times, None, notes


def _seconds(time: Fraction) -> str:
    return f"{float(time):.2f} s"


def _tags(options: argparse.Namespace, width: int, height: int, source):
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
