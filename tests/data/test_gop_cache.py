"""Several samples from one decoding: the same samples with and without the cache, in any order and worker."""

import shutil

import pytest
import torch
from torch.utils.data import DataLoader

from dcvc.data import VideoGOPDataset, VideoReader
from dcvc.data.gop_cache import GOPCache
from dcvc.data.step_sampler import APART, StepSampler, step_loader
from dcvc.data.video_table import build_table


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DCVC_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(videos, tmp_path):
    (tmp_path / "set").mkdir()
    for name in ("h264_open.mp4", "vp9.webm"):
        shutil.copy(videos[name][0], tmp_path / "set" / name)
    return tmp_path / "set"


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


def test_crops_of_one_decoding(folder, monkeypatch):
    options = {"gop_size": 3, "crop_size": 16, "seed": 5, "samples_per_video": 8}
    data = VideoGOPDataset(folder, crops_per_read=4, flip=True, **options)
    decoded = []
    plain = VideoReader._read
    monkeypatch.setattr(VideoReader, "_read", lambda self, *a: decoded.append(a) or plain(self, *a))
    samples = [data[i] for i in range(16)]
    assert len(decoded) == 4
    assert len(data._cache) == 0
    assert len({data.describe(i) for i in range(4)}) == 1
    assert not torch.equal(samples[0], samples[1])
    again = VideoGOPDataset(folder, crops_per_read=4, flip=True, **options)
    for i in torch.randperm(16).tolist():
        assert torch.equal(again[i], samples[i])
    for workers in (1, 2):
        loaded = torch.cat(list(DataLoader(data, batch_size=4, num_workers=workers)))
        assert torch.equal(loaded, torch.stack(samples))


def test_repeated_reads_come_from_memory(folder, monkeypatch):
    data = VideoGOPDataset(folder, 3, None, 16, random_shuffle=False, seed=0, cache_mb=8)
    first = [data[0], data[1]]
    monkeypatch.setattr(VideoReader, "_read", lambda *a: pytest.fail("decoded again"))
    assert all(torch.equal(data[i], first[i]) for i in range(2))


def test_the_sampler_spreads_a_gop_within_one_worker():
    sampler = StepSampler(480, 4, 3, crops_per_read=4, last_step=120)
    batches = list(sampler)
    assert batches == list(StepSampler(480, 4, 3, crops_per_read=4, last_step=120))
    seen = {}
    for number, batch in enumerate(batches):
        assert len({index // 4 for _, index in batch}) == 4
        for _, index in batch:
            seen.setdefault(index // 4, []).append((number, index % 4))
    whole = [found for found in seen.values() if len(found) == 4]
    assert len(whole) >= 60
    for found in whole:
        assert sorted(crop for _, crop in found) == [0, 1, 2, 3]
        assert len({number % APART for number, _ in found}) == 1


def test_a_training_loader_decodes_once_per_group(folder):
    data = VideoGOPDataset(folder, 3, None, 16, seed=1, samples_per_video=96, crops_per_read=4)
    sampler = StepSampler(len(data), 2, 1, crops_per_read=4, last_step=60)
    one, two = (torch.cat(list(step_loader(data, sampler, workers, False))) for workers in (0, 2))
    assert torch.equal(one, two)


def test_verified_files_skip_by_themselves(folder):
    table = build_table([str(folder)])
    assert not table.row(0).verified
    table.mark_verified({table.path(1)})
    table = build_table([str(folder)])
    assert [table.row(i).verified for i in range(2)] == [True, False]
    row = table.row(0)
    assert VideoReader(row.path, index=row)._verified.whole_file
    assert torch.equal(VideoReader(row.path, index=row).read(20, 7), VideoReader(row.path).read(20, 7))
