"""A stream file cut into its header and its records, as bytes: for whoever puts them elsewhere.

All that is known here of the format is what StreamReader says of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from dcvc.codec.bitstream import I_FRAME, StreamHeader, StreamReader


@dataclass(frozen=True)
class StreamParts:
    """records: (bytes, frame number, whether decoding can begin there) of each."""

    file: BinaryIO
    header: StreamHeader
    records: tuple[tuple[int, int, bool], ...]

    def __iter__(self) -> Iterator[tuple[bytes, int, bool, bool]]:
        """(record, frame number, whether decoding can begin there, whether it shows nothing), read
        from the file one by one; last, as hidden, what the file has behind its frames."""
        self.file.seek(len(self.header.to_bytes()))
        for size, number, keyframe in self.records:
            yield self.file.read(size), number, keyframe, False
        if rest := self.file.read():
            yield rest, len(self.records), False, True


def cut_stream(file: BinaryIO, name: str) -> StreamParts:
    """Read a seekable stream once, comparing all checksums. Raises BitstreamError."""
    reader = StreamReader(file, name)
    return StreamParts(file, reader.header, tuple(
        (len(record.payload) + record.overhead, record.number, record.kind == I_FRAME)
        for record in reader))
