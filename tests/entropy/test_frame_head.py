"""The head of a payload: every quality and both kinds of frame come back, nothing else passes."""

import pytest

from dcvc.entropy.frame_head import FrameHead, quality_parts, split_head
from dcvc.errors import BitstreamError, InputError


def test_every_head_comes_back():
    seen = set()
    for parts in range(253):
        for refresh in (False, True):
            written = FrameHead(parts, refresh).to_bytes()
            assert len(written) == 1 + refresh
            assert split_head(written + b"rest") == (FrameHead(parts, refresh), b"rest")
            seen.add(written)
    assert len(seen) == 2 * 253
    assert FrameHead(quality_parts(32.25)).to_bytes() == b"\x81"


def test_what_begins_no_payload_is_refused():
    beginnings = [b"", b"\xfd", b"\xfe", b"\xff", *(b"\xfd" + bytes([value]) for value in (0xFD, 0xFE, 0xFF))]
    for damaged in beginnings:
        with pytest.raises(BitstreamError, match="begins with no quality"):
            split_head(damaged)


@pytest.mark.parametrize("quality", [-0.2, 63.2, float("nan"), float("inf")])
def test_qualities_that_no_stream_holds_are_refused(quality):
    with pytest.raises(InputError, match=r"streams hold 0\.\.\.63"):
        quality_parts(quality)
