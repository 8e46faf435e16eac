"""Bring a model here from the network: dcvc pull URL, or dcvc pull NAME --from BASE_URL.

It is checked by its SHA-256 and opened once before it gets its name. A pull that was interrupted is
continued by the same command.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from dcvc.commands.arguments import add_flag
from dcvc.errors import DcvcError, InputError, MissingError, ReadError
from dcvc.models.catalog import MODEL_FILE, file_sha256, model_folders
from dcvc.models.download import megabytes
from dcvc.models.pull import BASE_URL, address_of, checked_sha256, pull


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="NAME_OR_URL",
                        help="the URL of a .safetensors file, or the name of a model below --from")
    parser.add_argument("--sha256", metavar="HEX",
                        help="what the file's SHA-256 must be (default: what its card says)")
    parser.add_argument("--name", help="what the model is called here (default: by its URL)")
    parser.add_argument("--from", dest="base_url", metavar="BASE_URL",
                        help="the model lies at BASE_URL/NAME/model.safetensors, its card beside "
                             f"it (default: the environment variable {BASE_URL})")
    add_flag(parser, "force", False, "replace another model of this name")
    add_flag(parser, "quiet", False, "no progress bar")


def run(options: argparse.Namespace) -> int | None:
    word, sha256 = options.model, options.sha256
    if sha256 is not None:
        sha256 = checked_sha256(sha256, "--sha256")
    try:
        address = address_of(word, options.base_url, options.name)
    except MissingError:
        # Nobody said where it would come from, and it need not come.
        if word not in model_folders():
            raise
        print(f"{word}: is here already: {model_folders()[word]}")
        return 0
    with ByteProgress(options.quiet) as progress:
        pulled = pull(address, describe_model, sha256=sha256, force=options.force,
                      progress=progress, tell=progress.tell)
    file = pulled.folder / MODEL_FILE
    state = f"{megabytes(file.stat().st_size)}, SHA-256 {file_sha256(file)}"
    if not pulled.compared:
        state += ", which there was none to compare with"
    print(f"{address.name}: {'' if pulled.new else 'is here already: '}{pulled.folder} ({state})")
    return 0


def describe_model(file: Path) -> dict[str, Any]:
    """The card of a file that came from somewhere. Raises DcvcError where it is no model."""
    from dcvc.checkpoint import model_card
    from dcvc.weights import I_FRAME_CODEC, I_FRAME_WEIGHTS, is_ours, read_checkpoint

    content = read_checkpoint(file)
    parts = ("inter", "model", I_FRAME_CODEC, I_FRAME_WEIGHTS)
    if not is_ours(content) or any(part not in content for part in parts):
        raise InputError(f"{file}: found no model of I-frames and P-frames, needed a file that "
                         "save_pretrained wrote")
    try:
        return model_card(file)
    except DcvcError:
        raise
    except Exception as error:
        # What a stranger wrote for a configuration can fail wherever it is used.
        raise ReadError(f"{file}: cannot be built as a model ({type(error).__name__}: "
                        f"{str(error).splitlines()[0] if str(error) else ''})") from None


class ByteProgress:
    """A bar with an end time on stderr, and lines beside it."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.bar = None

    def __enter__(self) -> "ByteProgress":
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, here: int, total: int | None) -> None:
        if self.quiet:
            return
        if self.bar is None:
            from tqdm import tqdm  # late: --help starts without it

            # What an earlier command brought says nothing of how fast the rest will come.
            self.bar = tqdm(total=total, initial=here, unit="B", unit_scale=True, desc="pull",
                            file=sys.stderr)
        self.bar.total = total
        # After a start from the beginning `here` is smaller than before.
        self.bar.update(here - self.bar.n)

    def tell(self, text: str) -> None:
        if self.bar is not None:
            self.bar.write(f"note: {text}", file=sys.stderr)
        elif not self.quiet:
            print(f"note: {text}", file=sys.stderr)
