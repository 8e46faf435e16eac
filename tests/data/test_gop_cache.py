"""Several samples from one decoding: the same samples with and without the cache, in any order and worker."""

import pytest
import torch
from torch.utils.data import DataLoader

from dcvc.data import VideoGOPDataset, VideoReader
from dcvc.data.gop_cache import GOPCache
from dcvc.data.step_sampler import StepSampler, step_loader
from dcvc.errors import InputError


def test_the_cache_is_bounded():
    cache = GOPCache(1000)
    for key in range(5):
        cache.put(key, torch.full((300,), key, dtype=torch.uint8))
    assert len(cache) == 3
    assert cache.size == 900
    assert cache.get(1) is None
    assert cache.get(2)[0] == 2
    cache.put(9, torch.zeros(300, dtype=torch.uint8))
    assert cache.get(3) is None  # the least recently used one
    assert cache.take(9) is not None
    assert cache.take(9) is None
    assert cache.size == 600


def test_crops_of_one_decoding(two_videos, monkeypatch):
    options = {"gop_size": 3, "crop_size": 16, "seed": 5, "samples_per_video": 8}
    data = VideoGOPDataset(two_videos, crops_per_read=4, flip=True, **options)
    decoded = []
    plain = VideoReader._read
    monkeypatch.setattr(VideoReader, "_read", lambda self, *a: decoded.append(a) or plain(self, *a))
    samples = [data[i] for i in range(16)]
    assert len(decoded) == 4
    assert len(data._cache) == 0
    assert len({data.describe(i) for i in range(4)}) == 1
    assert not torch.equal(samples[0], samples[1])
    again = VideoGOPDataset(two_videos, crops_per_read=4, flip=True, **options)
    for i in torch.randperm(16).tolist():
        assert torch.equal(again[i], samples[i])
    for workers in (1, 2):
        loaded = torch.cat(list(DataLoader(data, batch_size=4, num_workers=workers)))
        assert torch.equal(loaded, torch.stack(samples))


def test_repeated_reads_come_from_memory(two_videos, monkeypatch):
    data = VideoGOPDataset(two_videos, 3, None, 16, random_shuffle=False, seed=0, cache_mb=8)
    first = [data[0], data[1]]
    monkeypatch.setattr(VideoReader, "_read", lambda *a: pytest.fail("decoded again"))
    assert all(torch.equal(data[i], first[i]) for i in range(2))


def test_a_training_loader_decodes_once_per_group(two_videos):
    data = VideoGOPDataset(two_videos, 3, None, 16, seed=1, samples_per_video=96, crops_per_read=4)
    sampler = StepSampler(len(data), 2, 1, crops_per_read=4, last_step=60)
    one, two = (torch.cat(list(step_loader(data, sampler, workers, False))) for workers in (0, 2))
    assert torch.equal(one, two)


def test_several_crops_from_one_decoding(videos):
    reader = VideoReader(videos["vp9_odd.webm"][0])
    crops = [(0, 0, 8, 8), (5, 3, 20, 11)]
    for crop, frames in zip(crops, reader.read_crops(4, 3, crops), strict=True):
        assert torch.equal(frames, reader.read(4, 3, crop))
    with pytest.raises(InputError):
        reader.read_crops(29, 3, crops)
