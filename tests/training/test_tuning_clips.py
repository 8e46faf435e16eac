"""What is trained on and what is judged by never meet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcvc.errors import InputError
from dcvc.training import tuning_clips as clips
from dcvc.training.tuning_clips import Part
from dcvc.video.reader import VideoReader
from dcvc.video.writer import VideoWriter


def write(path, frames, size=(96, 64)):
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, size) as writer:
        for number in range(frames):
            rows, columns = np.mgrid[:size[1], :size[0]]
            grey = (rows * 2 + columns + 7 * number) % 256
            writer.write(np.repeat(grey[..., None], 3, axis=2).astype(np.uint8))
    return str(path)


@given(lengths=st.lists(st.integers(8, 5000), min_size=1, max_size=9))
def test_runs_lie_inside_their_parts_and_spread_over_them(lengths, tmp_path_factory):
    parts = [Part(f"video{number}.mp4", 100, 100 + length) for number, length in enumerate(lengths)]
    found = clips.training_clips(parts, tmp_path_factory.getbasetemp())
    frames = {part.path: [] for part in parts}
    for clip in found:
        frames[clip.part.path].append((clip.part.first, clip.part.end))
    for part in parts:
        runs = frames[part.path]
        assert runs[0][0] == part.first
        assert runs == sorted(runs)
        assert all(part.first <= first < end <= part.end for first, end in runs)
        # No frame twice: what is rare must not count double.
        assert all(before[1] <= after[0] for before, after in zip(runs, runs[1:], strict=False))
        if len(runs) > 1:
            assert runs[-1][1] == part.end
    assert len({clip.file for clip in found}) == len(found)


def test_a_single_video_is_judged_by_its_last_third(tmp_path):
    path = write(tmp_path / "one.mp4", 30)
    trained, judged = clips.split([path])
    assert (trained, judged) == ([Part(path, 0, 20)], [Part(path, 20, 30)])


def test_of_several_every_fourth_is_held_out(tmp_path):
    paths = [write(tmp_path / f"{number}.mp4", 8) for number in range(6)]
    trained, judged = clips.split([str(tmp_path), paths[0]])
    assert [part.path for part in judged] == [paths[1], paths[5]]
    assert [part.path for part in trained] == [paths[0], *paths[2:5]]


def test_what_is_written_is_what_was_chosen(tmp_path):
    """Judged frames are those of the source, as exact as 4:2:0 allows; odd sides lose a row."""
    path = write(tmp_path / "one.mp4", 40)
    clip = clips.judged_clips([Part(path, 13, 40)], tmp_path / "held_out", pixels=1e9)[0]
    clips.write_clips([clip])
    with VideoReader(clip.file) as written, VideoReader(path) as source:
        assert len(written) == 27
        assert written.fps == source.fps
        apart = written.read(0, 27).int() - source.read(13, 27).int()
    assert apart.abs().max() <= 3


@pytest.mark.parametrize(("frames", "size", "message"), [
    (1, (96, 64), "found 1 frames, needed at least 12: a third is kept to judge by"),
    (20, (60, 64), "found 60x64, needed at least 64 pixels a side"),
])
def test_a_video_that_does_not_serve_is_named(tmp_path, frames, size, message):
    path = write(tmp_path / "one.mp4", frames, size)
    with pytest.raises(InputError, match=message) as error:
        clips.split([path])
    assert str(error.value).startswith(path)


def test_a_short_one_among_several_is_named(tmp_path):
    for number, frames in enumerate((9, 9, 3)):
        write(tmp_path / f"{number}.mp4", frames)
    with pytest.raises(InputError, match=r"2.mp4: found 3 frames, needed at least 8; take this video out"):
        clips.split([str(tmp_path)])
