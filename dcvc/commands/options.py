"""Options that several commands share, each spelled once: codecs, sequences, sources of videos.

`add_…` declares options, `…_from` reads what they say. torch and the codecs are imported in the
functions that need them, so that the other commands, and --help, start at once.
"""

import argparse
import contextlib
import dataclasses
import math
import os
import re
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dcvc.codec.stream_reader import StreamReader
from dcvc.commands.arguments import add_flag, add_options, read_options
from dcvc.config import flag_of, nearest
from dcvc.errors import InputError, MissingError, ReadError
from dcvc.evaluation.metric_names import METRICS, USUAL, chosen_metrics
from dcvc.intra.config import IntraConfig
from dcvc.models.catalog import DEFAULT_MODEL, STREAM_MODELS, model_folders
from dcvc.video.block_cache import FOLDER as CACHE_FOLDER
from dcvc.video.block_cache import LIMIT as CACHE_LIMIT

if TYPE_CHECKING:
    from dcvc.video.matroska import MuxedStream

# Those that choose an I-frame codec; --weights is also of other files.
INTRA_FLAGS = tuple(flag_of(field) for field in dataclasses.fields(IntraConfig)
                    if field.name != "weights")
# What stands for stdin or stdout in the place of a file.
PIPE = "-"
INTRA_PERIOD = 10       # frames, as the field's tables have it
SOURCES = "folders of videos, tar files, video files, .txt lists of paths, an index, or URLs of these"


