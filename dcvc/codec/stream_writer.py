"""Writing a stream: the header at once, then frame after frame."""

from typing import BinaryIO

from dcvc.codec.bitstream import (
    CRC_BYTES,
    END,
    HIDDEN,
    I_FRAME,
    LARGEST_PAYLOAD,
    FrameRecord,
    StreamHeader,
    crc_bytes,
    frame_crc,
)
from dcvc.codec.stream_index import EntryPoint, StreamIndex
from dcvc.entropy.varint import varint
from dcvc.errors import InputError


class StreamWriter:
    """Writes the header at once and each frame as it comes. bytes: how many were written so far;
    written: how many frames. Only ever appends: `file` may be a pipe."""

    def __init__(self, file: BinaryIO, header: StreamHeader) -> None:
        data = header.to_bytes()
        self.header, self._file, self._salt = header, file, header.salt
        self.written = self._shown = self.bytes = 0
        self._entries: list[EntryPoint] = []
        self._append(data)

    def _append(self, data: bytes) -> None:
        # One write for each record: an interrupted encoder nearly always leaves whole records.
        self._file.write(data)
        self.bytes += len(data)

    def record_bytes(self, payload_bytes: int) -> int:
        """How many bytes the record of a payload takes."""
        return 1 + len(varint(payload_bytes)) + payload_bytes + CRC_BYTES * (
            1 + self.header.reconstruction_crc)

    def write(self, payload: bytes, reconstruction_crc: int | None, kind: int | None = None,
              hidden: bool = False) -> FrameRecord:
        """The next frame. kind, hidden: of version 4, where the record says it.

        Raises InputError beyond the header's frame count or for a payload that is too long.
        """
        number, header = self.written, self.header
        if number >= (header.frames or number + 1):
            raise InputError(f"frame {number}: the header says {header.frames} frames")
        if len(payload) > LARGEST_PAYLOAD:
            raise InputError(f"frame {number}: found {len(payload)} bytes, "
                             f"needed at most {LARGEST_PAYLOAD}")
        # In earlier versions the number says the type, and nobody else may.
        kind = header.kind(number) if kind is None else kind
        head = header.head(kind, payload)
        body = bytes((kind + HIDDEN * hidden,)) + varint(len(payload)) + payload
        if header.reconstruction_crc:
            body += crc_bytes(reconstruction_crc)
        body += crc_bytes(frame_crc(self._salt, number, body))
        # Kept until the end: a pipe cannot go back to write them at the front.
        if kind == I_FRAME:
            self._entries.append(EntryPoint(number, self._shown, self.bytes))
        self._append(body)
        self.written += 1
        self._shown += not hidden
        return FrameRecord(
            number=number, kind=kind, payload=payload, overhead=len(body) - len(payload), head=head,
            reconstruction_crc=reconstruction_crc if header.reconstruction_crc else None,
            hidden=hidden)

    def finish(self, index: bool = True) -> None:
        """The end, and by default the index, of a stream of version 4. Raises InputError unless
        there are as many frames as the header says."""
        header = self.header
        if self.written != (header.frames or self.written):
            raise InputError(f"stream: found {self.written} frames, "
                             f"the header says {header.frames}")
        # Earlier versions end with their last frame.
        if not header.has_end:
            return
        body = bytes((END, 0))
        self._append(body + crc_bytes(frame_crc(self._salt, self.written, body)))
        if index and self._entries:
            self._append(StreamIndex(tuple(self._entries), self._shown).to_bytes(self._salt))
