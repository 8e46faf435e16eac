"""Decode a dcvc stream: dcvc decode out.dcvc out.mp4 [--model MODEL].

The output is a video (.mp4, .mkv, .y4m), a folder of PNG files, or y4m on stdout (-); the stream may
come from stdin (-). The sound of a file that dcvc mux made goes into .mp4 and .mkv as it is.
"""

import argparse
import contextlib
import sys
from fractions import Fraction
from itertools import islice
from pathlib import Path

from dcvc.codec.drift import Drift
from dcvc.codec.stream_reader import StreamReader
from dcvc.commands.arguments import add_device, add_flag
from dcvc.commands.messages import told
from dcvc.commands.options import (
    PIPE,
    add_model,
    add_range,
    codec_from,
    open_stream_file,
    start_frame,
)
from dcvc.commands.output import DECODED, add_overwrite, check_target, progress_bar
from dcvc.errors import DcvcError, InputError
from dcvc.models.catalog import model_of_weights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", help="the stream (.dcvc, or .mkv of dcvc mux), or - (stdin)")
    parser.add_argument("output",
                        help="a .mp4, .mkv or .y4m file, a new folder for PNG files, or - (y4m on stdout)")
    add_overwrite(parser)
    add_model(parser, meaning="the model here that made the stream")
    parser.add_argument("--crf", type=int,
                        help="lossy H.264 of this quality (default: lossless RGB H.264)")
    add_range(parser)
    add_flag(parser, "keep_going", False,
             "where the stream is damaged, keep the frames before the damage")
    add_flag(parser, "strict", False,
             "stop at the first frame that is not the encoder's to the last bit, even where the stream "
             "can be read on")
    add_device(parser)
    add_flag(parser, "quiet", False, "no progress bar")


def _model_of(reader: StreamReader) -> str:
    """The name of the model that made a stream. Raises InputError where it is not here."""
    header = reader.header
    name = model_of_weights(header.inter_hash.hex(), header.intra_hash.hex())
    if name is None:
        raise InputError(f"{reader.name}: made with weights {header.inter_hash.hex()}, which no model "
                         "here has; give the model that made it with --model")
    return name


@contextlib.contextmanager
def _beside(options: argparse.Namespace, muxed, fps: Fraction, start: int):
    """What goes into the output beside the pictures from frame `start` on; None for a stream without
    company. Says so where there is sound and no room for it."""
    from dcvc.video.copied_tracks import CopiedTracks
    from dcvc.video.outputs import Beside, holds_sound

    if muxed is None or not start < len(muxed.times):
        # A start beyond the end is for the stream's reader to report.
        yield None
        return
    whole = muxed.times.evened(fps)
    # The picture that was asked for is shown at once, and the sound before it is left out.
    begin = whole[start] if start else Fraction(0)
    times = whole.part(start, options.frames).earlier(begin)
    with CopiedTracks(muxed.path, begin) as tracks:
        if tracks.sounds and not holds_sound(options.output):
            print(f"{options.output}: the sound of {muxed.path} is left out; .mp4, .mkv and .mov "
                  "hold it", file=sys.stderr)
        until = times.end(fps) if start + len(times) < len(whole) else None
        yield Beside(times, muxed.tags, tracks, until)
        for what in tracks.left_out:
            print(f"{options.output}: cannot hold {what}, left out", file=sys.stderr)


def _tell_drift(name: str, drift: Drift) -> None:
    if drift.differing:
        print(told(f"note: {name}: {drift.differing} of {drift.compared} frames are not the encoder's to the "
                   f"last bit, the first is frame {drift.first}: this machine computes other numbers (another "
                   "processor, GPU or library); --strict stops there, and dcvc encode --exact makes streams "
                   "that are the same everywhere"), file=sys.stderr)


def run(options: argparse.Namespace) -> int | None:
    from dcvc.video.outputs import open_output, write_frames

    if options.output != PIPE:
        # A name without suffix is a folder of pictures, which is checked when it is opened.
        check_target(options, "output", DECODED, folder=not Path(options.output).suffix)
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_stream_file(options.input))
        reader = StreamReader(opened.file, opened.name)
        header = reader.header
        if options.model is None:
            options.model = _model_of(reader)
        codec = codec_from(options)
        codec.check(header, reader.name)
        start, total = start_frame(options, header.fps), header.frames or None
        if options.frames is not None or start:
            total = options.frames
        beside = stack.enter_context(_beside(options, opened.muxed, header.fps, start))
        output = open_output(options.output, (header.height, header.width), header.fps, options.crf,
                             beside)
        drift = Drift()
        # Of a few frames that are asked for, others would be decoded meanwhile for nothing.
        at_once = options.output != PIPE and options.frames is None
        decoded = codec.decode(reader, start, None if options.strict else drift, at_once)
        frames = islice(decoded, options.frames)
        frames = progress_bar(options, "frame", "decode")(frames, total)
        try:
            write_frames(frames, output, options.keep_going)
        except DcvcError as error:
            if hasattr(error, "frames_written"):
                of = f" of {header.frames}" if header.frames else ""
                print(f"{options.output}: {error.frames_written}{of} frames written",
                      file=sys.stderr)
            raise
        finally:
            _tell_drift(reader.name, drift)
    return 0
