"""A VQGAN's weights written back in the layout that they were read from.

Reading turns names and shapes of other projects into ours, and does so with windows onto the file's
tensors:

    diffusers' decoder.up_blocks.0.…to_q.weight (C, C)  --window-->  ours decoder.up.2.…q.weight (C, C, 1, 1)
    VAR's …qkv.weight (3C, C, 1, 1)                     --window-->  ours …q.weight, …k.weight, …v.weight

So nothing has to be turned back: new weights go in through the same windows, and the file around
them stays as it was. Where a file holds weights twice, as trained and averaged, both become the new
ones, whichever its owner's tools take.
"""

from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from dcvc.errors import InputError
from dcvc.files import copy_file, refusal_named
from dcvc.intra.vqgan.loading import file_of
from dcvc.intra.vqgan.sources import INDEX, SUFFIXES, Source, find_source, shards_of
from dcvc.weights.rewriting import EditableWeights, open_editable

# What lies beside the weights and is copied along: configurations, licences, descriptions.
LARGEST_COMPANION = 1 << 20


def write_as_read(path: str | Path, weights: dict[str, Tensor], folder: str | Path) -> Path:
    """Write a copy of the file or folder `path` into `folder`, with `weights` under our names.

    Names, shapes, number formats and nesting of the entries are those of the source; entries that
    are no part of the VQGAN keep their values. Files are replaced one by one. Returns what to give
    to --vqgan_checkpoint. Raises MissingError, ReadError, InputError, and InputError where the
    weights are of another model.
    """
    source, folder = find_source(path), Path(folder)
    files, others = _files_of(source)
    opened = {file: open_editable(file) for file in files}
    _put(_merged(opened), str(path), weights)
    # A pipeline's subfolder keeps its name: the owner's tools look for it.
    inner = source.weights[0].parent
    target = folder
    if Path(path).is_dir() and inner.resolve() != Path(path).resolve():
        target = folder / inner.name
    with refusal_named(target):
        target.mkdir(parents=True, exist_ok=True)
    for file in (*others, *_companions(Path(path), source)):
        copy_file(file, target / file.name)
    for file, editable in opened.items():
        editable.save(target / file.name)
    # The index last: without it the files beside it are no model.
    for file in source.weights:
        if INDEX.match(file.name):
            copy_file(file, target / file.name)
    return folder if Path(path).is_dir() else target / Path(path).name


def _files_of(source: Source) -> tuple[list[Path], list[Path]]:
    """The files that hold entries of the VQGAN, and those of the same model that hold none."""
    files: list[Path] = []
    others: list[Path] = []
    for path in source.weights:
        if INDEX.match(path.name):
            holding, foreign = shards_of(path)
            files += list(holding)
            others += [file for file in foreign if file.is_file()]
        else:
            files.append(path)
    return files, others


def _merged(opened: dict[Path, EditableWeights]) -> dict:
    content: dict = {}
    for editable in opened.values():
        content |= editable.content
    return content


@torch.no_grad()
def _put(content: dict, where: str, weights: dict[str, Tensor]) -> None:
    copies = [file_of(content, where, "raw")]
    # A file without averages refuses to give them.
    with suppress(InputError):
        copies.append(file_of(content, where, "ema"))
    for copy in copies:
        if copy.state.keys() != weights.keys():
            odd = sorted(copy.state.keys() ^ weights.keys())[0]
            raise InputError(f"{where}: {odd}: found in one of the file and the weights to write, "
                             "needed in both")
        for name, window in copy.state.items():
            window.copy_(weights[name])


def _companions(path: Path, source: Source) -> list[Path]:
    """Beside a folder's weights all small files that are none; beside a file its config."""
    if not path.is_dir():
        return [source.config] if source.config else []
    folder = source.weights[0].parent
    return [file for file in sorted(folder.iterdir())
            if file.is_file() and not file.name.startswith(".")
            and file.suffix not in (*SUFFIXES, ".jit") and not INDEX.match(file.name)
            and file.stat().st_size <= LARGEST_COMPANION]
