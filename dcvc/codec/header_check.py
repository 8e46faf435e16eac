"""Whether a stream was made with the codecs at hand, by its header."""

from dcvc.codec.bitstream import StreamHeader
from dcvc.errors import BitstreamError
from dcvc.interfaces import FrameCodec, PFrameCodec


def check_codecs(header: StreamHeader, ours: StreamHeader, intra: FrameCodec, p_frame: PFrameCodec,
                 intra_hashes: tuple[bytes, ...], name: str) -> None:
    """ours: a header that these codecs write. intra_hashes: all that streams may name the I-frame codec's
    weights by. Raises BitstreamError naming the stream and the first difference."""
    known = header.intra_hash if header.intra_hash in intra_hashes else ours.intra_hash
    # From coarse to fine: another codec has other weights and tables too, and the first
    # difference is the one to tell.
    pairs = (
        ("I-frame codec", *_codec_names(header.intra, intra)),
        ("P-frame codec", *_codec_names(header.inter, p_frame)),
        ("I-frame weights", header.intra_hash.hex(), known.hex()),
        ("P-frame weights", header.inter_hash.hex(), ours.inter_hash.hex()),
        ("qualities in payloads", _heads(header), _heads(ours)),
        ("integer tables", f"{header.tables_crc:08x}", f"{ours.tables_crc:08x}"),
    )
    for what, found, needed in pairs:
        if found != needed:
            # The last pair of exact streams depends on ranges, which may lie in a file of their own.
            ranges = ", with its exact.json" if header.exact and what == pairs[-1][0] else ""
            raise BitstreamError(f"{name}: header: {what} found {found}, "
                                 f"this model has {needed}; "
                                 f"give the model that made the stream with --model{ranges}")


def _codec_names(stream_id: int, codec: FrameCodec | PFrameCodec) -> tuple[str, str]:
    """The codec of a header and ours, for comparing them in a message.

    A number that is not ours has no name here: the stream may come from a program with others.
    """
    ours = f"number {codec.stream_id} ({codec.name})"
    return ours if stream_id == codec.stream_id else f"number {stream_id}", ours


def _heads(header: StreamHeader) -> str:
    """Which frames' payloads begin with a quality."""
    kinds = (("I", header.intra_quality), ("P", header.inter_quality))
    return " and ".join(name for name, has in kinds if has) or "none"
