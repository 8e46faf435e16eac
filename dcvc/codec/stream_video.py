"""A dcvc stream as a video: its frames by number, for VideoReader (dcvc.video.coded_video).

Which model decodes it?

    the one that the caller names               VideoReader("a.dcvc", model="runs/first")
    else the one here that made the stream      boxed and pulled models say their weights' hashes
    else one of DCVC_STREAM_MODEL               set by --stream_model for a command and its processes

Reading frames 40 ... 42 of a stream with I-frames at 0 and 32: decoding begins at 32. A read of 43
or later then goes on where that one ended, unless an I-frame lies between.

Frames are those of `dcvc decode`, checked by the stream's own checksums. They are decoded on the
CPU, since data workers have nothing else, and one at a time in each process.
"""

import functools
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import BinaryIO

import av
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from dcvc.codec.bitstream import FrameRecord, StreamHeader
from dcvc.codec.clip_coders import ClipDecoder
from dcvc.codec.stream_index import StreamIndex
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.video_codec import VideoCodec
from dcvc.errors import BitstreamError, DcvcError, MissingError, ReadError
from dcvc.models.catalog import model_of_weights, stream_models
from dcvc.video.coded_video import CODEC
from dcvc.video.file_index import FileIndex
from dcvc.video.sources import open_file, stamp_of

# What makes a codec of the name, run folder or file of a model.
Load = Callable[[str], VideoCodec]
# Models in memory at the same time.
MOST_MODELS = 4
_IMPORTED_IN = os.getpid()


@dataclass
class _Opened:
    """An open stream and where decoding stands in it. next: number of the next shown frame."""

    file: BinaryIO
    reader: StreamReader
    index: StreamIndex
    process: int
    clip: ClipDecoder | None = None
    records: Iterator[FrameRecord] = iter(())
    next: int = 0


