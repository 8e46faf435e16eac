"""Every start of every kind of file gives exactly the frames of a sequential decode."""

import functools
import multiprocessing
import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from damaged_videos import checksum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_videos import X264, encode, luma, sequential, textures, without_reorder_limits

from dcvc.data import VideoReader
from dcvc.errors import InputError, MissingError, ReadError
from dcvc.video.decoder_run import DecoderRun

KINDS = [
    "h264_closed.mp4", "h264_open.mp4", "h264_pyramid.mov", "h264_open.mkv", "h264_open.ts", "h264_raw.h264",
    "interlaced.mp4", "hevc_open.mp4", "hevc_10bit.mkv", "vp9.webm", "vp8.webm", "vp9_odd.webm", "av1.mp4",
    "mpeg4_b.avi", "mpeg2.mpg", "vfr.mp4", "edit_list.mp4", "rotated.mp4", "late_start.mkv", "late_start.ts",
    "fragmented.mp4", "ffv1_422_10.mkv", "h264_444.mp4", "gray.mkv", "mjpeg.avi", "cover.mp4",
    "decode_times.mp4", "decode_times.mkv", "short_edit.mp4",
]


@pytest.mark.parametrize("name", KINDS)
def test_every_start_is_exact(videos, name):
    path, count = videos[name]
    expected = [luma(frame) for frame in sequential(path)]
    with VideoReader(path) as reader:
        assert len(reader) == len(expected) == count
        for start in np.random.default_rng(0).permutation(count - 4):
            planes = reader.read(int(start), 5, out="yuv")
            for offset in range(5):
                np.testing.assert_array_equal(planes.y[offset].numpy(), expected[start + offset], f"{start}+{offset}")



def test_no_frame_is_dropped_while_the_decoder_learns_its_delay(tmp_path):
    """B-frames that begin late, in a stream that does not announce them: FFmpeg drops some unless told to wait."""
    frames = textures(80, 64, 96)
    told = encode(tmp_path / "told.ts", "libx264", frames, p_frames=40, options={
        **X264, "x264-params": "bframes=7:b-adapt=0:b-pyramid=normal:keyint=infinite:scenecut=0"})
    expected = [luma(frame) for frame in sequential(told)]
    path = without_reorder_limits(told, tmp_path / "untold.ts")
    assert len(sequential(path)) < len(expected) == 80
    reader = VideoReader(path)
    assert len(reader) == 80
    for number in np.random.default_rng(0).permutation(80).tolist() + list(range(80)):
        assert np.array_equal(reader.read(number, 1, out="yuv").y[0].numpy(), expected[number])


def test_intra_refresh_gives_the_right_frame(videos):
    path, count = videos["h264_refresh.mp4"]
    expected = np.stack([luma(frame) for frame in sequential(path)]).astype(np.float32)
    reader = VideoReader(path)
    assert len(reader) == count
    for start in range(count):
        got = reader.read(start, 1, out="yuv").y[0].numpy().astype(np.float32)
        assert np.argmin(np.abs(expected - got).mean((1, 2))) == start


@pytest.mark.parametrize("name", ["h264_open.mp4", "vp9_odd.webm", "rotated.mp4", "hevc_10bit.mkv", "rgb.mkv",
                                  "h264_raw.h264"])
def test_crop_iteration_and_planes_agree(videos, name):
    reader = VideoReader(videos[name][0])
    height, width = reader.size
    whole = reader.read(7, 3)
    assert whole.dtype == torch.uint8
    assert whole.shape == (3, 3, height, width)
    for top, left, rows, columns in [(0, 0, 1, 1), (3, 5, 17, 20), (height - 9, width - 7, 9, 7), (8, 12, 16, 16)]:
        crop = reader.read(7, 3, crop=(top, left, rows, columns))
        assert torch.equal(crop, whole[:, :, top: top + rows, left: left + columns])
    assert torch.equal(reader.read(7, 3, out="yuv").rgb(), whole)
    every = torch.stack(list(reader))
    assert len(every) == len(reader)
    assert torch.equal(every[7:10], whole)


@pytest.mark.parametrize("name", ["h264_open.mp4", "h264_pyramid.mov", "hevc_open.mp4", "h264_open.ts"])
def test_skipping_unreferenced_frames_changes_nothing(videos, name):
    plain, skipping = VideoReader(videos[name][0]), VideoReader(videos[name][0], skip_unreferenced=True)
    for start in range(0, 46, 3):
        assert torch.equal(plain.read(start, 2), skipping.read(start, 2))


