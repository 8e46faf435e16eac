"""Every layout that people hold loads; what would run code, or is no VQGAN, does not."""

import json
import pickle
import re

import pytest
import torch
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode

from dcvc.commands import info
from dcvc.errors import InputError, MissingError, ReadError
from dcvc.intra import VQGANIFrameModel
from dcvc.intra.vqgan.config import LLAMAGEN, config_from_values, config_to_values, read_config
from dcvc.intra.vqgan.describe import describe_vqgan, write_config
from dcvc.intra.vqgan.model import VQGAN
from dcvc.intra.vqgan.quantizers import nearest_codes
from dcvc.weights import Foreign, read_checkpoint

X = torch.rand(1, 3, 40, 52, generator=torch.Generator().manual_seed(1))
VARIANTS = [
    {"variant": "VQModel"}, {"variant": "EMAVQ"}, {"variant": "RVQ", "levels": 3}, {"variant": "PQEMAVQ", "levels": 4},
    {"variant": "GumbelVQ", "embed_dim": 16}, {"variant": "VQModel", "l2_norm": True},
    {"ch_mult": (1, 1, 1, 1, 2), "attn_resolutions": (16,)}, {"double_z": True}, {"num_res_blocks": 2},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=lambda c: "-".join(map(str, c.values())))
