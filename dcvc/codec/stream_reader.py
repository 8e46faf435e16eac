"""Reading a stream from a file or a pipe: the header at once, then frame after frame."""

import io
from collections.abc import Iterator
from typing import BinaryIO

from dcvc.codec.bitstream import CRC_BYTES, END, HIDDEN, I_FRAME, INDEX, FrameRecord
from dcvc.codec.stream_index import TRAILER_BYTES, EntryPoint, StreamIndex, index_bytes
from dcvc.codec.stream_parser import Asking, StreamParser
from dcvc.entropy.varint import read_varint
from dcvc.errors import BitstreamError, InputError

# How much is read at once: a damaged length must not make us reserve memory for what is not there.
PIECE = 1 << 20


class StreamReader:
    """Reads the header at once (`.header`), then the frames one by one.

    Takes exactly the bytes that it needs, so that a frame of a live pipe is there as soon as its
    last byte is. Raises BitstreamError naming the frame, for damage of any kind; where a stream of
    version 4 is unfinished it is an UnfinishedError, after all whole frames were given.
    """

    def __init__(self, file: BinaryIO, name: str = "stream") -> None:
        self._file, self.name = file, name
        self._start = file.tell() if file.seekable() else 0
        self._parser = StreamParser(name)
        for _ in self._feed(self._parser.read_header()):
            raise AssertionError("a header has no records")
        self.header = self._parser.header
        # Where the first record begins.
        self._first = file.tell() if file.seekable() else 0

    @property
    def seekable(self) -> bool:
        return self._file.seekable()

    def __iter__(self) -> Iterator[FrameRecord]:
        return self._feed(self._parser.read_records())

    def records_from(self, entry: EntryPoint) -> Iterator[FrameRecord]:
        """As iterating, from an entry of `index()` on."""
        self._file.seek(self._start + entry.offset)
        return self._feed(self._parser.read_records(entry.record))

    def _feed(self, asking: Asking) -> Iterator[FrameRecord]:
        """Gives the parser the bytes that it asks for, and us what it makes of them."""
        # The parser ends by returning, after the last frame, or by raising.
        try:
            wanted = next(asking)
            while True:
                if isinstance(wanted, int):
                    wanted = asking.send(self._bytes(wanted))
                else:
                    yield wanted
                    wanted = next(asking)
        except StopIteration:
            return

    def _bytes(self, count: int) -> bytes:
        """Fewer only at the end."""
        pieces, left = [], count
        # A pipe may give less than was asked for, and more later; nothing means the end.
        while left and (piece := self._file.read(min(left, PIECE))):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def index(self) -> StreamIndex:
        """Where the stream can be entered: by its index, or by the heads of its records where it
        has none. The file must be seekable; afterwards it stands anywhere: go on by
        `records_from`. Raises BitstreamError where an index is damaged."""
        if not self._file.seekable():
            raise InputError(f"{self.name}: cannot be entered within, it is a pipe; give a file")
        end = self._file.seek(0, io.SEEK_END)
        # By the index where there is one: two reads, however long the stream is.
        if self.header.has_end:
            self._file.seek(max(end - TRAILER_BYTES, 0))
            length = index_bytes(self._file.read(TRAILER_BYTES))
            if length is not None and length <= end - TRAILER_BYTES:
                return self._read_index(end - TRAILER_BYTES - length)
        return self._scan(end)

    def _read_index(self, offset: int) -> StreamIndex:
        # A parser of its own: its place in the stream is not that of the frames.
        parser = StreamParser(self.name, where="index", header=self.header, salt=self._parser.salt)
        self._file.seek(offset)
        first = self._file.read(1)
        if first != bytes((INDEX,)):
            raise BitstreamError(f"{self.name}: index: found type {first.hex()}, needed {INDEX:02x}; "
                                 "the stream is damaged")
        found: list[StreamIndex] = []

        def asking() -> Asking:
            found.append((yield from parser.read_index_payload(first)))

        for _ in self._feed(asking()):
            raise AssertionError("an index has no records")
        return found[0]

    def _scan(self, end: int) -> StreamIndex:
        """Goes from record to record by their lengths. What is cut short is not counted."""
        entries, number, shown, finished = [], 0, 0, False
        offset = self._first
        after = CRC_BYTES * (1 + self.header.reconstruction_crc)
        while True:
            self._file.seek(offset)
            try:
                kind = self._byte()
                length = read_varint(self._byte)
            except (EOFError, InputError):
                break
            following = self._file.tell() + length + after
            # What is cut short, or no frame, is not counted: reading it will say why.
            if kind == END and self.header.has_end:
                finished = self._file.tell() + CRC_BYTES <= end
                break
            if following > end:
                break
            if kind & ~HIDDEN == I_FRAME:
                entries.append(EntryPoint(number, shown, offset - self._start))
            number, shown, offset = number + 1, shown + (not kind & HIDDEN), following
            if not self.header.has_end and number == self.header.frames:
                finished = True
                break
        if not entries:
            raise BitstreamError(f"{self.name}: frame 0: found no whole frame; the stream is cut "
                                 "short or damaged")
        return StreamIndex(tuple(entries), shown, finished)

    def _byte(self) -> int:
        data = self._file.read(1)
        if not data:
            raise EOFError
        return data[0]
