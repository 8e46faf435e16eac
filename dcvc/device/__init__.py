"""What is computed on: `--device auto` becomes a device, CPU threads, loops compiled for the processor.

torch and Numba are imported when they are needed: the command line starts without them.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from dcvc.errors import InputError

DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str = "auto") -> str:
    """"auto": CUDA, then MPS, then the CPU; another name as it is.

    Raises InputError where there is no such device.
    """
    import torch

    seen = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(),
            "cpu": True}
    if name == "auto":
        return next(device for device, there in seen.items() if there)
    # "cuda:1" is a CUDA device.
    if not seen.get(name.partition(":")[0], False):
        raise InputError(f"--device: found {name}, but this torch sees no such device; "
                         "use --device cpu")
    return name


def holds_float64(device: str) -> bool:
    """Whether the kind of device computes with float64 numbers."""
    return device != "mps"


@contextlib.contextmanager
def computing_threads(count: int) -> Iterator[None]:
    """Let torch compute with this many CPU threads inside."""
    import torch

    # Setting the number costs time even where it is the same.
    before = torch.get_num_threads()
    if before != count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if before != torch.get_num_threads():
            torch.set_num_threads(before)


@contextlib.contextmanager
def coding_arithmetic(threads: int) -> Iterator[None]:
    """Inside, floats are computed as an encoder and its decoder need them: twice the same. By so many CPU
    threads, and on CUDA by algorithms of cuDNN that always add up in one order."""
    import torch

    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        with computing_threads(threads):
            yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


def compiled(function: Callable) -> Callable:
    """A decorator: the function compiled by Numba, without Python's lock, without checks of indices.

    What is compiled is cached beside the function's own file. The cache notices changes of that file
    only: for functions that call compiled ones of another file there is `compiled_with`.
    """
    import numba

    options = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder that the cache could be written to
        return numba.njit(**options)(function)


def compiled_with(*modules: ModuleType) -> Callable[[Callable], Callable]:
    """`compiled` for functions that call compiled ones of these modules.

    The cache knows a function by its name, so the name gets a digest of the modules' files: when one
    of them changes, so does the name, and the function is compiled again.
    """
    files = hashlib.sha256()
    for module in modules:
        files.update(Path(module.__file__).read_bytes())
    digest = files.hexdigest()[:12]

    def decorate(function: Callable) -> Callable:
        function.__qualname__ += f"_{digest}"
        return compiled(function)

    return decorate
