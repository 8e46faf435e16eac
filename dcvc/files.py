"""Writing files so that nobody sees half of one: beside the target, under another name, renamed."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from dcvc.errors import DcvcError, InputError, ReadError


@contextmanager
def replaced(path: str | os.PathLike) -> Iterator[Path]:
    """`with replaced(path) as partial:` write `partial`; it takes the target's name at the end.

    After an exception the target is as it was and nothing is left behind. Folders are made as
    needed; the temporary name keeps the suffix. Raises ReadError naming the target when the disk is
    full, read-only or otherwise refuses.
    """
    target, partial = Path(path), None
    try:
        with refusal_named(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}.", suffix=f".tmp{target.suffix}")
            os.close(handle)
            partial = Path(name)
            yield partial
            # mkstemp makes files that only their owner reads; keep what the target had, else what a plain open gives.
            os.chmod(partial, target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
            os.replace(partial, target)
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


@contextmanager
def replaced_folder(path: str | os.PathLike) -> Iterator[Path]:
    """As `replaced`, for a folder of files. Raises InputError where the target exists and is no empty folder."""
    target, partial = Path(path), None
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target}: exists and is not an empty folder; give another name")
    try:
        with refusal_named(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
            yield partial
            if target.exists():
                target.rmdir()
            os.chmod(partial, 0o777 & ~_umask())
            os.replace(partial, target)
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def refusal_named(target: Path) -> Iterator[None]:
    """A refusal of the disk within the block becomes a ReadError that names the target."""
    try:
        yield
    except OSError as error:
        if isinstance(error, DcvcError):
            raise
        raise ReadError(f"{target}: cannot be written ({error.strerror or error}); what was there is untouched; "
                        "free space or choose another place") from None


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """`with replacing(path) as file:` the bytes reach the disk before the target's name does."""
    with replaced(path) as partial, open(partial, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """See `replaced`."""
    with replacing(path) as file:
        file.write(data)


def write_text(path: str | os.PathLike, text: str) -> None:
    """UTF-8; see `replaced`."""
    write_bytes(path, text.encode())


def save_tensors(path: str | os.PathLike, content: dict[str, Any]) -> None:
    """torch.save of tensors, numbers, strings, lists and dictionaries; see `replaced`."""
    import torch  # commands that write other files start without it

    try:
        with replacing(path) as file:
            torch.save(content, file)
    except RuntimeError as error:             # torch's own word for a disk that is full
        if isinstance(error, ReadError):
            raise
        raise ReadError(f"{path}: cannot be written ({error}); "
                        "what was there is untouched") from None


def hold_alone(lock: IO, refusal: str) -> None:
    """Hold the open file until it is closed; the system lets go when the process ends, however it
    ends. Raises InputError with this text where another process holds it."""
    try:
        # Not flock: that would live on in data workers, which outlive a killed trainer by seconds.
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise InputError(refusal) from None


def copy_file(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """The content of `source` under another name; see `replaced`."""
    with replaced(target) as partial:
        shutil.copyfile(source, partial)


def _umask() -> int:
    # It can only be read by setting it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
