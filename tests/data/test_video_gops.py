"""Training sets on video files: shapes, seeds, workers, options, errors."""

import shutil

import numpy as np
import pytest
import sample_videos
import torch
from torch.utils.data import DataLoader

from dcvc.data import VideoGOPDataset, VideoReader, VideoValidationDataset
from dcvc.data.augment import has_cut
from dcvc.data.video_table import pack_table
from dcvc.errors import InputError, MissingError, ReadError
from dcvc.video.file_index import index_file


def test_samples_are_the_named_frames(folder):
    data = VideoGOPDataset(folder, gop_size=5, crop_size=32, seed=4)
    assert len(data) == 4
    for index in range(4):
        clip = data[index]
        assert clip.dtype == torch.float32
        assert clip.shape == (5, 3, 32, 32)
        path, _, span = data.describe(index).split(" ")
        start = int(span.split("-")[0])
        whole = VideoReader(path).read(start, 5).float() / 255
        views = whole.unfold(2, 32, 1).unfold(3, 32, 1)[:, :, :, :]
        same = (views == clip[:, :, None, None]).flatten(4).all(-1).all(0).all(0)
        assert same.any()


def test_workers_epochs_and_seeds(folder):
    def everything(workers, seed=1, epoch=0):
        data = VideoGOPDataset(folder, gop_size=3, crop_size=16, seed=seed, samples_per_video=3)
        data.set_epoch(epoch)
        return torch.cat(list(DataLoader(data, batch_size=2, num_workers=workers)))

    one = everything(0)
    assert torch.equal(one, everything(2))
    assert not torch.equal(one, everything(0, epoch=1))
    assert not torch.equal(one, everything(0, seed=2))
    fresh = VideoGOPDataset(folder, gop_size=3, crop_size=16), VideoGOPDataset(folder, gop_size=3, crop_size=16)
    assert fresh[0].seed != fresh[1].seed


def test_set_epoch_reaches_living_workers(folder):
    data = VideoGOPDataset(folder, gop_size=2, crop_size=16, seed=1)
    loader = DataLoader(data, num_workers=1, persistent_workers=True)
    first = torch.cat(list(loader))
    assert torch.equal(first, torch.cat(list(loader)))
    data.set_epoch(7)
    assert not torch.equal(first, torch.cat(list(loader)))


def test_transform_gets_pil_images(folder):
    seen = []

    def transform(image):
        seen.append((type(image).__module__, image.size))
        return image.resize((20, 10))

    assert VideoGOPDataset(folder, 2, transform, 32, seed=0)[0].shape == (2, 3, 10, 20)
    assert seen == [("PIL.Image", (32, 32))] * 2
    assert VideoValidationDataset(folder, transform, 2)[0]["frames"].shape == (2, 3, 10, 20)


def test_options(folder):
    plain = VideoGOPDataset(folder, 3, None, 32, random_shuffle=False, seed=0)
    assert plain.describe(1).endswith("frames 0-2")
    strided = VideoGOPDataset(folder, 3, None, 32, random_shuffle=False, seed=0, stride=4)
    path = strided.describe(1).split(" ")[0]
    middle = VideoReader(path).read(0, 9, (16, 32, 32, 32))[::4]
    assert torch.equal(strided[1], middle.float() / 255)
    for options in ({"flip": True}, {"rotate": True}, {"jitter": 0.3}, {"reverse": True}, {"rescale": (40, 60)}):
        data = VideoGOPDataset(folder, 3, None, 32, seed=3, **options)
        again = VideoGOPDataset(folder, 3, None, 32, seed=3, **options)
        assert data[0].shape == (3, 3, 32, 32)
        assert torch.equal(data[2], again[2])
    with pytest.raises(InputError, match="unknown key 'strid'; did you mean 'stride'"):
        VideoGOPDataset(folder, 3, strid=2)
    by_frames = VideoGOPDataset(folder, 3, None, 32, seed=0, sampling="frames", samples_per_video=50)
    assert len({by_frames.describe(i).split(" ")[0] for i in range(60)}) == 4
    weighted = VideoGOPDataset([folder / "vp9.webm", folder / "vfr.mp4"], 3, None, 32, seed=0, weights=[3, 1],
                               samples_per_video=200)
    share = np.mean(["vp9" in weighted.describe(i) for i in range(400)])
    assert 0.68 < share < 0.82


