"""Small random VQGANs of every layout, written under the names of the projects they come from."""

import dataclasses
import json
import re

import torch
from safetensors.torch import save_file

from dcvc.intra.vqgan.config import VQGANConfig
from dcvc.intra.vqgan.model import VQGAN

SMALL = VQGANConfig(n_embed=64, embed_dim=4, ch=32, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(128,),
                    z_channels=4)
PLAIN = {"quant_kernel": 0, "attn_resolutions": ()}
CONFIGS = {
    "diffusers": dataclasses.replace(SMALL, ch=8, first_mult=2, ch_mult=(2, 3), norm_groups=8, embed_dim=3,
                                     attn_resolutions=(), decoder_attn_resolutions=(128,)),
    "amused": dataclasses.replace(SMALL, attn_resolutions=(), mid_attention=False, unit_range=True),
    "movq": dataclasses.replace(SMALL, decoder_norm="spatial", norm_groups=16),
    "movq original": dataclasses.replace(SMALL, decoder_norm="spatial"),
    "ibq": dataclasses.replace(SMALL, variant="IBQ"),
    "magvit2": dataclasses.replace(SMALL, variant="LFQ", n_embed=2**11, embed_dim=11, z_channels=11, graph="magvit2",
                                   num_res_blocks=2, **PLAIN),
    "cosmos": dataclasses.replace(SMALL, variant="FSQ", n_embed=8 * 8 * 8 * 5 * 5, embed_dim=5, patch=2, resampled=1,
                                  fsq_levels=(8, 8, 8, 5, 5), ch_mult=(1, 2, 2), attn_resolutions=(),
                                  patch_method="rearrange"),
    "maskgit": dataclasses.replace(SMALL, graph="maskgit", unit_range=True, num_res_blocks=2, **PLAIN),
    "muse": dataclasses.replace(SMALL, unit_range=True, mid_attention=False),
    "var": dataclasses.replace(SMALL, variant="VAR", quant_kernel=3, scales=((1, 1), (2, 3), (6, 8)), smoothings=2,
                               smoothing=0.3),
    "llamagen": dataclasses.replace(SMALL, l2_norm=True),
    "bsq": dataclasses.replace(SMALL, variant="BSQ", n_embed=16),
    "fsq": dataclasses.replace(SMALL, variant="FSQ", n_embed=7 * 5 * 4 * 3, fsq_levels=(7, 5, 4, 3)),
}


# Those whose streams differ from what taming's layout has: in the quantizer, the graph or the codes' grids.
CODED = ("diffusers", "movq", "ibq", "magvit2", "cosmos", "maskgit", "var", "bsq", "fsq")


def random_state(config, seed=0):
    """Weights of a model whose codes are many and whose norms are no longer those of the start."""
    torch.manual_seed(seed)
    model = VQGAN(config).eval()
    state = model.state_dict()
    for key in state:
        if "norm" in key and state[key].ndim == 1:
            state[key] = state[key] + 0.05 * torch.randn(state[key].shape)
    with torch.no_grad():
        z = model.prequant(torch.rand(2, 3, 96, 96) * 2 - 1).permute(0, 2, 3, 1).flatten(0, 2)
    # Codes without a table: latents around 0. Tables: rows among the latents.
    if "quantize.embedding.weight" in state:
        state["quantize.embedding.weight"] = z[torch.randperm(len(z))[:config.n_embed]].clone()
    return state


