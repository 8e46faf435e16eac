"""Small untrained light models, as benchmarks and tests code with them."""

from dataclasses import replace

import torch
from torch import nn

from dcvc.codec.video_codec import VideoCodec
from dcvc.inter.light.config import LightConfig
from dcvc.inter.light.model import LightPFrameModel
from dcvc.intra.light.config import LightIntraConfig
from dcvc.intra.light.model import LightIFrameModel

SMALL_LIGHT = LightConfig(width=64, latent_channels=48, hyper_channels=16, adaptor_i_depth=1, adaptor_m_depth=1,
                          extractor_depth=1, scale_depth=1)
SMALL_LIGHT_INTRA = LightIntraConfig(width=64, latent_channels=96, hyper_channels=16, encoder_depth=1, decoder_depth=2)
TINY_LIGHT = LightConfig(width=16, latent_channels=8, hyper_channels=4, adaptor_i_depth=1, adaptor_m_depth=1,
                         extractor_depth=1, encoder_depth=1, decoder_depth=1, head_depth=1, fusion_depth=1,
                         spatial_depth=1, scale_depth=1, fusion_width=16, spatial_width=16, scale_width=8)
TINY_LIGHT_INTRA = LightIntraConfig(width=16, latent_channels=8, hyper_channels=4, encoder_depth=1, decoder_depth=2,
                                    fusion_depth=1, spatial_depth=1, spatial_width=8)

PUBLISHED = {"topology": "published", "activation": "wsilu", "exact_scales": False, "largest_scale": 16.0}


def stirred(model: nn.Module, deviation: float = 0.003) -> nn.Module:
    """A light model as after training: an untrained one's blocks and priors are silent."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith(("q_", "bit_estimator_z")):
                parameter.add_(deviation * torch.randn_like(parameter))
    return model


def tiny_light_codec(seed: int = 0) -> VideoCodec:
    torch.manual_seed(seed)
    return VideoCodec(stirred(LightPFrameModel(TINY_LIGHT)), stirred(LightIFrameModel(TINY_LIGHT_INTRA)))


def tiny_published_codec(seed: int = 0) -> VideoCodec:
    """As uf-ld and uf-intra, but small; with weights that give every latent something to say."""
    torch.manual_seed(seed)
    p_frame = LightPFrameModel(replace(TINY_LIGHT, motion="none", **PUBLISHED))
    intra = LightIFrameModel(replace(TINY_LIGHT_INTRA, steps=4, **PUBLISHED))
    with torch.no_grad():
        for model in (p_frame, intra):
            for name, value in model.named_parameters():
                if name.startswith("q_"):
                    value.uniform_(0.7, 1.4)
                elif not name.startswith("bit"):
                    value.add_(0.02 * torch.randn_like(value))
            n = model.config.latent_channels
            scales = slice(n, 2 * n) if model is p_frame else slice(n)
            model.y_prior_fusion.conv[-1].bias[scales] += 1.0
        p_frame.encoder.down.weight.mul_(30)
        intra.enc.enc_2[-1].weight.mul_(30)
    return VideoCodec(p_frame, intra)


def wandering_quality(number: int) -> float:
    """0 ... 63 in quarter steps, far from that of the frame before."""
    return number * 20.75 % 63.25
