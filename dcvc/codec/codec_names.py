"""What a stream's header says of the codecs that made it, beside what a VideoCodec says of its own."""

from collections.abc import Iterator

from dcvc.codec.bitstream import StreamHeader
from dcvc.interfaces import FrameCodec, PFrameCodec


def compared(header: StreamHeader, intra: FrameCodec, p_frame: PFrameCodec, *, intra_hashes: tuple[bytes, ...],
             inter_hash: bytes, tables_crc: int) -> Iterator[tuple[str, str, str]]:
    """-> what is compared, what the header has, what these codecs have. intra_hashes: all that streams may
    name the I-frame codec's weights by.

    From coarse to fine: another codec has other weights and tables too, and the first difference is
    the one to tell."""
    known = header.intra_hash if header.intra_hash in intra_hashes else intra_hashes[0]
    yield "I-frame codec", *_names(header.intra, intra)
    yield "P-frame codec", *_names(header.inter, p_frame)
    yield "I-frame weights", header.intra_hash.hex(), known.hex()
    yield "P-frame weights", header.inter_hash.hex(), inter_hash.hex()
    yield ("qualities in payloads", _heads(header.intra_quality, header.inter_quality),
           _heads(intra.rates is not None, p_frame.rates is not None))
    yield "integer tables", f"{header.tables_crc:08x}", f"{tables_crc:08x}"


def _names(stream_id: int, codec: FrameCodec | PFrameCodec) -> tuple[str, str]:
    """The codec of a header and ours, for comparing them in a message.

    A number that is not ours has no name here: the stream may come from a program with others.
    """
    ours = f"number {codec.stream_id} ({codec.name})"
    return ours if stream_id == codec.stream_id else f"number {stream_id}", ours


def _heads(intra: bool, inter: bool) -> str:
    """Which frames' payloads begin with a quality."""
    return " and ".join(name for name, has in (("I", intra), ("P", inter)) if has) or "none"