def add_sources(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("video_dir", nargs="+", metavar="DIR", help=SOURCES)
    add_video_access(parser)


def add_video_access(parser: argparse._ActionsContainer) -> None:
    """--stream_model, --cache_dir and --cache_gb, for commands whose videos may be dcvc streams or
    lie elsewhere."""
    parser.add_argument("--stream_model", nargs="+", metavar="MODEL",
                        help="what decodes .dcvc streams among the videos (default: the models here "
                             "that made them)")
    parser.add_argument("--cache_dir", metavar="DIR",
                        help="where parts of videos from URLs are kept (default: the user's cache "
                             "folder)")
    parser.add_argument("--cache_gb", type=float, metavar="GB",
                        help="how much of them at most, in gigabytes (default: 10)")


@contextlib.contextmanager
def video_access_told(options: argparse.Namespace) -> Iterator[None]:
    """What the options of add_video_access say holds inside, for processes that are started there
    as well."""
    folder, limit = getattr(options, "cache_dir", None), getattr(options, "cache_gb", None)
    if limit is not None and not limit >= 0:
        raise InputError(f"--cache_gb: found {limit:g}, needed 0 or more")
    given = {STREAM_MODELS: os.pathsep.join(getattr(options, "stream_model", None) or ()),
             CACHE_FOLDER: folder and os.path.abspath(folder),
             CACHE_LIMIT: "" if limit is None else str(limit)}
    given = {name: value for name, value in given.items() if value}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def add_training_sources(parser: argparse._ActionsContainer, required: bool = True) -> None:
    parser.add_argument("--train_video_dir", "--videos", dest="train_video_dir", nargs="+",
                        required=required, default=[], help=f"videos to train on: {SOURCES}")
    add_video_access(parser)


def add_intra(group: argparse._ActionsContainer, default_type: str | None = "light") -> None:
    """The options of an I-frame codec, as IntraConfig declares them. default_type None: no codec
    unless --i_frame_type is given."""
    from dcvc.intra.registry import i_frame_names

    unless = f"; light: that of the model {DEFAULT_MODEL} unless another one is named"
    add_options(group, IntraConfig, type={
        "choices": i_frame_names(), "default": default_type,
        "help": f"which kind of I-frame codec{unless}"})


def intra_from(options: argparse.Namespace) -> IntraConfig | None:
    """None where no kind of I-frame codec is given and none is the default."""
    if not options.i_frame_type:
        return None
    values = read_options(IntraConfig, options)
    values["type"] = _kind_of_intra(options)
    # The configuration's own default is a model of the zoo.
    if values["type"] == "light" and "i_frame_model_name" not in options.given:
        values["model_name"] = DEFAULT_MODEL
    return IntraConfig(**values)


def _kind_of_intra(options: argparse.Namespace) -> str:
    """--i_frame_type; where it is not given, what the other options are of. The zoo was the default
    once, so commands of that time name its model, quality or file alone."""
    if "i_frame_type" in options.given or not options.given & set(INTRA_FLAGS):
        return options.i_frame_type
    if options.given & {"vqgan_config", "vqgan_checkpoint"}:
        return "vqgan"
    named = "i_frame_model_name" in options.given
    ours = options.i_frame_model_name in model_folders() if named else options.i_frame_size
    return "light" if ours else "compressai"


def add_p_frame(group: argparse._ActionsContainer) -> None:
    """--codec and --model_size, for a P-frame codec that starts from random weights."""
    from dcvc.inter.registry import DEFAULT_CODEC, codec_entry, codec_names

    entries = [codec_entry(name) for name in codec_names()]
    sizes = list(dict.fromkeys(name for entry in entries for name in entry.sizes))
    old_sizes = [name for entry in entries for name in entry.old_sizes]
    group.add_argument("--codec", choices=codec_names(), default=DEFAULT_CODEC,
                       help="which P-frame codec, where it starts from random weights")
    # Old spellings are taken, but not advertised.
    group.add_argument("--model_size", choices=(*sizes, *old_sizes),
                       metavar="{" + ",".join(sizes) + "}",
                       help="size of its networks (default: the published one)")


def add_model(parser: argparse.ArgumentParser, default: str | None = None,
              meaning: str = "none") -> None:
    """--model, and the I-frame codec for checkpoints that name none. default, meaning: what is taken
    where it is not given, and what the help says of that."""
    parser.add_argument("--model", default=default, metavar="MODEL",
                        help="a model by name (dcvc models lists them), a run folder or a checkpoint "
                             f"file (default: {default or meaning})")
    purpose = "for checkpoints that name none, or to take another one"
    add_intra(parser.add_argument_group(f"I-frame codec ({purpose})"), default_type=None)


def codec_from(options: argparse.Namespace):
    """The VideoCodec that --model and the I-frame options name, on --device."""
    from dcvc.checkpoint import load_codec
    from dcvc.device import choose_device

    return load_codec(options.model, choose_device(options.device), intra_from(options),
                      weights=options.weights)


@contextlib.contextmanager
def open_stream(path: str) -> Iterator[StreamReader]:
    """The reader of the stream that a command is given, - of that on stdin. Raises MissingError,
    ReadError, BitstreamError."""
    with open_stream_file(path) as opened:
        yield StreamReader(opened.file, opened.name)


@dataclasses.dataclass(frozen=True)
class StreamFile:
    """The bytes of a stream and its name in messages; muxed: what stands beside it in a Matroska
    file, None elsewhere."""

    file: BinaryIO
    name: str
    muxed: "MuxedStream | None" = None


@contextlib.contextmanager
def open_stream_file(path: str) -> Iterator[StreamFile]:
    """- is stdin. Raises MissingError, ReadError."""
    from dcvc.video.matroska import is_matroska, read_matroska

    if path == PIPE:
        yield StreamFile(sys.stdin.buffer, "stdin")
        return
    with contextlib.ExitStack() as stack:
        if is_matroska(path):
            muxed = read_matroska(path)
            yield StreamFile(stack.enter_context(muxed.file), path, muxed)
            return
        try:
            file = stack.enter_context(open(path, "rb"))
        except FileNotFoundError:
            raise MissingError(f"{path}: no such stream") from None
        except OSError as error:
            raise ReadError(f"{path}: cannot be read ({error.strerror})") from None
        yield StreamFile(file, path)


def add_exact(parser: argparse._ActionsContainer) -> None:
    add_flag(parser, "exact", None,
             "compute by arithmetic that never rounds: every machine decodes the same pictures (default: where the "
             "model has ranges for it, as light-s and light-m have; DCVC-2021 and uf-ld can, too); --no-exact computes "
             "in floats: about 1.6 times as fast, but another machine's pictures may differ in last bits")


def add_intra_period(parser: argparse._ActionsContainer, default: str = "10") -> None:
    parser.add_argument("--intra_period", "--gop_size", dest="intra_period", type=int, metavar="N",
                        help=f"an I-frame every N frames, -1: only the first (default: {default}); "
                             "--gop_size is the old name")


def intra_period_from(options: argparse.Namespace, frames: int,
                      default: int = INTRA_PERIOD) -> int:
    """frames: of the longest sequence. -1 means one I-frame, which is a period of as many frames."""
    period = default if options.intra_period is None else options.intra_period
    if period == -1:
        return frames
    if period < 1:
        raise InputError(f"--intra_period (or --gop_size): found {period}, needed at least 1, or -1 "
                         "for one I-frame")
    return period


def add_qualities(parser: argparse._ActionsContainer, help: str) -> None:
    parser.add_argument("--qualities", type=float, nargs="+", metavar="Q", help=help)


def add_refresh(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--refresh", type=int, metavar="N",
                        help="start anew from the shown picture N, 2N … frames after an I-frame, for "
                             "models that remember more than it (default: never)")


def add_range(parser: argparse.ArgumentParser) -> None:
    """--start and --frames, of a stream."""
    parser.add_argument("--start", metavar="TIME", default="0",
                        help="where to begin: HH:MM:SS.sss, seconds, or a frame's number with an f "
                             "behind it (1750f)")
    parser.add_argument("--frames", type=int, metavar="N", help="how many frames (default: all)")


def start_frame(options: argparse.Namespace, fps: Fraction) -> int:
    """The first frame that is shown at --start or later. Raises InputError for what is no time."""
    text, frames = options.start, options.frames
    if frames is not None and frames < 1:
        raise InputError(f"--frames: found {frames}, needed at least 1")
    if re.fullmatch(r"\d+f", text):
        return int(text[:-1])
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d+)?", text):
        raise InputError(f"--start: found {text!r}, needed HH:MM:SS.sss, seconds, or a frame such as "
                         "1750f")
    seconds = Fraction(0)
    for part in text.split(":"):
        seconds = 60 * seconds + Fraction(part)
    return math.ceil(seconds * fps)


