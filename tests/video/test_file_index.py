"""The index: frames are numbered as they are shown, and what is odd about a file is named."""

import av
import numpy as np
import pytest
from sample_videos import X264, encode, luma, sequential, textures

from dcvc.data import VideoReader
from dcvc.errors import ReadError


def test_times_that_go_back_are_not_sorted(videos, tmp_path):
    """Two recordings in one file, the second with earlier times: frames are numbered as they are shown."""
    first = encode(tmp_path / "first.ts", "libx264", textures(72, 64, 96, seed=1), options=X264, offset=1000)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + videos["h264_open.ts"][0].read_bytes())
    expected = [luma(frame) for frame in sequential(joined)]
    reader, refused = VideoReader(joined), 0
    assert len(reader) == len(expected) == 120
    assert reader.index.counted
    for number, shown in enumerate(expected):
        try:
            assert np.array_equal(reader.read(number, 1, out="yuv").y[0].numpy(), shown)
        except ReadError:
            refused += 1
    assert refused < 4  # by the counters of its packets, the first one's end is cut off


def test_suspicious_files_are_named(videos):
    assert "interlaced" in VideoReader(videos["interlaced.mp4"][0]).index.notes
    assert any("timestamps" in note for note in VideoReader(videos["h264_raw.h264"][0]).index.notes)
    assert VideoReader(videos["h264_open.mp4"][0]).index.notes == ()
    assert VideoReader(videos["h264_open.mp4"][0]).fps == pytest.approx(25)


def test_samples_beyond_16_bits_are_refused_when_indexed(tmp_path):
    path = tmp_path / "float.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt, stream.options = "gbrpf32le", {"strict": "-2"}
        frame = av.VideoFrame(64, 64, "gbrpf32le")
        frame.pts = 0
        out.mux(stream.encode(frame) + stream.encode(None))
    with pytest.raises(ReadError, match="float.mkv: cannot read .*gbrpf32le, needed at most 16 bits"):
        VideoReader(path)
