"""Memory that tensors leave, kept for the next ones."""

import functools

import torch


@functools.cache
def keep_memory() -> None:
    """Once a process: let it keep the memory that tensors leave.

    glibc gives freed blocks back to the system if they are larger than any that was freed before, up
    to 32 MiB (mallopt(3), M_MMAP_THRESHOLD), and new ones come page by page, each with a fault: up to
    a fifth of a frame's time. So one that is larger than the others is freed. It is never touched."""
    torch.empty(31 << 20, dtype=torch.uint8)
