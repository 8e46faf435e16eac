"""A stream file cut into its header and its records, as bytes: for whoever puts them elsewhere.

All that is known here of the format is what StreamReader says of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from dcvc.codec.bitstream import I_FRAME, StreamHeader
from dcvc.codec.stream_reader import StreamReader
from dcvc.errors import UnfinishedError


@dataclass(frozen=True)
class StreamParts:
    """shown: how many pictures; records: (bytes, whether it is an I-frame, whether it shows
    nothing) of each; unfinished: what is said of a stream whose end is missing, None of a whole one.
    """

    file: BinaryIO
    header: StreamHeader
    shown: int
    records: tuple[tuple[int, bool, bool], ...]
    unfinished: str | None = None

    def __iter__(self) -> Iterator[tuple[bytes, int, bool, bool]]:
        """(record, number of the next picture, whether decoding can begin there, whether it shows
        nothing), read one by one; what is behind the frames, end and index, shows nothing."""
        self.file.seek(len(self.header.to_bytes()))
        # A hidden record has the number of the picture that it is needed for.
        number = 0
        for size, keyframe, hidden in self.records:
            yield self.file.read(size), number, keyframe, hidden
            number += not hidden
        # Whatever a version writes there, it belongs to the stream; but not the piece of a frame.
        if self.unfinished is None and (rest := self.file.read()):
            yield rest, number, False, True


def cut_stream(file: BinaryIO, name: str) -> StreamParts:
    """Read a seekable stream once, comparing all checksums. One whose encoder was stopped has the
    frames that are whole. Raises BitstreamError."""
    reader = StreamReader(file, name)
    # Sizes only: payloads of a long stream do not fit into memory.
    records, unfinished = [], None
    try:
        for record in reader:
            records.append((len(record.payload) + record.overhead, record.kind == I_FRAME,
                            record.hidden))
    except UnfinishedError as error:
        if all(hidden for *_, hidden in records):
            raise
        unfinished = str(error)
    shown = sum(not hidden for *_, hidden in records)
    return StreamParts(file, reader.header, shown, tuple(records), unfinished)
