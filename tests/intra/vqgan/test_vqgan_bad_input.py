"""What is refused of VQGANs of other projects: damaged sets of files, configurations that contradict the weights."""

import json

import pytest
import torch
from kit import vqgan_layouts

from dcvc.errors import InputError, MissingError, ReadError
from dcvc.intra import VQGANIFrameModel
from dcvc.intra.vqgan.config import read_config


def _bad_shard(folder):
    _, weights, *_ = vqgan_layouts.write(folder, "amused")
    (folder / "vqvae" / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    return None, weights


def _lone_shard(folder):
    vqgan_layouts.write(folder, "amused")
    return None, folder / "vqvae" / "diffusion_pytorch_model-00001-of-00002.safetensors"


def _changed_index(change):
    def make(folder):
        _, weights, *_ = vqgan_layouts.write(folder, "amused")
        index = folder / "vqvae" / "diffusion_pytorch_model.safetensors.index.json"
        values = json.loads(index.read_text())
        change(values["weight_map"])
        index.write_text(json.dumps(values))
        return None, weights
    return make


def _cut_shard(folder):
    _, weights, *_ = vqgan_layouts.write(folder, "amused")
    shard = folder / "vqvae" / "diffusion_pytorch_model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:3000])
    return None, weights


def _changed_json(layout, file, **changes):
    def make(folder):
        config, weights, *_ = vqgan_layouts.write(folder, layout)
        path = folder / file
        values = json.loads(path.read_text())
        (values["model"]["init_args"] if "model" in values else values).update(changes)
        path.write_text(json.dumps(values))
        return config, weights
    return make


def _without_encoder(folder):
    config, weights, ours, state = vqgan_layouts.write(folder, "ibq")
    torch.save({key: value for key, value in state.items() if key.startswith("decoder.")}, weights)
    return config, weights


def _ibq_as_vqmodel(folder):
    """The YAML of a VQModel beside IBQ's file."""
    _, weights, ours, state = vqgan_layouts.write(folder, "ibq")
    (folder / "vq.yaml").write_text(vqgan_layouts.lightning_yaml(ours, "taming.models.vqgan.VQModel"))
    return folder / "vq.yaml", weights


def _changed_ours(layout, **changes):
    def make(folder):
        config, weights, *_ = vqgan_layouts.write(folder, layout)
        values = json.loads((folder / "vqgan.json").read_text())
        values["model_args"].update(changes)
        (folder / "vqgan.json").write_text(json.dumps(values))
        return config, weights
    return make


def _half_of_cosmos(folder):
    vqgan_layouts.write(folder, "cosmos")
    state = torch.load(folder / "model.pt", weights_only=True)
    torch.save({key: value for key, value in state.items() if key.startswith(("decoder.", "post_"))},
               folder / "model.pt")
    return None, folder


def _without_decoder(folder):
    config, weights, ours, state = vqgan_layouts.write(folder, "ibq")
    torch.save({f"model.vqmodel.{key}": value for key, value in state.items() if not key.startswith("decoder.")},
               weights)
    return config, weights


def _without_config(folder):
    vqgan_layouts.write(folder, "diffusers")
    (folder / "config.json").unlink()
    return None, folder


def _two_layouts(folder):
    _, _, ours, state = vqgan_layouts.write(folder, "diffusers")
    mixed = vqgan_layouts.names_of_diffusers(state, 2) | vqgan_layouts.names_of_llamagen(state, 2)
    torch.save(mixed, folder / "mixed.pt")
    return folder / "config.json", folder / "mixed.pt"


def _two_files(folder):
    _, weights, *_ = vqgan_layouts.write(folder, "ibq")
    weights.with_name("last.ckpt").write_bytes(weights.read_bytes())
    return None, folder


def _video(folder):
    config, weights, ours, state = vqgan_layouts.write(folder, "ibq")
    state["encoder.conv_in.weight"] = state["encoder.conv_in.weight"][:, :, None]
    torch.save(state, weights)
    return config, weights


def _class(name):
    return _changed_json("diffusers", "config.json", _class_name=name)


def _lone_var(folder):
    return None, vqgan_layouts.write(folder, "var")[1]


def _running_order(folder):
    """Janus as transformers stores it: taming's names, and the decoder's deepest level is its first."""
    state = vqgan_layouts.random_state(vqgan_layouts.SMALL)
    names = {"decoder.up.0.": "decoder.up.1.", "decoder.up.1.": "decoder.up.0."}
    turned = {names.get(key[:13], key[:13]) + key[13:]: value for key, value in state.items()}
    torch.save({f"model.vqmodel.{key}": value for key, value in turned.items()}, folder / "janus.pt")
    return "vqmodel", folder / "janus.pt"


def _half(folder):
    (folder / "decoder.jit").write_bytes(b"x")
    return None, folder


BAD = {
    "a shard is missing": (_bad_shard, MissingError, r"00002-of-00002\.safetensors: no such file, needed"),
    "one shard alone": (_lone_shard, InputError, "found one shard of a model, needed all"),
    "a cut shard": (_cut_shard, ReadError, "not readable as safetensors"),
    "an index of absent files": (_changed_index(lambda m: m.update({"quant_conv.bias": "none.safetensors"})),
                                 MissingError, r"none\.safetensors: no such file"),
    "an index that leads elsewhere": (_changed_index(lambda m: m.update({"quant_conv.bias": "../x.safetensors"})),
                                      InputError, r"names the file '\.\./x\.safetensors'"),
    "an index of absent entries": (_changed_index(lambda m: m.update({"more": next(iter(m.values()))})),
                                   InputError, "more: missing, needed"),
    "K is not 2^bits": (_changed_json("magvit2", "magvit2.yaml", n_embed=2000), InputError,
                        r"n_embed: found 2000, needed 2\^embed_dim = 2048"),
    "bits of another model": (_changed_json("magvit2", "magvit2.yaml", n_embed=1024, embed_dim=10), InputError,
                              "embed_dim: found 10, needed z_channels = 11"),
    "K is not 2^bits in BSQ": (_changed_ours("bsq", n_embed=32), InputError,
                               r"n_embed: found 32, needed 2\^embed_dim = 16"),
    "K is not the product of FSQ levels": (_changed_ours("fsq", n_embed=400), InputError, "n_embed: found 400, needed"),
    "more FSQ levels than channels": (_changed_ours("fsq", fsq_levels=[7, 5, 4, 3, 2], n_embed=840, embed_dim=5),
                                      InputError, r"quant_conv\.weight: found shape \[4, 4, 1, 1\], the config needs"),
    "IBQ as VQModel": (_ibq_as_vqmodel, InputError, r"found averages \(model_ema.*IBQ.*decides"),
    "FSQ levels of another model": (_changed_json("cosmos", "config.json", levels=[8, 8, 8, 5, 4]), InputError,
                                    r"levels: found \(8, 8, 8, 5, 4\) in the config, needed \(8, 8, 8, 5, 5\)"),
    "too few FSQ levels": (_changed_json("cosmos", "config.json", levels=[8, 8, 8]), InputError,
                           "levels: found 3 of them, needed embedding_dim = 5"),
    "other scales": (_changed_json("var", "var.json", v_patch_nums=[1, 2, 3, 8]), InputError,
                     "v_patch_nums: found 4 scales in the config, needed the 3"),
    "a VAR alone": (_lone_var, InputError, "var-256"),
    "normalised VAR": (_changed_json("var", "var.json", using_znorm=True), InputError, "using_znorm: found true"),
    "a decoder alone": (_without_encoder, InputError, "found a decoder and no encoder"),
    "a decoder of Cosmos alone": (_half_of_cosmos, InputError, "found a decoder and no encoder .*needed both"),
    "an encoder alone": (_without_decoder, InputError, "found an encoder and no decoder"),
    "one half of Cosmos": (_half, MissingError, r"encoder\.jit: no such file"),
    "diffusers without config": (_without_config, InputError, r"needed its config\.json"),
    "two layouts": (_two_layouts, InputError, "those of diffusers and of LlamaGen"),
    "two files": (_two_files, InputError, r"found 2 files of weights \(ibq\.ckpt, last\.ckpt\)"),
    "a video tokenizer": (_video, InputError, "found a video tokenizer"),
    "AutoencoderKL": (_class("AutoencoderKL"), InputError, "AutoencoderKL, which has continuous latents"),
    "Paella": (_class("PaellaVQModel"), InputError, "PaellaVQModel, which is another graph"),
    "Cosmos CV": (_changed_json("cosmos", "config.json", name="CV"), InputError, "found CV, which codes videos"),
    "Janus in transformers": (_running_order, InputError, "found the tokenizer of Janus as transformers stores it"),
    "an empty folder": (lambda folder: (None, folder), MissingError, "found no weights of a VQGAN"),
    "a width without groups": (_changed_json("diffusers", "config.json", block_out_channels=[16, 20]), InputError,
                               "needed a multiple of 8"),
    "another class": (_changed_json("maskgit", "config.json", _class_name="VQGANModel"), InputError,
                      "its entries are those of MaskGIT-VQGAN, which has graph maskgit"),
    "levels that are no list": (_changed_json("cosmos", "config.json", levels="8"), InputError, "wrong kind|needed"),
    "no list of widths": (_changed_json("diffusers", "config.json", block_out_channels=8), InputError,
                          "needed a list of channels"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(tmp_path, name):
    make, kind, words = BAD[name]
    config, weights = make(tmp_path)
    with pytest.raises(kind, match=words) as caught:
        VQGANIFrameModel(config, weights)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value) or "VQGAN config" in str(caught.value)


@pytest.mark.parametrize(("path", "words"), [
    ("src.Open_MAGVIT2.models.video_lfqgan.VQModel", "codes videos"), ("x.AutoencoderKL", "continuous"),
    ("x.Diffusion", "needed a VQGAN")])
def test_classes_that_are_no_image_vqgan(tmp_path, path, words):
    (tmp_path / "c.yaml").write_text(vqgan_layouts.lightning_yaml(vqgan_layouts.SMALL, path))
    with pytest.raises(InputError, match=words):
        read_config(tmp_path / "c.yaml")
