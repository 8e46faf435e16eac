"""Streams of VQGAN frames: exact, honest in size, never silently wrong."""

import numpy as np
import pytest
import torch
from kit.vqgan import make_rated_vqgan, round_trips

from dcvc.errors import BitstreamError, DcvcError, InputError
from dcvc.interfaces import FrameCodec
from dcvc.intra import VQGANIFrameModel, compress_i_frame_with_padding
from dcvc.intra.vqgan.prior import CodePrior, PriorConfig, PriorRate
from dcvc.intra.vqgan.rate import StaticRate, UniformRate, read_codes, write_codes
from dcvc.intra.vqgan.rate_file import KEY, rate_models_to_file


def _with_rates(tiny_vqgan, name="rated", **changes):
    """A VQGAN file with random counts and a random prior inside."""
    config, state, json_path, weights = tiny_vqgan(name, **changes)
    network = CodePrior(PriorConfig(config.levels, config.n_embed, 8, 16))
    network.set_codebooks(torch.randn(config.levels, config.n_embed, 4))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    counts = torch.randint(0, 1000, (config.levels, config.n_embed))
    torch.save({"model": state, KEY: rate_models_to_file(counts, network)}, weights)
    return config, json_path, weights


def _all_come_back(folder, number):
    result = round_trips(folder, number)
    assert result["equal"] == result["streams"] == result["shape_kept"] == number
    assert min(result["rate_models"].get(name, 0) for name in ("uniform", "static", "prior")) > number / 5
    assert result["largest_gap_of_allowed"] <= 1


def test_another_process_decodes_bit_for_bit(tmp_path):
    _all_come_back(tmp_path, 24)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_sizes_in_other_processes(tmp_path):
    _all_come_back(tmp_path, 1000)


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("codes", [1, 2, 100, 256, 1000, 4096])
def test_rate_models_reproduce_and_their_estimates_hold(codes, levels):
    rng = np.random.default_rng(codes)
    network = CodePrior(PriorConfig(levels, codes, 8, 16))
    network.set_codebooks(torch.randn(levels, codes, 4))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    models = [UniformRate(codes), StaticRate(rng.integers(0, 99, (levels, codes))), PriorRate(network)]
    for shape in ((1, levels, 1, 1), (2, levels, 7, 5), (1, levels, 33, 18)):
        indices = rng.integers(0, codes, shape)
        for model in models:
            words = write_codes(indices, model)
            assert np.array_equal(read_codes(words, shape, model), indices)
            estimate = sum(model.bits(frame).sum() for frame in indices)
            written = 8 * len(words.tobytes().rstrip(b"\0"))
            assert abs(written - estimate) <= 0.005 * estimate + 33  # the last state of the coder


def test_forward_estimates_what_compress_writes(tiny_vqgan):
    config, json_path, weights = _with_rates(tiny_vqgan)
    x = torch.rand(1, 3, 260, 300)
    for name in ("uniform", "static", "prior"):
        codec = VQGANIFrameModel(json_path, weights, rate_model=name)
        estimate = float(codec(x).total_bits)
        assert abs(8 * len(codec.compress(x)[0]) - estimate) <= 0.005 * estimate + 16 * 8


def test_batches_sizes_and_modes(tiny_vqgan):
    _, json_path, weights = _with_rates(tiny_vqgan, variant="RVQ", levels=2)
    codec = VQGANIFrameModel(json_path, weights)
    assert isinstance(codec, FrameCodec)
    x = torch.rand(3, 3, 21, 34)
    out, (payload, x_hat) = codec(x), codec.compress(x)
    assert torch.equal(codec.decompress(payload), x_hat)
    assert float((x_hat - out.x_hat).abs().max()) < 1e-5
    torch.nn.Sequential(codec).train()
    assert not any(module.training for module in codec.modules())
    assert not any(parameter.requires_grad for parameter in codec.parameters())
    before = {key: value.clone() for key, value in codec.state_dict().items()}
    codec.train()(x)
    assert all(torch.equal(value, before[key]) for key, value in codec.state_dict().items())
    result, bpp = compress_i_frame_with_padding(codec, x)
    assert bpp == pytest.approx(float(out.total_bits) / (3 * 21 * 34))
    assert compress_i_frame_with_padding(codec, x, calculate_bpp=False)["x_hat"].shape == x.shape


