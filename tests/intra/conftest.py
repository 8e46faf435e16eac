"""Small random VQGANs written to files: any quantizer, any layout."""

import dataclasses
import json

import pytest
import torch

from dcvc.intra.vqgan.config import VQGANConfig, config_to_values
from dcvc.intra.vqgan.model import VQGAN

TINY = VQGANConfig(variant="EMAVQ", n_embed=64, embed_dim=8, ch=32, ch_mult=(1, 1, 2), num_res_blocks=1,
                   attn_resolutions=(64,), z_channels=16)


@pytest.fixture
def tiny_vqgan(tmp_path):
    """make(name, **changes of the config) -> (config, state, path of the JSON, path of the weights)."""

    def make(name="tiny", container="model", seed=0, extra=None, **changes):
        torch.manual_seed(seed)
        config = dataclasses.replace(TINY, **changes)
        model = VQGAN(config)
        state = model.state_dict()
        for key in state:
            if key.endswith(("embedding.weight", "embed.weight", "_avg")) or ".codebooks." in key:
                state[key] = torch.randn(state[key].shape)
            elif "norm" in key:                              # a file whose norms are untouched counts as untrained
                state[key] = state[key] + 0.05 * torch.randn(state[key].shape)
        files = tmp_path / f"{name}.json", tmp_path / f"{name}.pt"
        files[0].write_text(json.dumps(config_to_values(config)))
        torch.save({container: state, **(extra or {})} if container else state, files[1])
        return config, state, *files

    return make
