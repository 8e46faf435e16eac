"""Every layout of other projects: golden vectors, own names back to ours, what two layouts could claim."""

import json

import numpy as np
import pytest
import torch
from kit import vqgan_layouts
from safetensors.torch import load_file, save_file

from dcvc.errors import DcvcError, InputError
from dcvc.intra import VQGANIFrameModel
from dcvc.intra.vqgan.config import config_from_values, config_to_values
from dcvc.intra.vqgan.describe import describe_vqgan, is_vqgan, write_config
from dcvc.intra.vqgan.digits import BinaryQuantizer, FiniteScalarQuantizer
from dcvc.intra.vqgan.dimensions import VQGANConfig
from dcvc.intra.vqgan.loading import config_and_file
from dcvc.intra.vqgan.model import VQGAN
from dcvc.intra.vqgan.multiscale import smoothing_of
from dcvc.intra.vqgan.patches import from_patches, to_patches
from dcvc.intra.vqgan.quantizers import ProductScoreQuantizer
from dcvc.weights.torchscript import read_torchscript

# --vqgan_config (None: none is given), --vqgan_checkpoint, golden data.
GOLDEN = [
    (None, "diffusers_ldm", "diffusers_ldm/io.npz"),
    (None, "diffusers_ldm/diffusion_pytorch_model.safetensors", "diffusers_ldm/io.npz"),
    ("diffusers_ldm/config.json", "diffusers_ldm/diffusion_pytorch_model.safetensors", "diffusers_ldm/io.npz"),
    (None, "diffusers_amused", "diffusers_amused/io.npz"),
    (None, "diffusers_amused/diffusion_pytorch_model.safetensors.index.json", "diffusers_amused/io.npz"),
    (None, "diffusers_movq", "diffusers_movq/io.npz"),
    ("ibq_small.yaml", "ibq_small.ckpt", "ibq_small_io.npz"),
    ("ibq", "ibq_small.ckpt", "ibq_small_io.npz"),
    ("magvit2_small.yaml", "magvit2_small.ckpt", "magvit2_small_io.npz"),
    (None, "magvit2_small.ckpt", "magvit2_small_io.npz"),
    (None, "cosmos_di", "cosmos_di/io.npz"),
    ("cosmos_di/config.json", "cosmos_di/model.pt", "cosmos_di/io.npz"),
    (None, "maskgit_vqgan", "maskgit_vqgan/io.npz"),
    (None, "maskgit_vqgan/pytorch_model.bin", "maskgit_vqgan/io.npz"),
    ("janus_sharded/llamagen.json", "janus_sharded", "janus_sharded/io.npz"),
    (None, "janus_sharded", "janus_sharded/io.npz"),
    ("var_vqvae_small.json", "var_vqvae_small.pth", "var_vqvae_small_io.npz"),
    ("var-256", "var_vqvae_small.pth", "var_vqvae_small_io.npz"),
]


def _codec(folder, config, file, **options):
    given = folder / config if config and (folder / config).exists() else config
    return VQGANIFrameModel(given, folder / file, "cpu", **options)


def _matches(codec, data, suffix=""):
    x = torch.from_numpy(data["input"])
    expected = data["indices_flat"] if "indices_flat" in data else data[f"indices{suffix}"]
    indices = codec.encode_indices((x + 1) / 2)
    flat = torch.cat([one.flatten(1) for one in indices], dim=1) if isinstance(indices, list) else indices
    assert np.array_equal(flat.numpy(), expected)
    with torch.inference_mode():
        decoded = codec.model.decode(codec.codes_of((x + 1) / 2)).numpy()
    assert np.abs(decoded - data[f"decoded_from_indices{suffix}"]).max() < 1e-4
    shown = np.clip(data[f"decoded_from_indices{suffix}"] / 2 + 0.5, 0, 1)
    assert np.abs(codec.decode_indices(indices).numpy() - shown).max() < 1e-4
    out = codec((x + 1) / 2)
    assert np.abs(out.x_hat.numpy() - shown).max() < 1e-4
    assert float(out.bits["i"]) == pytest.approx(expected.size * np.log2(codec.codes))
    assert out["likelihoods"]["y"].numel() == expected.size


@pytest.mark.parametrize(("config", "weights", "data"), GOLDEN)
def test_golden_vectors(vectors, config, weights, data):
    folder = vectors / "vqgan"
    codec, data = _codec(folder, config, weights), np.load(folder / data)
    with torch.inference_mode():
        error = np.abs(codec.model.prequant(torch.from_numpy(data["input"])).numpy() - data["prequant"])
    assert error.max() < 1e-5 * np.abs(data["prequant"]).max()
    _matches(codec, data)