def names_of_diffusers(state, levels):
    """From ours: decoder levels counted from the deepest, attention as linear layers."""
    rules = ((r"^encoder\.down\.", "encoder.down_blocks."), (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
             (r"\.mid\.block_2\.", ".mid_block.resnets.1."), (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
             (r"\.(\d+)\.block\.", r".\1.resnets."), (r"\.(\d+)\.attn\.", r".\1.attentions."),
             (r"\.downsample\.", ".downsamplers.0."), (r"\.upsample\.", ".upsamplers.0."),
             (r"\.norm_out\.", ".conv_norm_out."), (r"\.nin_shortcut\.", ".conv_shortcut."),
             (r"(attentions\.\d+)\.norm\.norm_layer", r"\1.spatial_norm.norm_layer"),
             (r"(attentions\.\d+)\.norm\.conv", r"\1.spatial_norm.conv"),
             (r"(attentions\.\d+)\.norm\.", r"\1.group_norm."),
             (r"\.proj_out\.", ".to_out.0."), (r"\.([qkv])\.", r".to_\1."))
    renamed = {}
    for key, value in state.items():
        key = re.sub(r"^decoder\.up\.(\d+)", lambda m: f"decoder.up_blocks.{levels - 1 - int(m[1])}", key)
        for pattern, new in rules:
            key = re.sub(pattern, new, key)
        renamed[key] = value[:, :, 0, 0].clone() if re.search(r"\.(to_[qkv]|to_out\.0)\.weight$", key) else value
    return renamed


def _renamed(state, *rules):
    for pattern, new in rules:
        state = {re.sub(pattern, new, key): value for key, value in state.items()}
    return state


def names_of_var(state, scales):
    """q, k, v in one; a count of hits beside them."""
    state = _renamed(state, (r"^quantize\.smooth\.", "quantize.quant_resi.qresi_ls."))
    for key in [key for key in state if ".q." in key]:
        state[key.replace(".q.", ".qkv.")] = torch.cat([state.pop(key.replace(".q.", f".{n}.")) for n in "qkv"])
    return state | {"quantize.ema_vocab_hit_SV": torch.ones(scales, len(state["quantize.embedding.weight"]))}


def names_of_llamagen(state, levels):
    state = {re.sub(r"^decoder\.up\.(\d+)", lambda m: f"decoder.conv_blocks.{levels - 1 - int(m[1])}", key): value
             for key, value in state.items()}
    return _renamed(state, (r"^encoder\.down\.", "encoder.conv_blocks."), (r"\.mid\.block_1\.", ".mid.0."),
                    (r"\.mid\.attn_1\.", ".mid.1."), (r"\.mid\.block_2\.", ".mid.2."),
                    (r"(conv_blocks\.\d+)\.block\.", r"\1.res."))


def diffusers_json(config):
    down = [("Attn" if config.attention_at(i) else "") + "DownEncoderBlock2D" for i in range(len(config.ch_mult))]
    up = [("Attn" if config.attention_at(i, decoder=True) else "") + "UpDecoderBlock2D"
          for i in reversed(range(len(config.ch_mult)))]
    return {"_class_name": "VQModel", "block_out_channels": list(config.widths[1:]), "down_block_types": down,
            "up_block_types": up, "layers_per_block": config.num_res_blocks, "latent_channels": config.z_channels,
            "vq_embed_dim": config.embed_dim, "num_vq_embeddings": config.n_embed,
            "norm_num_groups": config.norm_groups, "norm_type": config.decoder_norm,
            "mid_block_add_attention": config.mid_attention, "lookup_from_codebook": config.unit_range}


def lightning_yaml(config, path, **arguments):
    dd = {"ch": config.ch, "ch_mult": list(config.ch_mult), "num_res_blocks": config.num_res_blocks,
          "z_channels": config.z_channels, "attn_resolutions": list(config.attn_resolutions), "resolution": 256,
          "double_z": False}
    return json.dumps({"seed_everything": True, "model": {"class_path": path, "init_args": {
        "ddconfig": dd, "n_embed": config.n_embed, "embed_dim": config.embed_dim, "lossconfig": {}, **arguments}}})


def write(folder, layout, seed=0):
    """(config argument, weights argument, our config, our state); the files lie in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIGS[layout]
    state = random_state(config, seed)
    return (*WRITERS[layout](folder, config, dict(state)), config, state)


def _diffusers(folder, config, state):
    (folder / "config.json").write_text(json.dumps(diffusers_json(config)))
    save_file(names_of_diffusers(state, len(config.ch_mult)), folder / "diffusion_pytorch_model.safetensors")
    return None, folder


def _sharded(folder, config, state):
    """In a pipeline's folder, in two shards."""
    folder = folder / "vqvae"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(diffusers_json(config)))
    entries = names_of_diffusers(state, len(config.ch_mult))
    shards = {f"diffusion_pytorch_model-0000{n + 1}-of-00002.safetensors": list(entries)[n::2] for n in range(2)}
    for name, keys in shards.items():
        save_file({key: entries[key] for key in keys}, folder / name)
    index = {"weight_map": {key: name for name, keys in shards.items() for key in keys}}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    return None, folder.parent


def _ibq(folder, config, state):
    averaged = {"model_ema." + key.replace(".", ""): value for key, value in state.items()}
    raw = {key: value + 0.1 for key, value in state.items()}
    torch.save({"state_dict": {**raw, **averaged, "model_ema.decay": torch.zeros(1)}, "epoch": 3,
                "pytorch-lightning_version": "2.1"}, folder / "ibq.ckpt")
    (folder / "ibq.yaml").write_text(lightning_yaml(config, "src.IBQ.models.ibqgan.IBQ", use_ema=True))
    return folder / "ibq.yaml", folder / "ibq.ckpt"


def _magvit2(folder, config, state):
    entries = _renamed(state, (r"\.mid\.", ".mid_block."), (r"\.downsample\.conv\.", ".downsample."),
                       (r"\.upsample\.conv\.", ".upsample.conv1."))
    torch.save({"state_dict": entries | {"loss.discriminator.main.0.weight": torch.zeros(3)}}, folder / "magvit2.ckpt")
    (folder / "magvit2.yaml").write_text(
        lightning_yaml(config, "src.Open_MAGVIT2.models.lfqgan.VQModel", use_ema=False))
    return folder / "magvit2.yaml", folder / "magvit2.ckpt"


def _cosmos(folder, config, state):
    values = {"name": "DI", "quantizer": "FSQ", "channels": config.ch, "channels_mult": list(config.ch_mult),
              "num_res_blocks": config.num_res_blocks, "z_channels": config.z_channels, "attn_resolutions": [],
              "embedding_dim": config.embed_dim, "levels": list(config.fsq_levels), "patch_size": config.patch,
              "patch_method": "rearrange", "spatial_compression": config.factor, "resolution": 512}
    (folder / "config.json").write_text(json.dumps(values))
    torch.save({**state, "quantizer._levels": torch.tensor(config.fsq_levels)}, folder / "model.pt")
    return None, folder


def _muse_values(config, name):
    return {"_class_name": name, "hidden_channels": config.ch, "channel_mult": list(config.ch_mult),
            "num_res_blocks": config.num_res_blocks, "z_channels": config.z_channels, "attn_resolutions": [128],
            "num_embeddings": config.n_embed, "quantized_embed_dim": config.embed_dim, "no_attn_mid_block": True}


def _maskgit(folder, config, state):
    (folder / "config.json").write_text(json.dumps(_muse_values(config, "MaskGitVQGAN")))
    torch.save(_renamed(state, (r"\.upsample\.conv\.", ".upsample_conv.")), folder / "pytorch_model.bin")
    return None, folder


def _muse(folder, config, state):
    (folder / "config.json").write_text(json.dumps(_muse_values(config, "VQGANModel")))
    torch.save(state, folder / "pytorch_model.bin")
    return None, folder


def _var(folder, config, state):
    torch.save(names_of_var(state, len(config.scales)), folder / "var.pth")
    (folder / "var.json").write_text(json.dumps({
        "vocab_size": config.n_embed, "z_channels": config.z_channels, "ch": config.ch, "num_res_blocks": 1,
        "ch_mult": list(config.ch_mult), "v_patch_nums": [1, [2, 3], [6, 8]],
        "share_quant_resi": 2, "quant_resi": 0.3}))
    return folder / "var.json", folder / "var.pth"


def _llamagen(folder, config, state):
    """Within a larger model, sharded, among foreign entries."""
    prefix = "gen_vision_model."
    entries = {prefix + key: value for key, value in names_of_llamagen(state, len(config.ch_mult)).items()}
    half = len(entries) // 2
    files = {"model-00001-of-00003.safetensors": {"language_model.embed.weight": torch.zeros(2)},
             "model-00002-of-00003.safetensors": dict(list(entries.items())[:half]),
             "model-00003-of-00003.safetensors": dict(list(entries.items())[half:])}
    for name, tensors in files.items():
        save_file({key: value.clone() for key, value in tensors.items()}, folder / name)
    index = {"weight_map": {key: name for name, tensors in files.items() for key in tensors}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps({"gen_vision_config": {"params": {
        "image_token_size": config.n_embed, "n_embed": config.embed_dim}}}))
    return None, folder


def _movq_original(folder, config, state):
    torch.save({"state_dict": state}, folder / "movq_final.ckpt")
    return None, folder / "movq_final.ckpt"


def _ours(folder, config, state):
    from dcvc.intra.vqgan.config import config_to_values

    (folder / "vqgan.json").write_text(json.dumps(config_to_values(config)))
    torch.save({"model": state}, folder / "vqgan.pt")
    return None, folder


WRITERS = {"diffusers": _diffusers, "amused": _sharded, "movq": _diffusers, "movq original": _movq_original,
           "ibq": _ibq, "magvit2": _magvit2, "cosmos": _cosmos, "maskgit": _maskgit, "muse": _muse, "var": _var,
           "llamagen": _llamagen, "bsq": _ours, "fsq": _ours}
