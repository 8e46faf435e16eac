"""Damaged and hostile files: errors, never a crash, a hang or a concealed frame. Long form: 500 copies of each."""

import json
import subprocess
import sys
from pathlib import Path

import av
import damaged_videos as damage
import numpy as np
import pytest

from dcvc.data import VideoReader
from dcvc.errors import ReadError
from dcvc.video import decoder_run
from dcvc.video.buffer_marks import BufferMarks
from dcvc.video.ffmpeg_log import FFmpegLog

DAMAGED = ["h264_open.mp4", "h264_open.mkv", "h264_open.ts", "hevc_open.mp4", "vp9.webm", "av1.mp4"]


def run_judge(path: Path, kind: str, first: int, last: int, folder: Path) -> dict:
    """In another process: a crash there is a failure here, not the end of the tests."""
    command = [sys.executable, damage.__file__, str(path), kind, str(first), str(last), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10 * (last - first) + 60)
    assert done.returncode == 0, f"{path.name} {kind} {first}-{last}: exit {done.returncode}\n{done.stderr[-2000:]}"
    return json.loads(done.stdout)


def assert_no_wrong_frame(result: dict, repaired: int = 0) -> None:
    """repaired: so many frames may be the true ones where the sequential decode is not."""
    assert result["wrong"] == result["concealed"] == result["unsteady"] == result["slow"] == 0, result
    assert result["repaired"] <= repaired, result
    assert result["good"] + result["refused"] + result["unopened"] > 0


@pytest.mark.parametrize("name", DAMAGED)
def test_random_damage(videos, tmp_path, name):
    result = run_judge(videos[name][0], "flip", 0, 25, tmp_path)
    # Copy 2: a frame that the sequential decode leaves out, by a damaged header from before the frame's keyframe.
    assert_no_wrong_frame(result, repaired=1 if name == "h264_open.mp4" else 0)
    assert result["tainted"] == 0 or name.endswith(".ts"), result  # times that repeat are ambiguous there
    assert result["undefined"] == 0 or name.endswith(".ts"), result
    assert result["silent"] == 0 or name.startswith(("h264", "vp9")), result


@pytest.mark.parametrize("name", ["h264_open.mp4", "hevc_open.mp4", "vp9.webm", "av1.mp4"])
def test_a_stretch_of_zeros(videos, tmp_path, name):
    result = run_judge(videos[name][0], "blank", 0, 15, tmp_path)
    assert_no_wrong_frame(result)
    assert result["tainted"] == result["undefined"] == result["silent"] == 0, result


def judge_copies(path: Path, numbers: tuple[int, ...], folder: Path) -> list[dict]:
    """The judgement of these randomly damaged copies."""
    original, found = damage.decode_all(path), []
    for number in numbers:
        copy = folder / f"{number}{path.suffix}"
        copy.write_bytes(damage.damaged_copy(path.read_bytes(), "flip", number))
        found.append(damage.judge(copy, original))
    return found


MISLED = (14, 119)  # copies in which FFmpeg puts another picture in the place of a missing reference, and only says so


def test_frames_predicted_from_other_references_are_refused(videos, tmp_path, monkeypatch):
    path = videos["h264_open.mkv"][0]
    level = av.logging.get_level()
    assert all(counts["wrong"] == counts["repaired"] == 0 for counts in judge_copies(path, MISLED, tmp_path))
    assert av.logging.get_level() == level
    monkeypatch.setattr(FFmpegLog, "reference_error", lambda self, since: None)
    assert sum(counts["wrong"] + counts["repaired"] for counts in judge_copies(path, MISLED, tmp_path)) > 0


MISPLACED = (2, 392, 436)  # copies in which damaged headers change the order of pictures, and which are kept


def test_frames_after_one_out_of_order_are_refused(videos, tmp_path, monkeypatch):
    path = videos["h264_open.mp4"][0]
    result = judge_copies(path, MISPLACED, tmp_path)
    assert all(counts["wrong"] == counts["undefined"] == counts["unsteady"] == 0 for counts in result), result
    monkeypatch.setattr(decoder_run, "CODECS_CHECKED_BY_ORDER", ())
    assert sum(counts["undefined"] + counts["unsteady"] for counts in judge_copies(path, MISPLACED, tmp_path)) > 9


SPOILED = (10, 24, 111, 130, 143, 181, 183, 192, 208)  # copies in which slices end early, and FFmpeg says nothing