def test_every_quantizer_codes_and_decodes(tiny_vqgan, changes):
    config, _, json_path, weights = tiny_vqgan(**changes)
    assert config_from_values(config_to_values(config), "again") == config
    codec = VQGANIFrameModel(json_path, weights)
    out = codec(X)
    h, w = -(-40 // config.factor), -(-52 // config.factor)
    assert out.x_hat.shape == X.shape
    assert out.indices.shape == ((1, h, w) if config.levels == 1 else (1, config.levels, h, w))
    assert float(out.total_bits) == pytest.approx(config.levels * h * w * 6)
    payload, x_hat = codec.compress(X)
    assert torch.equal(codec.decompress(payload), x_hat)
    assert torch.equal(codec.decode_indices(out.indices)[..., :40, :52], x_hat)


@pytest.mark.parametrize("prefix", ["", "model.", "_model.", "vqgan.", "module.", "_orig_mod.", "first_stage_model.",
                                    "module._orig_mod."])
@pytest.mark.parametrize("container", ["model", "state_dict", "model_state_dict", None])
def test_prefixes_and_containers(tiny_vqgan, tmp_path, prefix, container):
    _, state, json_path, weights = tiny_vqgan()
    expected = VQGANIFrameModel(json_path, weights).encode_indices(X)
    wrapped = {prefix + key: value for key, value in state.items()}
    wrapped |= {"loss.discriminator.main.0.weight": torch.zeros(3), prefix + "model_ema.decay": torch.zeros(1)}
    if prefix == "first_stage_model.":
        wrapped["model.diffusion_model.encoder.conv_in.weight"] = torch.zeros(1)
    path = tmp_path / "wrapped.pt"
    torch.save({container: wrapped, "ema": {}} if container else wrapped, path)
    assert torch.equal(VQGANIFrameModel(json_path, path).encode_indices(X), expected)


def test_safetensors(tiny_vqgan, tmp_path):
    _, state, json_path, weights = tiny_vqgan()
    save_file(state, tmp_path / "w.safetensors")
    expected = VQGANIFrameModel(json_path, weights).encode_indices(X)
    assert torch.equal(VQGANIFrameModel(json_path, tmp_path / "w.safetensors").encode_indices(X), expected)


def _as_llamagen(state, levels):
    back = {"block_1": "0", "attn_1": "1", "block_2": "2"}
    renamed = {}
    for key, value in state.items():
        key = re.sub(r"\.mid\.(\w+)\.", lambda m: f".mid.{back[m[1]]}.", key)
        key = re.sub(r"^encoder\.down\.", "encoder.conv_blocks.", key)
        key = re.sub(r"^decoder\.up\.(\d+)", lambda m: f"decoder.conv_blocks.{levels - 1 - int(m[1])}", key)
        renamed[re.sub(r"(conv_blocks\.\d+)\.block\.", r"\1.res.", key)] = value
    return renamed | {"quantize.codebook_used": torch.zeros(65536)}


def test_llamagen(tiny_vqgan, tmp_path):
    config, state, json_path, weights = tiny_vqgan(variant="VQModel", l2_norm=True)
    path = tmp_path / "llamagen.pt"
    torch.save({"model": _as_llamagen(state, 3)}, path)
    values = tmp_path / "values.json"
    values.write_text(json.dumps({
        "codebook_size": 64, "codebook_embed_dim": 8, "codebook_l2_norm": True, "encoder_ch_mult": [1, 1, 2],
        "decoder_ch_mult": [1, 1, 2], "ch": 32, "num_res_blocks": 1, "z_channels": 16}))
    ours, theirs = VQGANIFrameModel(json_path, weights), VQGANIFrameModel(values, path)
    assert torch.equal(theirs.encode_indices(X), ours.encode_indices(X))
    assert torch.equal(theirs(X).x_hat, ours(X).x_hat)
    norms = theirs.model.quantize.codebook().norm(dim=1)
    assert torch.allclose(norms, torch.ones_like(norms))
    facts = describe_vqgan(path)
    assert (facts["layout"], facts["l2_norm"], facts["f"], facts["K"]) == ("LlamaGen", True, 4, 64)
    assert read_config("llamagen-vq16") == LLAMAGEN["llamagen-vq16"]


def test_info_writes_a_config_that_loads(tiny_vqgan, tmp_path):
    config, _, json_path, weights = tiny_vqgan(variant="PQEMAVQ", levels=2)
    write_config(weights, tmp_path / "told.json")
    told, given = VQGANIFrameModel(tmp_path / "told.json", weights), VQGANIFrameModel(json_path, weights)
    assert torch.equal(told(X).x_hat, given(X).x_hat)
    with pytest.raises(InputError, match="exists already"):
        write_config(weights, tmp_path / "told.json")


def test_info_says_when_the_file_does_not(tiny_vqgan, tmp_path):
    _, _, json_path, weights = tiny_vqgan(variant="RVQ", levels=3)
    assert "or residual" in describe_vqgan(weights)["variant"]
    with pytest.raises(InputError, match="--rvq_levels"):
        write_config(weights, tmp_path / "told.json")
    write_config(weights, tmp_path / "told.json", rvq_levels=3)
    told, given = VQGANIFrameModel(tmp_path / "told.json", weights), VQGANIFrameModel(json_path, weights)
    assert torch.equal(told.encode_indices(X), given.encode_indices(X))


def test_info_command(tiny_vqgan, capsys):
    import argparse

    _, _, _, weights = tiny_vqgan(variant="VQModel")
    parser = argparse.ArgumentParser()
    info.add_arguments(parser)
    info.run(parser.parse_args([str(weights), "--json"]))
    facts = json.loads(capsys.readouterr().out)
    assert (facts["variant"], facts["K"], facts["dim"], facts["f"]) == ("VQModel", 64, 8, 4)
    decoder = next(part for part in facts["parts"]["I"] if part["name"] == "decoder")
    assert decoder["parameters"] > 0
    assert decoder["decoder"] > 0


class Malicious:
    """Would write a file when unpickled the usual way."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_malicious_pickle_is_never_executed(tiny_vqgan, tmp_path):
    _, _, json_path, _ = tiny_vqgan()
    mark = tmp_path / "executed"
    _, _, _, weights = tiny_vqgan("bad", extra={"callbacks": Malicious(mark), "more": [{"x": Malicious(mark)}]})
    assert isinstance(read_checkpoint(weights)["callbacks"], Foreign)
    VQGANIFrameModel(json_path, weights)
    assert not mark.exists()
    bare = tmp_path / "bare.pt"
    bare.write_bytes(pickle.dumps(Malicious(mark)))
    with pytest.raises((ReadError, InputError)):
        VQGANIFrameModel(json_path, bare)
    assert not mark.exists()


def _reads(tmp_path, content, message):
    path = tmp_path / "bad.pt"
    torch.save(content, path)
    with pytest.raises(InputError, match=message) as caught:
        VQGANIFrameModel(LLAMAGEN["llamagen-vq16"], path)
    assert "\n" not in str(caught.value)


def test_what_is_no_vqgan_is_refused(tiny_vqgan, tmp_path):
    _reads(tmp_path, {"model": {}}, "no tensors")
    _reads(tmp_path, {"weight": torch.zeros(3)}, "no entry ends in encoder.conv_in.weight")
    _reads(tmp_path, [1, 2], "found list")
    _, state, json_path, weights = tiny_vqgan()
    path = tmp_path / "bad.pt"
    for change, message in (({"encoder.conv_out.bias": torch.full((16,), torch.nan)}, "NaN"),
                            ({"quantize.embedding.weight": torch.ones(64, 8)}, "all 64 codes"),
                            ({"encoder.spurious": torch.ones(1)}, "not in a model of this config")):
        torch.save({"model": state | change}, path)
        with pytest.raises(InputError, match=message):
            VQGANIFrameModel(json_path, path)
    partial = {key: value for key, value in state.items() if not key.startswith("decoder.up")}
    torch.save({"model": partial}, path)
    with pytest.raises(InputError, match="missing"):
        VQGANIFrameModel(json_path, path)
    with pytest.raises(MissingError):
        VQGANIFrameModel(tmp_path / "none.json", weights)


@pytest.mark.parametrize("container", ["model", None])
def test_an_untrained_model_is_refused(tiny_vqgan, tmp_path, container):
    """A file saved before its weights were trained or loaded: strict loading alone would take it."""
    config, state, json_path, _ = tiny_vqgan()
    torch.manual_seed(3)
    fresh = VQGAN(config).state_dict()
    fresh["quantize.embedding.weight"] = state["quantize.embedding.weight"]
    path = tmp_path / "fresh.pt"
    torch.save({container: fresh} if container else fresh, path)
    with pytest.raises(InputError, match=r"fresh\.pt: all \d+ normalisation layers hold their initial values"):
        VQGANIFrameModel(json_path, path)


@pytest.mark.parametrize("changes", [{"variant": "EMAVQ"}, {"variant": "PQEMAVQ", "levels": 2},
                                     {"variant": "GumbelVQ", "embed_dim": 8}], ids=lambda c: c["variant"])
def test_a_config_without_variant_deciding_keys(tiny_vqgan, changes):
    """model_variant left out means VQModel: the message says what the file holds and which key to set."""
    config, _, json_path, weights = tiny_vqgan(**changes)
    values = json.loads(json_path.read_text())
    del values["model_args"]["model_variant"]
    json_path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=f"those of {config.variant}, the config's model_variant is VQModel; set "
                                         f"model_args.model_variant to {config.variant}") as caught:
        VQGANIFrameModel(json_path, weights)
    assert "\n" not in str(caught.value)


def test_a_product_config_without_its_subspaces(tiny_vqgan):
    _, _, json_path, weights = tiny_vqgan(variant="PQEMAVQ", levels=2)
    values = json.loads(json_path.read_text())
    del values["model_args"]["pq_num_subspaces"]
    json_path.write_text(json.dumps(values))
    with pytest.raises(InputError, match="pq_num_subspaces: missing, needed with PQEMAVQ"):
        VQGANIFrameModel(json_path, weights)


@pytest.mark.parametrize(("variant", "key", "value", "words"), [
    ("PQEMAVQ", "n_embed", 32, r"codebooks\.0\.weight: found shape \[64, 4\], the config needs \[32, 4\]"),
    ("PQEMAVQ", "pq_num_subspaces", 4, r"codebooks\.0\.weight: found shape \[64, 4\], the config needs \[64, 2\]"),
    ("GumbelVQ", "n_embed", 32, r"proj\.weight: found shape \[64, 8, 1, 1\], the config needs \[32, 8, 1, 1\]"),
    ("RVQ", "n_embed", 128, r"embedding\.weight: found shape \[64, 8\], the config needs \[128, 8\]"),
    ("RVQ", "embed_dim", 16, r"found shape \[64, 8\], the config needs \[64, 16\]"),
])
def test_contradictions_name_entry_shapes_and_key(tiny_vqgan, variant, key, value, words):
    _, _, json_path, weights = tiny_vqgan(variant=variant, levels=1 if variant == "GumbelVQ" else 2)
    values = json.loads(json_path.read_text())
    values["model_args"][key] = value
    json_path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=words + "; check n_embed, embed_dim or pq_num_subspaces"):
        VQGANIFrameModel(json_path, weights)


def test_fewer_normalisation_groups_travel_with_the_config(tiny_vqgan):
    config, _, json_path, weights = tiny_vqgan(norm_groups=8, ch=16)
    values = json.loads(json_path.read_text())
    assert config_from_values(values, "again") == config
    assert VQGANIFrameModel(json_path, weights)(X).x_hat.shape == X.shape
    own = {"model": torch.load(weights, weights_only=True)["model"], "config": values}
    torch.save(own, weights)
    del values["model_args"]["ddconfig"]["norm_groups"]
    values["model_args"]["ddconfig"]["ch"] = 32
    json_path.write_text(json.dumps(values))
    with pytest.raises(InputError, match="made with norm_groups 8, the config says 32"):
        VQGANIFrameModel(json_path, weights)


class _Recorded(TorchDispatchMode):
    """Every operation and the types of the tensors it makes."""

    def __init__(self):
        super().__init__()
        self.made = set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        out = function(*arguments, **(options or {}))
        for value in out if isinstance(out, (list, tuple)) else [out]:
            if isinstance(value, torch.Tensor):
                self.made.add((str(function), value.dtype))
        return out


@pytest.mark.parametrize("changes", VARIANTS[:6], ids=lambda c: "-".join(map(str, c.values())))
def test_what_runs_on_the_device_is_what_every_device_has(tiny_vqgan, changes):
    """No float64, which MPS lacks, and nothing that waits for another device, between pixels and codes."""
    _, _, json_path, weights = tiny_vqgan(**changes)
    model = VQGANIFrameModel(json_path, weights).model
    with torch.no_grad(), _Recorded() as seen:
        model.decode(model.encode(X * 2 - 1))
    assert {dtype for _, dtype in seen.made} <= {torch.float32, torch.int64, torch.bool}
    assert any("convolution" in name for name, _ in seen.made)


def test_first_minimum_wins():
    codebook = torch.randn(50, 4)
    codebook[30], codebook[45] = codebook[7], codebook[7]
    assert nearest_codes(codebook[[30, 45, 7, 3]], codebook).tolist() == [7, 7, 7, 3]