class StreamVideo:
    """A dcvc.video.coded_video.CodedVideo. load: dcvc.checkpoint.load_codec. decoded: how many frames
    were, shown or not.

    Raises MissingError where no model here made the stream, ReadError for what cannot be read."""

    def __init__(self, path: str, load: Load, index: FileIndex | None = None,
                 model: str | os.PathLike | None = None) -> None:
        self._path, self._load, self._model = path, load, model
        self._opened, self.decoded = None, 0
        self.index = index
        if index is None:
            self.index = self._described()

    def close(self) -> None:
        if self._opened is not None:
            self._opened.file.close()
        self._opened = None

    def frames(self, start: int, count: int) -> Iterator[av.VideoFrame]:
        opened = self._at(start)
        while opened.next < start + count:
            try:
                frame, hidden = self._decoded(opened)
            except DcvcError as error:
                # Where decoding stands is not known any more.
                self.close()
                raise ReadError(str(error)) from None
            # Hidden frames have no number.
            if hidden:
                continue
            opened.next += 1
            # Those between the entry and the first wanted one are decoded and dropped.
            if opened.next > start:
                rgb = np.ascontiguousarray(frame.permute(1, 2, 0).numpy())
                yield av.VideoFrame.from_ndarray(rgb, format=self.index.pix_fmt)

    def _decoded(self, opened: _Opened) -> tuple[Tensor, bool]:
        """The next frame, uint8 (3, H, W), and whether it is hidden."""
        record = next(opened.records, None)
        if record is None:
            raise BitstreamError(f"{self._path}: frame {opened.next}: the stream ends before it; it "
                                 "is damaged")
        self.decoded += 1
        try:
            # Whoever trains in this process wants no graph of its data.
            with _decoding(os.getpid()), torch.no_grad():
                return opened.clip.decode(record).x_hat.cpu(), record.hidden
        except BitstreamError as error:
            threads = opened.reader.header.threads
            if threads == _threads(threads):
                raise
            raise BitstreamError(f"{error}; a data worker computes with one thread, the encoder did "
                                 f"with {threads}: --num_workers 0 does as well") from None

    def _at(self, start: int) -> _Opened:
        """The stream, standing at frame `start` or before it, where decoding it begins."""
        # A file opened before a fork would share its position with the parent.
        if self._opened is not None and self._opened.process != os.getpid():
            self.close()
        opened = self._opened or self._open()
        try:
            entry = opened.index.entry_before(start)
            # Going on is never longer than beginning at the entry, if the entry lies behind.
            if opened.clip is None or not entry.shown <= opened.next <= start:
                header = opened.reader.header
                codec = self._codec_of(header)
                header = replace(header, threads=_threads(header.threads))
                opened.clip = ClipDecoder(codec, header, self._path)
                opened.records = opened.reader.records_from(entry)
                opened.next = entry.shown
        except BitstreamError as error:
            self.close()
            raise ReadError(str(error)) from None
        return opened

    def _open(self) -> _Opened:
        try:
            with ExitStack() as stack:
                file = open_file(self._path)
                if isinstance(file, io.RawIOBase):
                    file = io.BufferedReader(file)
                stack.enter_context(file)
                size, known = file.seek(0, io.SEEK_END), self.index
                file.seek(0)
                if known is not None and size != known.file_size:
                    raise ReadError(f"{self._path}: found {size} bytes, needed {known.file_size} as "
                                    "when it was indexed; run `dcvc index` again")
                reader = StreamReader(file, self._path)
                self._opened = _Opened(file, reader, reader.index(), os.getpid())
                # Nothing went wrong: the file stays open.
                stack.pop_all()
        except BitstreamError as error:
            raise ReadError(str(error)) from None
        except OSError as error:
            raise ReadError(f"{self._path}: cannot open ({error.strerror})") from None
        return self._opened

    def _described(self) -> FileIndex:
        opened = self._open()
        if not opened.index.shown:
            raise ReadError(f"{self._path}: found no frame that is shown, needed at least one")
        header, stamp = opened.reader.header, stamp_of(self._path)
        # Here, not in the middle of a training: whether there is something that decodes it.
        self._codec_of(header)
        return FileIndex(
            path=self._path, pts=np.arange(opened.index.shown, dtype=np.int64),
            keys=np.unique(np.array([entry.shown for entry in opened.index.entries], np.int64)),
            time_base=1 / Fraction(header.fps), height=header.height, width=header.width,
            orientation=(False, False, False), fps=float(header.fps), codec=CODEC, pix_fmt="gbrp",
            matrix="rgb", full_range=True, counted=False,
            notes=() if opened.index.finished else ("cut short",),
            file_size=stamp.size, mtime_ns=stamp.mark)

    def _codec_of(self, header: StreamHeader) -> VideoCodec:
        """Raises MissingError where no model that is named or here made the stream."""
        hashes, model = (header.inter_hash.hex(), header.intra_hash.hex()), self._model
        # What the caller names counts; it may be an error that tells him more than a guess.
        own = None if model is not None else model_of_weights(*hashes)
        named = [own] if own else stream_models() if model is None else [os.fspath(model)]
        # Two threads that need a model load it once.
        with _decoding(os.getpid()):
            codecs = [_loaded(self._load, name, os.getpid()) for name in named]
        for codec in codecs:
            if codec.made(header):
                return codec
        found = (f"which {', '.join(named)} {'do' if len(named) > 1 else 'does'} not have" if named
                 else "which no model here has")
        raise MissingError(f"{self._path}: made with weights {hashes[0]}, {found}; give the model that "
                           "made it (--stream_model, or VideoReader(path, model=...))")


@functools.lru_cache(maxsize=MOST_MODELS)
def _loaded(load: Load, model: str, process: int) -> VideoCodec:
    # process: what a codec keeps of threads does not live on in a forked one.
    return load(model)


@functools.lru_cache(maxsize=1)
def _decoding(process: int) -> threading.Lock:
    """One frame at a time in each process: torch's number of threads is the process's."""
    return threading.Lock()


def _threads(of_encoder: int) -> int:
    """How many threads to decode with: the encoder's, where there can be any."""
    # Of OpenMP's threads a fork copies none; torch would wait for them for ever.
    forked = get_worker_info() is not None or os.getpid() != _IMPORTED_IN
    return 1 if forked else of_encoder