def test_hard_cuts_are_avoided(tmp_path):
    parts = [sample_videos.textures(20, 64, 96, seed) for seed in (1, 2)]
    parts[1] = parts[1] // 3
    path = sample_videos.encode(tmp_path / "cut.mp4", "libx264", np.concatenate(parts), options=sample_videos.X264)
    frames = VideoReader(path).read(0, 40)
    assert has_cut(frames[17:24])
    assert not has_cut(frames[:20])
    data = VideoGOPDataset(path, 7, None, 64, seed=0, avoid_cuts=True, samples_per_video=40)
    starts = [int(data.describe(i).split(" ")[-1].split("-")[0]) for i in range(40)]
    assert all(start <= 13 or start >= 20 for start in starts)


def test_bad_folders_and_files(folder, videos, tmp_path):
    with pytest.raises(MissingError, match="nowhere"):
        VideoGOPDataset(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no video files"):
        VideoGOPDataset(tmp_path / "empty")
    bad = tmp_path / "bad"
    shutil.copytree(folder, bad)
    (bad / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(RuntimeError, match=r"broken\.mp4: cannot open"):
        VideoGOPDataset(bad, 3, None, 32)
    with pytest.raises(RuntimeError, match=r"broken\.mp4"):
        VideoValidationDataset(bad)
    skipping = VideoGOPDataset(bad, 3, None, 32, on_bad_video="skip", max_bad_share=0.3)
    assert len(skipping) == 4
    with pytest.raises(ReadError, match="1 of 5 videos are bad"):
        VideoGOPDataset(bad, 3, None, 32, on_bad_video="skip", max_bad_share=0.1)


def test_damage_found_while_reading_is_redrawn_or_raised(videos, tmp_path):
    data = bytearray(videos["h264_closed.mp4"][0].read_bytes())
    data[2000:12000] = bytes(10000)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "damaged.mp4").write_bytes(data)
    shutil.copy(videos["vfr.mp4"][0], tmp_path / "set" / "whole.mp4")
    try:
        strict = VideoGOPDataset(tmp_path / "set", 7, None, 32, seed=0, samples_per_video=20)
    except ReadError as error:
        assert "damaged.mp4" in str(error)  # noqa: PT017
        return
    with pytest.raises(ReadError, match=r"damaged\.mp4"):
        [strict[i] for i in range(40)]
    skipping = VideoGOPDataset(tmp_path / "set", 7, None, 32, seed=0, samples_per_video=20, on_bad_video="skip",
                               max_bad_share=0.6)
    assert all(skipping[i].shape == (7, 3, 32, 32) for i in range(40))


def test_many_files_cost_nothing_per_sample(folder, tmp_path):
    """The short form of benchmarks/data_million.json."""
    row = index_file(folder / "h264_open.mp4")
    path = tmp_path / "many.dcvcindex"
    path.write_bytes(pack_table((row, 0) for _ in range(20_000)))
    data = VideoGOPDataset(path, 3, None, 32, seed=0, sampling="frames")
    assert len(data) == 20_000
    assert data[19_999].shape == (3, 3, 32, 32)


def test_short_videos_are_played_forth_and_back(tmp_path):
    """Four frames for a GOP of nine: 0 1 2 3 2 1 0 1 2; without the option they are refused by name."""
    sample_videos.encode(tmp_path / "short.mp4", "libx264", sample_videos.textures(4, 48, 64))
    with pytest.raises(InputError, match=r"short.mp4: found 4 frames, needed at least 9"):
        VideoGOPDataset(tmp_path, gop_size=9, crop_size=32)
    data = VideoGOPDataset(tmp_path, gop_size=9, crop_size=32, ping_pong=True, sampling="frames")
    clip = data[0]
    assert clip.shape[0] == 9
    for later, frame in enumerate((0, 1, 2, 3, 2, 1, 0, 1, 2)):
        assert torch.equal(clip[later], clip[frame])
    assert not torch.equal(clip[0], clip[3])
    sample_videos.encode(tmp_path / "one.mp4", "libx264", sample_videos.textures(1, 48, 64))
    with pytest.raises(InputError, match=r"one.mp4: found 1 frames, needed at least 2"):
        VideoGOPDataset(tmp_path, gop_size=9, crop_size=32, ping_pong=True)