def test_bad_frames_and_codes(tiny_vqgan):
    _, _, json_path, weights = tiny_vqgan()
    codec = VQGANIFrameModel(json_path, weights)
    for bad, words in ((torch.full((1, 3, 16, 16), torch.nan), "NaN"), (torch.rand(1, 3, 3, 16), "least 4x4"),
                       (torch.rand(3, 16, 16), "needed float RGB"), (torch.zeros(1, 3, 8, 8).byte(), "float RGB")):
        for method in (codec, codec.compress, codec.encode_indices):
            with pytest.raises(InputError, match=words):
                method(bad)
    for bad in (torch.full((1, 4, 4), 64), torch.full((1, 4, 4), -1)):
        with pytest.raises(InputError, match=r"needed 0\.\.63"):
            codec.decode_indices(bad)
    with pytest.raises(InputError, match="needed integers"):
        codec.decode_indices(torch.zeros(1, 2, 4, 4, dtype=torch.int64))


def _damage(data, kind, rng):
    if kind == "flip":
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    elif kind == "cut":
        del data[rng.integers(len(data)):]
    elif kind == "garbage":
        return rng.integers(0, 256, rng.integers(0, 200), dtype=np.uint8).tobytes()
    else:
        first, last = sorted(rng.integers(0, len(data), 2))
        data[first:last + 1] = bytes(last - first + 1) if any(data[first:last + 1]) else b"\1" * (last - first + 1)
    return bytes(data)


def test_ten_thousand_damaged_streams(tmp_path):
    """Each ends in a BitstreamError: bit flips, truncation, garbage, zeroed stretches, streams of other models."""
    rng, codecs = np.random.default_rng(0), []
    for seed in range(5):
        (tmp_path / str(seed)).mkdir()
        codecs.append(VQGANIFrameModel(*make_rated_vqgan(tmp_path / str(seed), seed=seed)))
    codec, payloads = codecs[0], {"own": [], "other": []}
    for size in ((16, 16), (40, 60), (100, 90)):
        for name in codec.rate_models:
            for number, maker in enumerate(codecs):
                maker.rate_name = name
                payloads["other" if number else "own"].append(maker.compress(torch.rand(1, 3, *size))[0])
    assert {data[0] & 7 for data in payloads["own"]} == {0, 1, 2}
    kinds = ("flip", "cut", "garbage", "zeros", "other model")
    for trial in range(10_000):
        kind = kinds[trial % len(kinds)]
        if kind == "other model":
            data = payloads["other"][trial // len(kinds) % len(payloads["other"])]
        else:
            data = _damage(bytearray(payloads["own"][trial % len(payloads["own"])]), kind, rng)
        with pytest.raises(BitstreamError):
            codec.decompress(data)


def test_a_stream_of_another_model_is_named(tiny_vqgan):
    _, _, config_a, weights_a = tiny_vqgan("a")
    _, _, config_b, weights_b = tiny_vqgan("b", seed=1)
    payload, _ = VQGANIFrameModel(config_a, weights_a).compress(torch.rand(1, 3, 32, 32))
    with pytest.raises(DcvcError, match="made with model [0-9a-f]{8}, this one is [0-9a-f]{8}"):
        VQGANIFrameModel(config_b, weights_b).decompress(payload)


def test_a_prior_that_does_not_reproduce_falls_back(tiny_vqgan):
    _, json_path, weights = _with_rates(tiny_vqgan)
    codec = VQGANIFrameModel(json_path, weights)
    x = torch.rand(1, 3, 64, 64)

    class Broken(StaticRate):
        name = "prior"

        def read(self, shape, decoder):
            codes = super().read(shape, decoder)
            codes[0, 0, 0] ^= 1
            return codes

    codes = codec.encode_indices(x).numpy()
    codec.rate_models["prior"] = Broken(1000 * np.bincount(codes.ravel(), minlength=64)[None])
    payload, x_hat = codec.compress(x)
    assert payload[0] & 7 == 0
    assert torch.equal(codec.decompress(payload), x_hat)