def add_lpips(parser: argparse._ActionsContainer, purpose: str) -> None:
    parser.add_argument("--lpips_weights", nargs="+", default=[], metavar="FILE",
                        help=f"{purpose}: one file of the whole network, or one of the classifier "
                             "(AlexNet or VGG16) and one of the heads")


def add_dists(parser: argparse._ActionsContainer, purpose: str) -> None:
    parser.add_argument("--dists_weights", nargs="+", default=[], metavar="FILE",
                        help=f"{purpose}: a file of VGG16 and one of alpha and beta")


def lpips_from(options: argparse.Namespace) -> tuple[str, ...]:
    """The files, which exist."""
    return _weights_from("--lpips_weights", options.lpips_weights)


def dists_from(options: argparse.Namespace) -> tuple[str, ...]:
    return _weights_from("--dists_weights", options.dists_weights)


def _weights_from(flag: str, files: list[str]) -> tuple[str, ...]:
    if len(files) > 2:
        raise InputError(f"{flag}: found {len(files)} files, needed one or two")
    for file in files:
        if not Path(file).is_file():
            raise MissingError(f"{flag} {file}: no such file")
    return tuple(files)


def add_metrics(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--metrics", nargs="+", metavar="METRIC",
                        help=f"measure these alone: {', '.join(METRICS)} (default: "
                             f"{', '.join(USUAL)}, psnr_planes with --conditions, lpips with its "
                             "weights); psnr alone takes a tenth of the time of ms_ssim")


