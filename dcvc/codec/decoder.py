"""The other end: bytes in, as they arrive and in any pieces, frames out.

    decoder = Decoder(load_codec("light-m"))
    while data := socket.recv(65536):
        for frame in decoder.push(data):            uint8 RGB (3, H, W)
            show(frame)
    decoder.close()                                 raises where the stream is not whole

A frame is there as soon as its last byte is. Memory does not grow with the stream: what was decoded
is given away, and of the bytes only those of the next record wait.
"""

from collections.abc import Iterator

from torch import Tensor

from dcvc.codec.bitstream import FrameRecord, StreamHeader
from dcvc.codec.clip_coders import ClipDecoder, CodedFrame
from dcvc.codec.stream_parser import Asking, StreamParser
from dcvc.codec.video_codec import VideoCodec
from dcvc.errors import DcvcError, InputError


class Decoder:
    """codec: the VideoCodec that made the stream; name: of the stream, for messages. Streams of all
    versions. `header` is None until it has arrived. Raises BitstreamError naming the frame, where
    good frames came before in the same push only with the next call; nothing can be pushed after."""

    def __init__(self, codec: VideoCodec, name: str = "stream") -> None:
        self._codec, self._parser = codec, StreamParser(name)
        self._asking = self._parse()
        self._waiting, self._clip = bytearray(), None
        # Damage behind good frames: those are given first.
        self._failure: DcvcError | None = None
        # How many bytes the parser asks for next; None when it has ended.
        self._wanted = next(self._asking)

    @property
    def header(self) -> StreamHeader | None:
        return self._parser.header

    def _parse(self) -> Asking:
        yield from self._parser.read_header()
        yield from self._parser.read_records()

    def push(self, data: bytes) -> list[Tensor]:
        """The frames that `data` completes."""
        return [frame.x_hat for frame in self.push_records(data) if not frame.record.hidden]

    def push_records(self, data: bytes) -> list[CodedFrame]:
        """As `push`, with the records, and frames that are not to be shown as well."""
        self._raise_failure()
        if self._wanted is None:
            raise InputError(f"{self._parser.name}: push: the stream has ended; make another Decoder")
        # Pieces come in any size: what is too short for the next question waits.
        self._waiting += data
        frames = []
        try:
            for record in self._records():
                frames.append(self._decoded(record))
        except DcvcError as error:
            self._wanted, self._failure = None, error
            if not frames:
                raise
        return frames

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """No more bytes will come. Raises BitstreamError (UnfinishedError where a stream of version
        4 has no end) unless the stream is whole."""
        self._raise_failure()
        rest, self._waiting = bytes(self._waiting), bytearray()
        while self._wanted is not None:
            # Fewer bytes than the parser wants: it knows whether the stream may end here.
            self._go_on(rest)
            rest = b""

    def _records(self) -> Iterator[FrameRecord]:
        while self._wanted is not None and len(self._waiting) >= self._wanted:
            # Only what was asked for is taken; the rest may be part of a record yet to come.
            piece = bytes(self._waiting[:self._wanted])
            del self._waiting[:self._wanted]
            yield from self._go_on(piece)

    def _go_on(self, piece: bytes) -> list[FrameRecord]:
        """Feeds the parser -> the records that it completes; `_wanted` is what it asks for next."""
        records = []
        # A parser that failed has no more to ask for.
        wanted, self._wanted = None, None
        try:
            wanted = self._asking.send(piece)
            while not isinstance(wanted, int):
                records.append(wanted)
                wanted = next(self._asking)
        except StopIteration:
            return records
        self._wanted = wanted
        return records

    def _decoded(self, record: FrameRecord) -> CodedFrame:
        # The header came with some push before: only now is it known what is to be decoded.
        if self._clip is None:
            self._clip = ClipDecoder(self._codec, self._parser.header, self._parser.name)
        return self._clip.decode(record)
