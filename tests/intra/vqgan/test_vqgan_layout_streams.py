"""Streams of the layouts of other projects: codes with digits, codes of several grids, in another process."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import vqgan_layouts

from dcvc.errors import BitstreamError, InputError
from dcvc.intra import VQGANIFrameModel
from dcvc.intra.vqgan.config import config_to_values
from dcvc.intra.vqgan.prior import CodePrior, PriorConfig, PriorRate
from dcvc.intra.vqgan.rate import StaticRate, UniformRate, read_codes, write_codes
from dcvc.intra.vqgan.rate_file import KEY, rate_models_to_file
from dcvc.intra.vqgan.symbols import Symbols, digit_groups, sizes_of

CODED = ("diffusers", "movq", "ibq", "magvit2", "cosmos", "maskgit", "var", "bsq", "fsq")
DECODE = """
import sys, numpy as np
from dcvc.intra import VQGANIFrameModel
data = np.load(sys.argv[1])
codecs, equal = {}, 0
for name in [key for key in data.files if key.startswith("payload")]:
    layout, number = name.split(":")[1:]
    codec = codecs.setdefault(layout, VQGANIFrameModel(None, f"{sys.argv[2]}/{layout}.pt"))
    x_hat = codec.decompress(data[name].tobytes())
    equal += np.array_equal(x_hat.numpy(), data[f"frame:{layout}:{number}"])
print(equal)
"""


def _prior(tables):
    """A prior of random weights for symbols that have these tables."""
    network = CodePrior(PriorConfig(len(tables), max(map(len, tables)), 8, 16))
    network.set_codebooks(tables)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return network


def _rated(folder, layout, seed=0):
    """One file of ours with the layout's model and rate models that fit its codes well enough to pay."""
    config = vqgan_layouts.CONFIGS[layout]
    state = vqgan_layouts.random_state(config, seed)
    path = folder / f"{layout}.pt"
    torch.save({"model": state, "config": config_to_values(config)}, path)
    codec = VQGANIFrameModel(None, path)
    symbols = codec.symbols.split(codec.codes_of(_frame(80, 64, 7)).numpy())[0]
    counts = torch.from_numpy(np.stack([np.bincount(plane.ravel(), minlength=max(codec.symbols.sizes))
                                        for plane in symbols]))
    network = _prior(codec.model.quantize.tables())
    for level, plane in enumerate(counts):
        grouped = network.out["group"][level].bias
        grouped.data.copy_(torch.log((plane[:len(grouped)] + 1) / (plane + 1).sum()))
    torch.save({"model": state, "config": config_to_values(config), KEY: rate_models_to_file(counts, network)}, path)
    return VQGANIFrameModel(None, path)


def _frame(height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 5, generator=generator)
    return (torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
            + 0.2 * torch.rand(1, 3, height, width, generator=generator)).clamp(0, 1)


def _round_trips(folder, number, layouts=CODED):
    """Code `number` random sizes of each layout, the rate models in turn; decode in a fresh process."""
    rng, arrays, used, largest = np.random.default_rng(3), {}, set(), 0.0
    for shift, layout in enumerate(layouts):
        codec = _rated(folder, layout)
        for count in range(number):
            codec.rate_name = list(codec.rate_models)[(count + shift) % 3]
            smallest = codec.multiple
            height, width = (int(side) for side in rng.integers(smallest, 16 * smallest, 2))
            if count < 2:                        # one position of the latent, and one row of them
                height, width = smallest, smallest * (1 + 5 * count)
            x = _frame(height, width, count)
            estimate, (payload, x_hat) = float(codec(x).total_bits) / 8, codec.compress(x)
            assert bool(torch.isfinite(x_hat).all())
            largest = max(largest, abs(len(payload) - estimate) / (0.005 * estimate + 16))
            used.add((layout, payload[0] & 7))
            arrays[f"payload:{layout}:{count}"] = np.frombuffer(payload, np.uint8)
            arrays[f"frame:{layout}:{count}"] = x_hat.numpy()
    np.savez(folder / "streams.npz", **arrays)
    done = subprocess.run([sys.executable, "-c", DECODE, str(folder / "streams.npz"), str(folder)],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(arrays) // 2 == number * len(layouts)
    assert largest <= 1
    return used


def test_every_layout_in_another_process(tmp_path):
    used = _round_trips(tmp_path, 3)
    assert {model for _, model in used} == {0, 1, 2}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("layout", CODED)
def test_a_thousand_sizes_of_every_layout(tmp_path, layout):
    _round_trips(tmp_path, 1000, (layout,))


@pytest.mark.parametrize("sizes", [(64, 40, 25), (64, 64, 64), (200, 3), (7,)])
def test_symbols_of_different_sizes_come_back(sizes):
    rng = np.random.default_rng(len(sizes))
    network = _prior([torch.randn(size, 3) for size in sizes])
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
    network = _prior([torch.randn(size, 3) for size in sizes])
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
    codec, rng = _rated(tmp_path, layout), np.random.default_rng(0)
    (tmp_path / "other").mkdir()
    payloads, foreign = [], _rated(tmp_path / "other", layout, seed=1)
    for name in codec.rate_models:
        for one in (codec, foreign):
            one.rate_name = name
        payloads.append(codec.compress(_frame(60, 50, 2))[0])
        with pytest.raises(BitstreamError):
            codec.decompress(foreign.compress(_frame(60, 50, 2))[0])
    for trial in range(300):
        data = bytearray(payloads[trial % 3])
        if trial % 4 == 0:
            del data[rng.integers(len(data)):]
        elif trial % 4 == 1:
            data = bytearray(rng.integers(0, 256, rng.integers(0, 200), dtype=np.uint8).tobytes())
        else:
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        with pytest.raises(BitstreamError):
            codec.decompress(bytes(data))


def test_grids_of_several_scales(tmp_path):
    codec = _rated(tmp_path, "var")
    x = torch.cat([_frame(26, 40, seed) for seed in (1, 2)])
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
    _rated(tmp_path, "cosmos")
    content = torch.load(tmp_path / "cosmos.pt", weights_only=True)
    prior = _prior([torch.randn(64, 3), torch.randn(64, 3), torch.randn(5, 3)])
    content[KEY] = rate_models_to_file(torch.ones(3, 64), prior)
    torch.save(content, tmp_path / "cosmos.pt")
    with pytest.raises(InputError, match=r"rate_models\.(prior|static): found"):
        VQGANIFrameModel(None, tmp_path / "cosmos.pt")
    assert json.loads(json.dumps(content["config"]))["model_args"]["model_variant"] == "FSQ"