def metrics_from(options: argparse.Namespace) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The metrics to measure, and the files of LPIPS where that is one of them."""
    files = lpips_from(options)
    chosen = chosen_metrics(options.metrics, planes=options.conditions is not None,
                            lpips=bool(files))
    return chosen, files if "lpips" in chosen else ()


def add_processes(parser: argparse._ActionsContainer, what: str) -> None:
    parser.add_argument("--processes", type=int, default=1,
                        help=f"share {what} out over N processes; the results are the same")


def processes_from(options: argparse.Namespace) -> int:
    if options.processes < 1:
        raise InputError(f"--processes: found {options.processes}, needed at least 1")
    return options.processes


def add_published(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--published", nargs="+", default=[], metavar="FILE",
                        help="points from elsewhere: a results file of microsoft/DCVC or "
                             "microsoft/mlvc (.json), or a CSV file, a row each, with the columns "
                             "codec, bpp, one or more qualities (psnr, psnr_planes …) and, if you "
                             "like, setting, source, frames, intra_period and conditions")


def published_from(options: argparse.Namespace) -> list[dict]:
    """Their points on the sequences of the results, where a file tells sequences apart."""
    from dcvc.report.published import read_published
    from dcvc.report.results import read_results

    if not options.published:
        return []
    names = dict.fromkeys(sequence["name"] for path in options.results
                          for sequence in read_results(path)["sequences"])
    return [point for path in options.published for point in read_published(path, list(names))]


def add_sequences(parser: argparse.ArgumentParser) -> None:
    """Which sequences are measured, how many frames of them, and how often an I-frame comes."""
    parser.add_argument("videos", metavar="VIDEOS", nargs="+",
                        help="videos, .yuv files, .txt lists, folders of videos or of picture folders")
    add_video_access(parser)
    parser.add_argument("--stills", action="store_true",
                        help="also measure single pictures that lie among videos")
    parser.add_argument("--preset", help="a test set by its files' names: hevc-b … hevc-e, uvg, "
                                         "mcl-jcv, ustc-td, bvi: 96 frames, an I-frame every 32 "
                                         "(hevc-b-ip-1: one I-frame; hevc-b-2021: 100 and 10); "
                                         "vimeo90k-test, davis")
    parser.add_argument("--max_frames", type=int, help="only the first N frames of each sequence")
    parser.add_argument("--conditions",
                        help="test conditions in one word: microsoft reads YCbCr 4:2:0 samples as "
                             "microsoft/DCVC does and judges them on their own planes; 96 frames, "
                             "an I-frame every 32 unless a preset or an option says otherwise")
    add_intra_period(parser, "the preset's, the conditions', or 10")
    raw = parser.add_argument_group("what .yuv files do not say themselves")
    raw.add_argument("--raw_size", metavar="WIDTHxHEIGHT", help="size of files whose name has none")
    raw.add_argument("--raw_depth", type=int, choices=(8, 9, 10, 12, 14, 16),
                     help="bits per sample (default: by the name, or 8)")
    raw.add_argument("--raw_layout", metavar="LAYOUT",
                     help="a pixel format of FFmpeg's (yuv422p10le, nv12 …), or 420, 422, 444, 400 "
                          "(default: by the name, or 420)")
    raw.add_argument("--raw_fps", type=float,
                     help="frames per second (default: by the name, or 25)")
    raw.add_argument("--raw_matrix", choices=("bt601", "bt709", "bt2020"),
                     help="colour matrix (default: bt709 from 720 rows on, bt601 below)")
    raw.add_argument("--raw_full_range", action=argparse.BooleanOptionalAction, default=False,
                     help="samples use the full range, not 16…235")


def sequences_from(options: argparse.Namespace):
    """The sequences, and the distance of I-frames in them."""
    from dcvc.data.conditions import CONDITIONS
    from dcvc.data.eval_sequences import open_sequences
    from dcvc.data.presets import PRESETS
    from dcvc.data.raw_files import RawFormat

    if options.raw_fps is not None and not 0 < options.raw_fps < float("inf"):
        raise InputError(f"--raw_fps: found {options.raw_fps}, needed above 0")
    raw = RawFormat(size=_size(options.raw_size), depth=options.raw_depth, fps=options.raw_fps,
                    matrix=options.raw_matrix, full_range=options.raw_full_range,
                    layout=options.raw_layout)
    if options.conditions is not None and options.conditions not in CONDITIONS:
        raise InputError(f"--conditions: found {options.conditions!r}, needed one of "
                         f"{', '.join(CONDITIONS)}{nearest(options.conditions, CONDITIONS)}")
    conditions = CONDITIONS.get(options.conditions)
    told = sorted({"raw_matrix", "raw_full_range"} & options.given)
    if conditions and told:
        raise InputError(f"--conditions {conditions.name}: found --{told[0]} too, which it "
                         "decides; leave one of them out")
    sequences = open_sequences(options.videos, options.preset, options.max_frames, raw,
                               options.stills, conditions)
    usual = PRESETS[options.preset] if options.preset else conditions
    default = usual.intra_period if usual else INTRA_PERIOD
    frames = max(sequence.frames for sequence in sequences)
    return sequences, intra_period_from(options, frames, default)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise InputError(f"--raw_size: found {text!r}, needed WIDTHxHEIGHT")
    return int(width), int(height)
