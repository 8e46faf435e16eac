"""Streams of the layouts of other projects: codes with digits, codes of several grids, in another process."""

import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
from kit import vqgan_layouts
from kit.layout_streams import KINDS, damaged_payloads, frame, random_prior, rated, round_trips
from kit.vqgan_layouts import CODED

from dcvc.errors import InputError
from dcvc.intra import VQGANIFrameModel
from dcvc.intra.vqgan.prior import PriorRate
from dcvc.intra.vqgan.rate import StaticRate, UniformRate, read_codes, write_codes
from dcvc.intra.vqgan.rate_file import KEY, rate_models_to_file
from dcvc.intra.vqgan.symbols import Symbols, digit_groups, sizes_of


def test_every_layout_in_another_process(tmp_path):
    used = Counter()
    for layout in CODED:
        found = round_trips(tmp_path, layout, 3)
        assert found["equal"] == found["streams"] == 3
        assert found["largest_gap_of_allowed"] <= 1
        used.update(found["rate_models"])
    assert used.keys() == {"0", "1", "2"}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("layout", CODED)
def test_a_thousand_sizes_and_ten_thousand_damages_of_every_layout(tmp_path, layout):
    """The long form of the others; benchmarks/vqgan_layout_streams.py counts the same."""
    found = round_trips(tmp_path, layout, 1000)
    assert found["equal"] == found["streams"] == 1000
    assert damaged_payloads(tmp_path, layout, 10_000)["silent"] == {}


@pytest.mark.parametrize("sizes", [(64, 40, 25), (64, 64, 64), (200, 3), (7,)])
def test_symbols_of_different_sizes_come_back(sizes):
    rng = np.random.default_rng(len(sizes))
    network = random_prior([torch.randn(size, 3) for size in sizes])
    counts = rng.integers(0, 99, (len(sizes), max(sizes)))
    symbols = Symbols(1, sizes)
    for shape in ((1, 1, 1, 1), (2, 1, 7, 5), (1, 1, 33, 18)):
        codes = rng.integers(0, math.prod(sizes), shape)
        split = symbols.split(codes)
        assert np.array_equal(symbols.join(split), codes)
        assert all(split[:, plane].max() < size for plane, size in enumerate(sizes))
        for model in (UniformRate(sizes), StaticRate(counts, sizes), PriorRate(network)):
            words = write_codes(split, model)
            assert np.array_equal(read_codes(words, split.shape, model), split)
            estimate = sum(model.bits(frame).sum() for frame in split)
            assert abs(8 * len(words.tobytes().rstrip(b"\0")) - estimate) <= 0.005 * estimate + 33
            if model.name == "uniform":
                assert estimate == pytest.approx(codes.size * math.log2(math.prod(sizes)))


def test_a_prior_learns_symbols_of_different_sizes():
    """What the training counts is what the coder counts, also where a level has fewer codes than another."""
    sizes = (40, 5, 25)
    network = random_prior([torch.randn(size, 3) for size in sizes])
    symbols = torch.stack([torch.randint(0, size, (12, 17)) for size in sizes])
    loss = float(network.loss(symbols[None]).detach())
    assert PriorRate(network).bits(symbols.numpy()).mean() == pytest.approx(loss, rel=0.005)


def test_groups_of_digits_are_few_and_even():
    assert digit_groups((2,) * 18) == ((2,) * 6,) * 3
    assert digit_groups((8, 8, 8, 5, 5, 5)) == ((8, 8), (8, 5), (5, 5))
    assert sizes_of(vqgan_layouts.CONFIGS["ibq"]) == (64,)
    for digits in ((256, 2), (2,) * 14, (3, 200, 7, 7)):
        groups = digit_groups(digits)
        assert sum(groups, ()) == digits
        assert max(map(math.prod, groups)) <= 256


@pytest.mark.parametrize("layout", ["magvit2", "cosmos", "var"])
def test_damage_is_found(tmp_path, layout):
    found = damaged_payloads(tmp_path, layout, 300)
    assert found["silent"] == {}
    assert set(found["refused"]) == set(KINDS)


def test_grids_of_several_scales(tmp_path):
    codec = rated(tmp_path, "var")
    x = torch.cat([frame(26, 40, seed) for seed in (1, 2)])
    grids = codec.encode_indices(x)
    assert [tuple(one.shape) for one in grids] == [(2, 2, 3), (2, 4, 8), (2, 13, 20)]
    assert torch.equal(codec.decode_indices(grids), codec.frames_of(codec.codes_of(x), 26, 40))
    payload, x_hat = codec.compress(x)
    assert torch.equal(codec.decompress(payload), x_hat)
    for bad in (grids[:2], grids[0], [*grids[:2], grids[2][:, :9]], [one[:1] for one in grids[:2]] + grids[2:]):
        with pytest.raises(InputError, match="indices: found"):
            codec.decode_indices(bad)
    with pytest.raises(InputError, match=r"needed 0\.\.63"):
        codec.decode_indices([*grids[:2], grids[2] + 64])


def test_rate_models_of_other_symbols_are_refused(tmp_path):
    rated(tmp_path, "cosmos")
    content = torch.load(tmp_path / "cosmos.pt", weights_only=True)
    prior = random_prior([torch.randn(64, 3), torch.randn(64, 3), torch.randn(5, 3)])
    content[KEY] = rate_models_to_file(torch.ones(3, 64), prior)
    torch.save(content, tmp_path / "cosmos.pt")
    with pytest.raises(InputError, match=r"rate_models\.(prior|static): found"):
        VQGANIFrameModel(None, tmp_path / "cosmos.pt")
    assert json.loads(json.dumps(content["config"]))["model_args"]["model_variant"] == "FSQ"