def test_golden_averages_are_taken(vectors):
    folder = vectors / "vqgan"
    data = np.load(folder / "ibq_small_io.npz")
    _matches(_codec(folder, "ibq_small.yaml", "ibq_small.ckpt", weights="ema"), data)
    _matches(_codec(folder, "ibq_small.yaml", "ibq_small.ckpt", weights="raw"), data, "_raw")


@pytest.mark.parametrize(("config", "weights", "data"), [
    ("magvit2_small.yaml", "magvit2_small.ckpt", "magvit2_small_io.npz"), (None, "cosmos_di", "cosmos_di/io.npz")])
def test_golden_quantizers_alone(vectors, config, weights, data):
    """Zeros among the latents, and latents where FSQ's factor 1.001 decides."""
    folder = vectors / "vqgan"
    quantizer, data = _codec(folder, config, weights).model.quantize, np.load(folder / data)
    codes = quantizer.indices(torch.from_numpy(data["quantizer_z"]))
    assert np.array_equal(codes[:, 0].numpy(), data["quantizer_indices"])
    assert np.array_equal(quantizer.lookup(codes).numpy(), data["quantizer_lookup"])


def test_quantizers_by_hand():
    """The examples of the files' heads."""
    lfq = BinaryQuantizer(VQGANConfig("LFQ", 8, 3, z_channels=3, quant_kernel=0))
    code = lfq.indices(torch.tensor([0.3, -2, 0.1]).view(1, 3, 1, 1))
    assert code.item() == 5
    assert lfq.lookup(code).flatten().tolist() == [1, -1, 1]
    bsq = BinaryQuantizer(VQGANConfig("BSQ", 8, 3))
    assert torch.allclose(bsq.lookup(code).norm(), torch.tensor(1.0))
    fsq = FiniteScalarQuantizer(VQGANConfig("FSQ", 5, 1, fsq_levels=(5,)))
    assert fsq.indices(torch.full((1, 1, 1, 1), 0.4)).item() == 3
    assert fsq.lookup(torch.full((1, 1, 1, 1), 3)).item() == 0.5
    ibq = ProductScoreQuantizer(VQGANConfig("IBQ", 2, 2))
    ibq.embedding.weight.data.copy_(torch.tensor([[2.0, 1], [9, 0]]))
    assert ibq.indices(torch.tensor([2.0, 1]).view(1, 2, 1, 1)).item() == 1
    assert smoothing_of(10, 4) == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    assert smoothing_of(5, 5) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("method", ["haar", "rearrange"])
def test_patches_come_back(method):
    config = VQGANConfig(patch=4, patch_method=method, resampled=1)
    x = torch.randn(2, 3, 8, 16)
    patched = to_patches(x, config)
    assert patched.shape == (2, 48, 2, 4)
    assert torch.allclose(from_patches(patched, config), x, atol=1e-6)
    block = to_patches(torch.tensor([[9.0, 5], [3, 3]])[None, None], VQGANConfig(patch=2))
    if method == "haar":
        assert block.flatten().tolist() == [5, 2, 1, 1]


