"""Options and helpers that encode, decode and info share."""

import argparse
import contextlib
from collections.abc import Iterable, Iterator

from dcvc.codec.bitstream import StreamReader
from dcvc.errors import MissingError, ReadError


def add_model(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """--model, and the I-frame codec for checkpoints that name none."""
    parser.add_argument("--model", required=required, help="a run folder or a checkpoint file")
    group = parser.add_argument_group("I-frame codec (only for checkpoints that name none, or to overrule it)")
    group.add_argument("--i_frame_type", choices=("compressai", "vqgan"))
    group.add_argument("--i_frame_model_name", default="cheng2020-anchor")
    group.add_argument("--i_frame_quality", type=int, default=6)
    group.add_argument("--i_frame_pretrained", action=argparse.BooleanOptionalAction, default=True)
    group.add_argument("--i_frame_checkpoint")
    group.add_argument("--vqgan_config")
    group.add_argument("--vqgan_checkpoint")


def codec_from(options: argparse.Namespace):
    """The VideoCodec that the options name."""
    from dcvc.checkpoint import load_codec
    from dcvc.device import choose_device
    from dcvc.intra.config import IntraConfig

    intra = None
    if options.i_frame_type:
        intra = IntraConfig(options.i_frame_type, options.i_frame_model_name, options.i_frame_quality,
                            options.i_frame_pretrained, options.i_frame_checkpoint, options.vqgan_config,
                            options.vqgan_checkpoint)
    return load_codec(options.model, choose_device(options.device), intra)


@contextlib.contextmanager
def open_stream(path: str) -> Iterator[StreamReader]:
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb"))
        except FileNotFoundError:
            raise MissingError(f"{path}: no such stream") from None
        except OSError as error:
            raise ReadError(f"{path}: cannot be read ({error.strerror})") from None
        yield StreamReader(file, path)


def progress(items: Iterable, total: int, what: str, quiet: bool) -> Iterable:
    from tqdm import tqdm

    return tqdm(items, total=total, desc=what, unit="frame", disable=quiet)
