"""Writing files so that nobody sees half of one: beside the target, under another name, renamed.

File systems differ. Some have no locks, no modes or no fsync; what only serves safety is then left
out, with a warning where it matters, and the writing goes on.
"""

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

try:
    import fcntl
except ImportError:                           # not every system has it
    fcntl = None

from dcvc.errors import DcvcError, InputError, ReadError

# What systems say where the operation is not there, as opposed to one that failed.
UNSUPPORTED = frozenset(getattr(errno, name) for name in
                        ("ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EINVAL", "EPERM", "ENOTTY"))
# A name may have this many bytes; room is left for what stands around the stem of a temporary one.
LONGEST_NAME = 255
LONGEST_STEM = 180
# Bytes written and removed to see whether an output will have room.
PROBE = 64 * 1024


class Kind(NamedTuple):
    """What a command writes. noun: for messages. owns: whether an existing file is of that kind, so
    that replacing it is what the user expects."""

    noun: str
    owns: Callable[[Path], bool]


def check_output(path: str | os.PathLike, *, inputs: Iterable[str | os.PathLike] = (),
                 kind: Kind | None = None, overwrite: bool = False, folder: bool = False,
                 folders: Iterable[str | os.PathLike] = ()) -> None:
    """To be called before the work: whatever would keep `path` from being written, found at once.

    inputs: files that the command reads; none of them may be the output, under whatever name or
    link. kind: what an existing file must be to be replaced, None: anything. overwrite: replace
    what is of another kind too (but never an input). folder: the output is a folder of files, which
    may exist. folders: what lies in them is read too, so that only a file of this kind is replaced
    there. Raises InputError and ReadError naming the path; leaves nothing behind.
    """
    target = Path(path)
    for source in inputs:
        # By device and inode: links, hard links and names in other letters are the same file.
        with suppress(OSError):
            if os.path.samefile(source, target):
                raise InputError(f"{target}: is the input itself ({source}), nothing was done; "
                                 "give the output another name")
    with refusal_named(target):
        _check_place(target, folder)
    empty = not target.exists() or folder or target.stat().st_size == 0
    if kind is None or empty or kind.owns(target):
        return
    for source in folders:
        if overwrite and Path(source).resolve() in target.resolve().parents:
            raise InputError(f"{target}: lies in {source}, which is read, nothing was done; give the "
                             "output another name")
    if overwrite:
        return
    raise InputError(f"{target}: exists and is not {kind.noun}, nothing was done; give another "
                     "name, or --overwrite to replace it")


def _check_place(target: Path, folder: bool) -> None:
    """Raises OSError, InputError where nothing can be written under this name."""
    if len(os.fsencode(target.name)) > LONGEST_NAME:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    if folder and target.exists() and not target.is_dir():
        raise InputError(f"{target}: found a file, needed a folder; give another name")
    if not folder:
        _refuse_no_file(target)
    place = target if folder else target.parent
    # The folders on the way are made when the output is: a refused command leaves none.
    while not place.exists() and place.parent != place:
        place = place.parent
    if not place.is_dir():
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    with tempfile.TemporaryFile(dir=place, prefix=".dcvc.") as probe:
        probe.write(bytes(PROBE))
        probe.flush()
        _to_disk(probe)


def _refuse_no_file(target: Path) -> None:
    """Raises InputError where the target is a folder, or a device, which renaming would replace."""
    if target.is_dir():
        raise InputError(f"{target}: found a folder, needed the name of a file")
    if target.exists() and not target.is_file():
        raise InputError(f"{target}: found a device or pipe, needed the name of a file")


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
            _refuse_no_file(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{short_stem(target)}.",
                                            suffix=f".tmp{target.suffix[-20:]}")
            os.close(handle)
            partial = Path(name)
            yield partial
            # mkstemp makes files that only their owner reads; keep what the target had, else what
            # a plain open gives.
            _set_mode(partial, target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
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
            partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{short_stem(target)}.",
                                            suffix=".tmp"))
            yield partial
            if target.exists():
                target.rmdir()
            _set_mode(partial, 0o777 & ~_umask())
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
        _to_disk(file)


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """See `replaced`."""
    with replacing(path) as file:
        file.write(data)


def write_text(path: str | os.PathLike, text: str) -> None:
    """UTF-8, with escapes for bytes of file names that are no text; see `replaced`."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


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
    ends. Raises InputError with this text where another process holds it. On a file system without
    locks it warns, and nobody is held off."""
    if fcntl is None:
        return
    try:
        # Not flock: that would live on in data workers, which outlive a killed trainer by seconds.
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # These two alone mean that another process holds it.
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise InputError(refusal) from None
        print(f"warning: {lock.name}: this file system has no locks ({error.strerror}); a second "
              "process in the same folder would not be noticed", file=sys.stderr)


def home_cache() -> Path:
    """Where this user's caches lie: ~/.cache/dcvc; for a user whom the system knows no home of, a
    folder of their own below the temporary one."""
    try:
        return Path.home() / ".cache" / "dcvc"
    except RuntimeError:
        user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"dcvc-{user}"
    # Somebody else may have taken the name, whose files are not to be trusted.
    if folder.exists() and folder.stat().st_uid != user:
        folder = folder.with_name(f"{folder.name}-{os.getpid()}")
    return folder


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is gone after the block. Raises ReadError where no temporary folder can be
    written, or is full."""
    try:
        with tempfile.TemporaryDirectory(prefix="dcvc-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    except OSError as error:
        if isinstance(error, DcvcError):
            raise
        raise ReadError(f"temporary folder: cannot be written ({error.strerror or error}); "
                        "set TMPDIR to one that can, or free space") from None


def copy_file(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """The content of `source` under another name; see `replaced`."""
    with replaced(target) as partial:
        shutil.copyfile(source, partial)


def short_stem(path: Path, longest: int = LONGEST_STEM) -> str:
    """The name without its suffix, cut to so many bytes: of a name as long as names may be, there
    must be room for what is added to it."""
    return os.fsdecode(os.fsencode(path.stem)[:longest])


def _to_disk(file: IO) -> None:
    """fsync, where the file system has it."""
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def _set_mode(path: Path, mode: int) -> None:
    # Some mounts (FAT, network shares) have no modes; what they give everybody is then right.
    with suppress(OSError):
        os.chmod(path, mode)


def _umask() -> int:
    # It can only be read by setting it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