X = torch.rand(1, 3, 37, 50, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layout", vqgan_layouts.CONFIGS)
def test_other_projects_names_lead_to_ours(tmp_path, layout):
    """Codes and pictures of the foreign files are those of our own model with the same weights."""
    config, weights, ours, state = vqgan_layouts.write(tmp_path, layout)
    codec = VQGANIFrameModel(config, weights)
    assert codec.config == ours
    assert config_from_values(json.loads(json.dumps(config_to_values(ours))), "again") == ours
    model = VQGAN(ours).eval()
    model.load_state_dict(state)
    height, width = (-(-side // ours.factor) * ours.factor for side in X.shape[-2:])
    padded = torch.nn.functional.pad(X, (0, width - 50, 0, height - 37), mode="replicate")
    with torch.inference_mode():
        codes = model.encode(padded * 2 - 1)
        grid = height // ours.factor, width // ours.factor
        shown = (model.decode(codes, grid) / 2 + 0.5).clamp(0, 1)[..., :37, :50]
    assert torch.equal(codec.codes_of(X), codes)
    assert len(codes.unique()) > 5
    assert torch.allclose(codec(X).x_hat, shown, atol=1e-4)
    assert torch.equal(codec.decode_indices(codec.encode_indices(X))[..., :37, :50], codec(X).x_hat)
    facts = describe_vqgan(weights, config=config)
    assert (facts["K"], facts["f"], facts["variant"]) == (ours.n_embed, ours.factor, ours.variant)
    assert is_vqgan(weights)


def test_a_part_of_a_larger_model(tmp_path, capsys):
    """Under a prefix, among other modules, with its averages beside it."""
    config, weights, ours, state = vqgan_layouts.write(tmp_path, "ibq")
    expected = VQGANIFrameModel(config, weights).codes_of(X)
    assert "ibq.ckpt: holds weights as they were trained and averaged; taken: the averaged" in capsys.readouterr().err
    entries = torch.load(weights, weights_only=True)["state_dict"]
    nested = {"net.tokenizer." + key: value for key, value in entries.items()}
    torch.save({"state_dict": {**nested, "net.transformer.weight": torch.zeros(3)}}, weights)
    assert torch.equal(VQGANIFrameModel(config, weights).codes_of(X), expected)
    assert not torch.equal(VQGANIFrameModel(config, weights, weights="raw").codes_of(X), expected)


def test_a_lone_file_of_taming_or_ibq_is_not_guessed(tmp_path):
    _, weights, ours, state = vqgan_layouts.write(tmp_path, "ibq")
    for entries in ({"state_dict": state}, torch.load(weights, weights_only=True)):
        torch.save(entries, tmp_path / "lone.ckpt")
        with pytest.raises(InputError, match="VQModel .taming. and of IBQ alike.*--vqgan_config vqmodel or "
                                             "--vqgan_config ibq decides") as caught:
            VQGANIFrameModel(None, tmp_path / "lone.ckpt")
        assert "\n" not in str(caught.value)
    assert "ibq decides" in describe_vqgan(weights)["note"]
    with pytest.raises(InputError, match="ibq decides"):
        write_config(weights, tmp_path / "told.json")
    write_config(weights, tmp_path / "told.json", config="ibq")
    by_word = VQGANIFrameModel("ibq", weights)
    assert torch.equal(VQGANIFrameModel(tmp_path / "told.json", weights).codes_of(X), by_word.codes_of(X))
    other = VQGANIFrameModel("vqmodel", weights, weights="ema").codes_of(X)
    assert float((other == by_word.codes_of(X)).float().mean()) < 0.9
    # A config that says nothing of IBQ beside a file as only IBQ's tools write it.
    values = json.loads((tmp_path / "told.json").read_text())
    values["model_args"]["model_variant"] = "VQModel"
    (tmp_path / "wrong.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"found averages \(model_ema.*IBQ"):
        VQGANIFrameModel(tmp_path / "wrong.json", weights)


def test_torchscript_is_read_and_not_run(tmp_path):
    """Entries are those of the module, whatever the program in the file does."""

    class Inner(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3)
            self.register_buffer("steps", torch.arange(6).view(2, 3).t())

        def forward(self, x):
            return self.conv(x)

    module = torch.nn.Sequential(Inner(), torch.nn.BatchNorm2d(4)).half()
    torch.jit.save(torch.jit.trace(module.float().eval(), torch.rand(1, 3, 8, 8)), tmp_path / "m.jit")
    found = read_torchscript(tmp_path / "m.jit")
    assert found.keys() == module.state_dict().keys()
    assert all(torch.equal(found[key], value) for key, value in module.state_dict().items())
    data = (tmp_path / "m.jit").read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(60):
        damaged = bytearray(data[:rng.integers(len(data))] if trial % 2 else data)
        if damaged:
            damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        (tmp_path / "d.jit").write_bytes(bytes(damaged))
        try:
            again = read_torchscript(tmp_path / "d.jit")
        except DcvcError:
            continue
        # A bit that no reader looks at: a time, a name of the program.
        assert all(torch.equal(again[key], found[key]) for key in found)


def test_the_prefixed_shards_alone_are_opened(tmp_path):
    """Of a language model with a tokenizer inside, the other shards are not even there."""
    _, folder, ours, _ = vqgan_layouts.write(tmp_path, "llamagen")
    expected = VQGANIFrameModel(None, folder).codes_of(X)
    (folder / "model-00001-of-00003.safetensors").unlink()
    assert torch.equal(VQGANIFrameModel(None, folder).codes_of(X), expected)


def test_half_precision_stands_beside_or_alone(tmp_path):
    _, folder, ours, _ = vqgan_layouts.write(tmp_path, "diffusers")
    expected = VQGANIFrameModel(None, folder).codes_of(X)
    whole = folder / "diffusion_pytorch_model.safetensors"
    halved = folder / "diffusion_pytorch_model.fp16.safetensors"
    save_file({key: value.half() for key, value in load_file(whole).items()}, halved)
    assert torch.equal(VQGANIFrameModel(None, folder).codes_of(X), expected)
    whole.unlink()
    config, file = config_and_file(None, folder)
    assert {value.dtype for value in file.state.values()} == {torch.float16}
    assert config == ours