@pytest.mark.parametrize("name", [*KINDS, "h264_refresh.mp4"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_was_read_before_makes_no_difference(videos, name, data):
    path, count = videos[name]
    walks = data.draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(1, 4), st.integers(0, 3),
                                         st.integers(1, 12)), min_size=1, max_size=3))
    with VideoReader(path) as reader:
        for start, size, gap, steps in walks:                # chunks in sequence, mostly
            for first in range(start, count - size + 1, size + gap)[:steps]:
                found = reader.read(first, size, out="yuv")
                for offset in range(size):
                    assert checksum(found, offset) == alone(path, first + offset)


@functools.cache
def alone(path, number: int) -> int:
    """Checksum of a frame, read by a reader that read nothing else."""
    return checksum(VideoReader(path).read(number, 1, out="yuv"), 0)


def test_reading_on_does_not_begin_at_the_keyframe_again(videos, monkeypatch):
    begun = []
    begin = VideoReader._seek_and_decode
    monkeypatch.setattr(VideoReader, "_seek_and_decode",
                        lambda self, key, *rest: begun.append(key) or begin(self, key, *rest))
    reader = VideoReader(videos["h264_pyramid.mov"][0])
    for start in range(0, 46, 2):
        reader.read(start, 2)
    assert len(begun) <= len(reader.index.keys) + 5          # the first reads have to show that it pays
    begun.clear()
    for start in range(44, -1, -2):
        reader.read(start, 2)
    assert len(begun) == 23


def test_frames_nobody_refers_to_are_left_out_once_they_were_decoded_without_error(videos, monkeypatch):
    skips = []
    skip = DecoderRun._skip_unreferenced
    monkeypatch.setattr(DecoderRun, "_skip_unreferenced", lambda self, on: skips.append(on) or skip(self, on))
    reader = VideoReader(videos["h264_open.mp4"][0])
    first = reader.read(20, 2)
    assert not any(skips)
    again = reader.read(20, 2)
    assert any(skips)
    assert torch.equal(first, again)


def test_rotation_is_applied(videos):
    path = videos["rotated.mp4"][0]
    reader, frame = VideoReader(path), sequential(path)[4]
    coded = reader.read(4, 1, out="yuv")
    luma = np.frombuffer(frame.planes[0], np.uint8).reshape(frame.height, -1)[:, :frame.width]
    assert np.array_equal(coded.y[0].numpy(), luma)
    assert reader.size == (frame.width, frame.height)
    # Before or after turning, chroma is interpolated at the same places.
    upright = replace(coded, orientation=(False, False, False)).rgb()
    assert torch.equal(reader.read(4, 1), torch.rot90(upright, frame.rotation // 90, (-2, -1)))



def test_bad_arguments_and_missing_files(videos, tmp_path):
    reader = VideoReader(videos["h264_open.mp4"][0])
    for start, count in [(-1, 2), (0, 0), (46, 3), (48, 1)]:
        with pytest.raises(InputError, match="found 48 frames"):
            reader.read(start, count)
    with pytest.raises(InputError, match="does not fit"):
        reader.read(0, 1, crop=(0, 0, 65, 10))
    with pytest.raises(MissingError):
        VideoReader(tmp_path / "none.mp4")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(ReadError, match="folder"):
        VideoReader(tmp_path / "folder.mp4")


def _read_in_child(reader, queue):
    queue.put(reader.read(20, 2).numpy())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_opened_before_a_fork_or_pickled(videos):
    reader = VideoReader(videos["h264_open.mp4"][0])
    expected = reader.read(20, 2)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=_read_in_child, args=(reader, queue)) for _ in range(3)]
    for child in children:
        child.start()
    assert torch.equal(reader.read(20, 2), expected)
    for _ in children:
        np.testing.assert_array_equal(queue.get(timeout=60), expected.numpy())
    for child in children:
        child.join()
    assert torch.equal(pickle.loads(pickle.dumps(reader)).read(20, 2), expected)


def test_real_clips_against_a_sequential_decode(clips):
    for path in sorted(p for p in clips.glob("*/*") if p.suffix in (".mkv", ".avi")) + [clips / "train/nasa_13013.mp4"]:
        expected = [luma(frame) for frame in sequential(path)]
        with VideoReader(path) as reader:
            assert len(reader) == len(expected)
            for start in np.random.default_rng(3).integers(0, len(reader) - 3, 6):
                got = reader.read(int(start), 3, out="yuv").y.numpy()
                np.testing.assert_array_equal(got, np.stack(expected[start: start + 3]))


def test_memory_and_handles_stay_flat(videos):
    """The short form of benchmarks/data_handles.json."""
    psutil = pytest.importorskip("psutil")
    process = psutil.Process()
    path = videos["h264_closed.mp4"][0]

    def work(times):
        for k in range(times):
            with VideoReader(path) as reader:
                reader.read(k % 40, 2, crop=(0, 0, 16, 16))

    work(100)
    memory, handles = process.memory_info().rss, process.num_fds()
    work(400)
    assert process.num_fds() <= handles
    assert process.memory_info().rss - memory < 4 << 20
