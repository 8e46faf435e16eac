"""Outputs: the frames come back, tagged; nothing half-written ever has the final name."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image
from sample_videos import textures

from dcvc.data import VideoReader
from dcvc.errors import InputError, ReadError
from dcvc.video.outputs import open_output, write_frames
from dcvc.video.writer import VideoWriter

SIZE, FPS = (47, 62), Fraction(30000, 1001)


@pytest.fixture
def frames():
    return torch.from_numpy(textures(5, *SIZE)).permute(0, 3, 1, 2)


@pytest.mark.parametrize(("name", "distance"), [("a.mkv", 0), ("a.mp4", 0), ("a.y4m", 2)])
def test_videos_give_the_frames_back(tmp_path, frames, name, distance):
    path = tmp_path / "new folder" / name
    assert write_frames(frames, open_output(str(path), SIZE, FPS)) == 5
    reader = VideoReader(path)
    assert reader.fps == pytest.approx(float(FPS))
    assert (reader.read(0, 5).int() - frames.int()).abs().max() <= distance
    assert [file.name for file in path.parent.iterdir()] == [name]


def test_pictures_give_the_frames_back_and_spare_what_is_there(tmp_path, frames):
    folder = tmp_path / "frames"
    folder.mkdir()
    write_frames(frames, open_output(str(folder), SIZE, FPS))
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [f"im{k:05d}.png" for k in range(1, 6)]
    assert np.array_equal(np.array(Image.open(files[4])), frames[4].permute(1, 2, 0).numpy())
    with pytest.raises(InputError, match="not an empty folder"):
        write_frames(frames, open_output(str(folder), SIZE, FPS))
    assert [file.name for file in tmp_path.iterdir()] == ["frames"]


def test_lossy_videos_and_the_writers_are_tagged(tmp_path, frames):
    write_frames(frames[:, :, :46], open_output(str(tmp_path / "a.mp4"), (46, 62), FPS, crf=20))
    with VideoWriter(tmp_path / "b.mp4", (62, 46)) as writer:
        writer.write(frames[0, :, :46].permute(1, 2, 0).numpy())
    for name in ("a.mp4", "b.mp4"):
        with av.open(str(tmp_path / name)) as container:
            context = container.streams.video[0].codec_context
            tags = context.colorspace, context.color_range, context.color_primaries, context.color_trc
            assert [int(tag) for tag in tags] == [1, 1, 1, 1]


def failing(frames, error):
    yield from frames
    raise error


@pytest.mark.parametrize("name", ["a.mkv", "a.y4m", "frames"])
def test_a_failure_leaves_nothing_unless_told_to_keep_going(tmp_path, frames, name):
    target = str(tmp_path / name)
    with pytest.raises(ReadError, match="damaged"):
        write_frames(failing(frames, ReadError("damaged")), open_output(target, SIZE, FPS))
    with pytest.raises(KeyboardInterrupt):
        write_frames(failing(frames, KeyboardInterrupt()), open_output(target, SIZE, FPS), keep_going=True)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ReadError, match="damaged") as caught:
        write_frames(failing(frames, ReadError("damaged")), open_output(target, SIZE, FPS), keep_going=True)
    assert caught.value.frames_written == 5
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_unusable_places_are_named(tmp_path):
    with pytest.raises(InputError, match="suffix '.gif'"):
        open_output(str(tmp_path / "a.gif"), SIZE, FPS)
    with pytest.raises(InputError, match="--crf"):
        open_output(str(tmp_path / "a.y4m"), SIZE, FPS, crf=20)
    (tmp_path / "file").write_text("")
    with pytest.raises(ReadError, match=r"a\.mkv: cannot be written"):
        write_frames([], open_output(str(tmp_path / "file" / "a.mkv"), SIZE, FPS))
