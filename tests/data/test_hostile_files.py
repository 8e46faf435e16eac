"""Damaged and hostile files: errors, never a crash, a hang or a concealed frame. Long form: 500 copies of each."""

import json
import subprocess
import sys
from pathlib import Path

import damage
import numpy as np
import pytest

from dcvc.data import VideoReader
from dcvc.errors import ReadError

DAMAGED = ["h264_open.mp4", "h264_open.mkv", "h264_open.ts", "hevc_open.mp4", "vp9.webm", "av1.mp4"]


def run_judge(path: Path, kind: str, first: int, last: int, folder: Path) -> dict:
    """In another process: a crash there is a failure here, not the end of the tests."""
    script = Path(__file__).with_name("damage.py")
    command = [sys.executable, str(script), str(path), kind, str(first), str(last), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10 * (last - first) + 60)
    assert done.returncode == 0, f"{path.name} {kind} {first}-{last}: exit {done.returncode}\n{done.stderr[-2000:]}"
    return json.loads(done.stdout)


def assert_sound(result: dict) -> None:
    assert result["wrong"] == result["concealed"] == result["repaired"] == result["slow"] == 0, result
    assert result["good"] + result["refused"] + result["unopened"] > 0


@pytest.mark.parametrize("name", DAMAGED)
def test_random_damage(videos, tmp_path, name):
    result = run_judge(videos[name][0], "flip", 0, 25, tmp_path)
    assert_sound(result)
    assert result["tainted"] == 0 or name.endswith(".ts"), result  # times that repeat are ambiguous there


@pytest.mark.parametrize("name", [*DAMAGED, "h264_header_first.mp4", "fragmented.mp4", "mpeg4_b.avi"])
def test_cut_short_at_twenty_points(videos, tmp_path, name):
    assert_sound(run_judge(videos[name][0], "cut", 0, 20, tmp_path))


@pytest.mark.parametrize("number", [4, 9])
def test_an_avi_whose_index_disagrees_with_its_frames(videos, tmp_path, number):
    """A damaged chunk header makes seeking count other frames than reading on: such files are read in order."""
    path = tmp_path / "damaged.avi"
    path.write_bytes(damage.damaged_copy(videos["mpeg4_b.avi"][0].read_bytes(), "flip", number))
    assert "its index disagrees with its frames (slow random access)" in VideoReader(path).index.notes
    assert_sound(run_judge(videos["mpeg4_b.avi"][0], "flip", number, number + 1, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["h264_open.mp4", "hevc_open.mp4", "vp9.webm", "av1.mp4"])
def test_five_hundred_damaged_copies(videos, tmp_path, name):
    for first in range(0, 500, 50):
        assert_sound(run_judge(videos[name][0], "flip", first, first + 50, tmp_path))


@pytest.mark.parametrize("kind", ["empty", "text", "random", "playlist", "header_only", "audio"])
def test_files_that_are_no_video(videos, tmp_path, kind):
    path = tmp_path / f"{kind}.mp4"
    if kind == "audio":
        av = pytest.importorskip("av")
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