def test_frames_that_ffmpeg_leaves_undecoded_in_part_are_refused(videos, tmp_path, monkeypatch):
    path = videos["hevc_open.mp4"][0]
    result = judge_copies(path, SPOILED, tmp_path)
    assert all(counts["silent"] == counts["undefined"] == counts["wrong"] == 0 for counts in result), result
    monkeypatch.setattr(BufferMarks, "check", lambda self, frame: None)
    assert sum(counts["silent"] for counts in judge_copies(path, SPOILED, tmp_path)) > 20


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "gray", "gbrp"])
def test_pictures_of_the_very_colours_of_the_marks_are_no_false_alarm(tmp_path, pix_fmt, monkeypatch):
    """Areas where all planes are zero, grey or full, as undecoded ones are."""
    suspected, look_again = [], VideoReader._read_suspect
    monkeypatch.setattr(VideoReader, "_read_suspect", lambda *a: suspected.append(a[1]) or look_again(*a))
    planes = np.random.default_rng(0).integers(0, 256, (30, 3, 96, 96), dtype=np.uint8)
    planes[:, :, :40, :] = np.array([0, 128, 255, 0], np.uint8).repeat(24)
    path = tmp_path / "marks.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx265", rate=25)
        stream.height, stream.width, stream.pix_fmt, stream.thread_count = 96, 96, pix_fmt, 1
        stream.options = {"preset": "ultrafast", "x265-params": "lossless=1:keyint=8:min-keyint=8:open-gop=1:bframes=2:"
                          "pools=1:frame-threads=1:log-level=none"}
        for t, samples in enumerate(planes):
            frame = av.VideoFrame(96, 96, pix_fmt)
            for plane, source in zip(frame.planes, samples[: len(frame.planes)], strict=True):
                wide = source[: plane.height, : plane.width].astype(np.uint16 if "10" in pix_fmt else np.uint8)
                wide = wide * 4 + wide // 64 if "10" in pix_fmt else wide
                room = np.frombuffer(plane, wide.dtype).reshape(plane.height, -1)
                room[:, : plane.width] = wide
            frame.pts = t
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    expected = damage.decode_all(path)
    reader = VideoReader(path)
    assert len(reader) == 30
    for number, frame in enumerate(expected.frames):
        assert damage.checksum(reader.read(number, 1, out="yuv"), 0) == frame.check
    assert sum(1 for _ in reader) == 30
    assert bool(suspected) == pix_fmt.startswith("yuv")


@pytest.mark.parametrize("name", [*DAMAGED, "h264_header_first.mp4", "fragmented.mp4", "mpeg4_b.avi"])
def test_cut_short_at_twenty_points(videos, tmp_path, name):
    assert_no_wrong_frame(run_judge(videos[name][0], "cut", 0, 20, tmp_path))


@pytest.mark.parametrize("number", [4, 9])
def test_an_avi_whose_index_disagrees_with_its_frames(videos, tmp_path, number):
    """A damaged chunk header makes seeking count other frames than reading on: such files are read in order."""
    path = tmp_path / "damaged.avi"
    path.write_bytes(damage.damaged_copy(videos["mpeg4_b.avi"][0].read_bytes(), "flip", number))
    assert "its index disagrees with its frames (slow random access)" in VideoReader(path).index.notes
    assert_no_wrong_frame(run_judge(videos["mpeg4_b.avi"][0], "flip", number, number + 1, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["h264_open.mp4", "hevc_open.mp4", "vp9.webm", "av1.mp4"])
def test_five_hundred_damaged_copies(videos, tmp_path, name):
    repaired = 0
    for first in range(0, 500, 50):
        result = run_judge(videos[name][0], "flip", first, first + 50, tmp_path)
        assert_no_wrong_frame(result, repaired=50)
        assert result["tainted"] == result["undefined"] == 0, result
        repaired += result["repaired"]
    # Copies 2 and 189: one frame each, as in test_random_damage.
    assert repaired <= (2 if name == "h264_open.mp4" else 0)


@pytest.mark.parametrize("kind", ["empty", "text", "random", "playlist", "header_only", "audio"])
def test_files_that_are_no_video(videos, tmp_path, kind):
    path = tmp_path / f"{kind}.mp4"
    if kind == "audio":
        with av.open(str(path), "w") as out:
            stream = out.add_stream("aac", rate=8000)
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            sound.rate = 8000
            out.mux(stream.encode(sound) + stream.encode(None))
    else:
        path.write_bytes({
            "empty": b"", "text": b"this is not a video\n" * 400,
            "random": np.random.default_rng(0).bytes(50_000),
            "playlist": b"#EXTM3U\n#EXTINF:1,\n" + str(videos["h264_open.ts"][0]).encode() + b"\n#EXT-X-ENDLIST\n",
            "header_only": videos["h264_closed.mp4"][0].read_bytes()[:2000],
        }[kind])
    with pytest.raises(ReadError, match=kind):
        VideoReader(path)
