"""Mixed data sets: which videos a sample fits into, what is said of the others, and that small ones can serve."""

import json
import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import sample_videos
import torch
from hypothesis import given
from hypothesis import strategies as st

from dcvc.cli import main
from dcvc.data import VideoGOPDataset, VideoReader
from dcvc.data.augment import resized
from dcvc.data.config import SamplingOptions
from dcvc.data.fitting_videos import Need, fitting_videos
from dcvc.data.video_table import VideoTable, pack_table
from dcvc.errors import DcvcError, InputError, ReadError
from dcvc.video.file_index import FileIndex, index_file


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Two large videos, one of few rows, one of few frames, one of both. Tests do not change it."""
    folder = tmp_path_factory.mktemp("mixed")
    sizes = {"large": (20, 64, 96), "larger": (24, 80, 112), "small": (20, 36, 64), "short": (5, 64, 96),
             "tiny": (4, 32, 48)}
    for name, size in sizes.items():
        frames = sample_videos.textures(*size)
        sample_videos.encode(folder / f"{name}.mp4", "libx264", frames, options=sample_videos.X264)
    return folder


def names(data: VideoGOPDataset) -> list[str]:
    return [data.describe(i).split(" ")[0].rsplit("/", 1)[-1].removesuffix(".mp4") for i in range(len(data))]


def refusal(folder, gop_size, crop_size, **options) -> str:
    with pytest.raises(InputError) as refused:
        VideoGOPDataset(folder, gop_size, None, crop_size, **options)
    return str(refused.value)


def test_one_message_counts_the_files_and_names_what_would_take_them(mixed, caplog):
    text = refusal(mixed, 3, 48)
    assert re.search(r"tiny\.mp4: found frames of 48x32, needed at least 48x48 \(crop_size\); 2 of 5 videos too small, "
                     r"this one the smallest; --small_videos skip .*--small_videos enlarge .*--crop_size 32 take", text)
    text = refusal(mixed, 3, 16, rescale=(48, 90))
    assert re.search(r"needed at least 48x48 \(rescale\).*; .*--sampling rescale=\[32,90\] takes them all$", text)
    assert "--crop_size 32 with --sampling rescale=[32,90]" in refusal(mixed, 3, 40, rescale=(48, 90))
    text = refusal(mixed, 7, 32)
    assert re.search(r"tiny\.mp4: found 4 frames, needed at least 7 \(gop_size\); 2 of 5 videos too short.*"
                     r"--short_videos skip.*ping_pong=true.*--gop_size 4 takes them all$", text)
    text = refusal(mixed, 4, 32, stride=2)
    assert re.search(r"needed at least 7 \(gop_size 4, stride 2\).*--gop_size 2 or --sampling stride=1 takes", text)
    # The values that a message names do take them all.
    assert len(VideoGOPDataset(mixed, 3, None, 32, rescale=(32, 90))) == 5
    assert len(VideoGOPDataset(mixed, 4, None, 32, stride=1)) == len(VideoGOPDataset(mixed, 2, None, 32, stride=2)) == 5
    # Where bad files are counted instead, each is named, with the option that asked for more.
    with pytest.raises(ReadError, match=r"2 of 5 videos are bad.*\(crop_size\)"):
        VideoGOPDataset(mixed, 3, None, 48, on_bad_video="skip")
    assert [m.split(": ")[1].rsplit("/", 1)[-1] for m in caplog.messages[-2:]] == ["small.mp4", "tiny.mp4"]


def test_small_and_short_files_are_left_out_or_serve(mixed, caplog):
    kept = VideoGOPDataset(mixed, 7, None, 48, small_videos="skip", short_videos="skip")
    assert names(kept) == ["large", "larger"]
    assert [message.split(": ")[0] for message in caplog.messages] == ["small_videos=skip", "short_videos=skip"]
    # A file that its size leaves out is not missed for its length; the rest still is.
    assert "short.mp4: found 5 frames" in refusal(mixed, 7, 48, small_videos="skip")
    assert "small.mp4: found frames of 64x36" in refusal(mixed, 7, 48, short_videos="skip")
    assert refusal(mixed, 3, 512, small_videos="skip").endswith("found no other videos")
    served = VideoGOPDataset(mixed, 7, None, 48, small_videos="enlarge", ping_pong=True)
    assert sorted(names(served)) == ["large", "larger", "short", "small", "tiny"]
    assert all(clip.shape == (7, 3, 48, 48) for clip in served)


@pytest.mark.parametrize(("crop", "rescale", "rows"), [(48, None, 36), (32, (48, 60), 24), (48, (40, 60), 36)])
def test_a_small_video_is_enlarged_no_more_than_needed(mixed, crop, rescale, rows):
    """A crop of 48 out of 36 rows: all rows, 4/3 as large. With 48 rows asked for and a crop of 32: 24 rows."""
    data = VideoGOPDataset(mixed / "small.mp4", 3, None, crop, seed=5, small_videos="enlarge", rescale=rescale)
    place = data.choose_gop(0, data.rng(0, 0))
    top, left, height, width = place.crop
    assert height == width == rows
    assert top + rows <= 36
    assert left + rows <= 64
    read = VideoReader(mixed / "small.mp4").read(place.start, 3, place.crop)
    assert torch.equal(data[0], resized(read, (crop, crop)).float() / 255)


def test_samples_of_large_videos_stay_the_same(mixed):
    for rescale in (None, (40, 70)):
        plain = VideoGOPDataset(mixed / "larger.mp4", 3, None, 40, seed=1, samples_per_video=9, rescale=rescale)
        for words in ({"small_videos": "enlarge"}, {"small_videos": "skip", "short_videos": "skip"}):
            other = VideoGOPDataset(mixed / "larger.mp4", 3, None, 40, seed=1, samples_per_video=9, rescale=rescale,
                                    **words)
            assert all(torch.equal(plain[i], other[i]) for i in range(9))


@pytest.fixture(scope="module")
def row(mixed) -> FileIndex:
    return index_file(mixed / "large.mp4")


def table_of(row: FileIndex, files: list[tuple[int, int, int]]) -> VideoTable:
    """Rows of these (frames, height, width), as an index has them."""
    rows = [replace(row, path=f"{number}.mp4", pts=np.arange(frames) * 512, height=height, width=width)
            for number, (frames, height, width) in enumerate(files)]
    return VideoTable(np.frombuffer(pack_table((each, 0) for each in rows), np.uint8))


FILES = st.lists(st.tuples(st.integers(1, 12), st.integers(16, 40), st.integers(16, 40)), min_size=1, max_size=8)
OPTIONS = st.fixed_dictionaries({
    "small_videos": st.sampled_from(("error", "skip", "enlarge")), "short_videos": st.sampled_from(("error", "skip")),
    "on_bad_video": st.sampled_from(("raise", "skip")), "ping_pong": st.booleans(), "stride": st.integers(1, 3),
    "rescale": st.none() | st.tuples(st.integers(16, 40), st.just(40))})


@given(files=FILES, options=OPTIONS, gop_size=st.integers(2, 5), crop_size=st.integers(16, 40))
def test_every_file_is_used_left_out_or_told_of_once(row, files, options, gop_size, crop_size):
    options = SamplingOptions(**options)
    fitting = fitting_videos(table_of(row, files), Need(gop_size, crop_size, options))
    side = max(crop_size, options.rescale[0] if options.rescale else 0)
    span = 2 if options.ping_pong else (gop_size - 1) * options.stride + 1
    told = {re.match(r"(\d+)\.mp4: ", str(error))[1] for error in fitting.errors}
    refused = 0
    for number, (frames, height, width) in enumerate(files):
        small, short = min(height, width) < side, frames < span
        assert fitting.usable[number] == (not short and (not small or options.small_videos == "enlarge"))
        left_out = small and options.small_videos == "skip" or short and options.short_videos == "skip"
        wrong = not (fitting.usable[number] or left_out)
        refused += wrong
        if options.on_bad_video == "skip":
            assert wrong == (str(number) in told)
        else:
            assert str(number) not in told or wrong
    assert len(told) == len(fitting.errors)
    assert bool(told) == bool(refused)


def test_index_shows_what_crop_gop_and_stride_would_leave_in(mixed, capsys):
    choices = "--crop_size 32 48 --gop_size 3 4 --stride 1 2"
    arguments = ["index", str(mixed), "--quiet", *choices.split()]
    assert main([*arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["usable"]
    for found, (gop_size, stride) in zip(rows, product((3, 4), (1, 2)), strict=True):
        assert (found["gop_size"], found["stride"]) == (gop_size, stride)
        for crop, count in found["files"].items():
            try:
                data = VideoGOPDataset(mixed, gop_size, None, int(crop), stride=stride, small_videos="skip",
                                       short_videos="skip")
                assert len(data) == count
            except DcvcError:
                assert count == 0
    assert [list(found["files"].values()) for found in rows] == [[5, 3], [4, 3], [5, 3], [3, 2]]
    assert main(arguments) == 0
    shown = capsys.readouterr().out.split("usable files")[1].splitlines()
    assert [line.split() for line in shown[2:6]] == [["3", "1", "3", "5", "3"], ["3", "2", "5", "4", "3"],
                                                      ["4", "1", "4", "5", "3"], ["4", "2", "7", "3", "2"]]
    assert main([*arguments, "--stride", "0"]) == 1
