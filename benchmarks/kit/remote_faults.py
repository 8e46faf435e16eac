"""Faults of servers and networks, injected while videos are indexed and read: what is given must be what the file on
this machine gives, or an error that names the address. Blocks and times of waiting are small, so that a fault may fall
on any part of a file, and a thousand of them take minutes."""

import dataclasses
import itertools
import random
import shutil
from collections import Counter
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from kit.object_server import FAULTS, ObjectServer, serving

from dcvc.errors import DcvcError
from dcvc.video import block_cache, remote_file, remote_stores
from dcvc.video.coded_video import index_video
from dcvc.video.file_index import FileIndex
from dcvc.video.reader import VideoReader

TRIES = 4
# Seconds. A stall is longer than the client waits; what is sent slowly takes longer than a block may.
TIMEOUT, SILENCE, BLOCK_SECONDS = 0.15, 0.3, 0.4


def in_small(block: int) -> tuple:
    """Two contexts, in which blocks have so many bytes and nothing is waited for long."""
    return (mock.patch.multiple(remote_stores, BLOCK=block, TIMEOUT=TIMEOUT, BLOCK_SECONDS=BLOCK_SECONDS),
            mock.patch.multiple(remote_file, BLOCK=block, WAITS=(0.0,) * (TRIES - 1)))


def equal_indices(one: FileIndex, other: FileIndex) -> bool:
    """All that does not say where the file lies."""
    names = [field.name for field in dataclasses.fields(FileIndex) if field.name not in ("path", "mtime_ns")]
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


class Trials:
    """files: videos of this machine, which `server` gives under their names. folder: for the cache."""

    def __init__(self, files: list[Path], server: ObjectServer, folder: Path, seed: int) -> None:
        self.server, self.folder, self.rng = server, folder, random.Random(seed)
        self.files = {f"{server.url}/{file.name}": file for file in files}
        server.files = {f"/{file.name}": file.read_bytes() for file in files}
        self.here = {url: index_video(file) for url, file in self.files.items()}
        self.there = {url: index_video(url) for url in self.files}
        self.counts: Counter[tuple[str, str]] = Counter()

    def one(self, number: int) -> str:
        """Inject one fault: "retried", "error" or, which must not be, "wrong" or "unnamed"; "not met" where all was
        read before it came."""
        fault = FAULTS[number % len(FAULTS)]
        url = self.rng.choice(list(self.files))
        # Once or twice is less than the client tries; or for ever.
        times = self.rng.choice((1, 1, 2, -1))
        shutil.rmtree(self.folder, ignore_errors=True)
        self.server.fail(fault, self.rng.randrange(4), times)
        try:
            right = self._indexes(url) if self.rng.random() < 0.5 else self._reads(url)
            outcome = "retried" if right else "wrong"
        except DcvcError as error:
            outcome = "error" if url in str(error) else "unnamed"
        outcome = outcome if self.server.given or outcome != "retried" else "not met"
        self.server.fail("", 0, 0)
        self.counts[fault, outcome] += 1
        return outcome

    def _indexes(self, url: str) -> bool:
        return equal_indices(index_video(url), self.here[url])

    def _reads(self, url: str) -> bool:
        start = self.rng.randrange(len(self.here[url]) - 2)
        with VideoReader(self.files[url], index=self.here[url]) as reader:
            expected = reader.read(start, 2)
        with VideoReader(url, index=self.there[url]) as reader:
            return torch.equal(reader.read(start, 2), expected)


def run_trials(files: list[Path], folder: Path, count: int, seed: int = 0, block: int = 1 << 15) -> Counter:
    """(fault, outcome) -> how often, for `count` faults that came. folder: for the cache; it is emptied each time.
    block: in bytes."""
    one, other = in_small(block)
    with one, other, serving(silence=SILENCE) as server, mock.patch.dict(
            "os.environ", {block_cache.FOLDER: str(folder)}):
        trials = Trials(files, server, folder, seed)
        met = 0
        for number in itertools.count():
            met += trials.one(number) != "not met"
            if met == count:
                break
    return Counter({key: times for key, times in trials.counts.items() if key[1] != "not met"})
