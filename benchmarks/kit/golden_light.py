"""A light codec whose numbers do not depend on the machine, and the stream that it makes.

A network's floats depend on the order of sums. Here every output of every layer has one input with a
weight that is a power of two, and all others are zero: there is nothing to add up. Qualities act by
powers of two as well, and frames are grey with levels that are far from any rounding border.
"""

import io
from fractions import Fraction

import torch
from torch import Tensor, nn

from dcvc.codec.clip_coders import CodedFrame
from dcvc.codec.video_codec import VideoCodec
from dcvc.device import computing_threads
from dcvc.inter.light.config import LightConfig
from dcvc.inter.light.model import LightPFrameModel
from dcvc.intra.light.config import LightIntraConfig
from dcvc.intra.light.model import LightIFrameModel

P_CONFIG = LightConfig(width=8, latent_channels=8, hyper_channels=4, adaptor_i_depth=1, adaptor_m_depth=1,
                       extractor_depth=1, encoder_depth=1, decoder_depth=1, head_depth=1, fusion_depth=1,
                       spatial_depth=1, scale_depth=1, quality_rows=2, z_rows=4, motion="none", hyper_depth=1,
                       fusion_width=16, spatial_width=16, scale_width=8)
I_CONFIG = LightIntraConfig(width=8, latent_channels=8, hyper_channels=4, encoder_depth=1, decoder_depth=2,
                            fusion_depth=1, spatial_depth=1, quality_rows=2, z_rows=4, hyper_depth=1,
                            spatial_width=8)
# What one frame after the other is coded at: whole, quarter and extreme qualities, a new I-frame in the middle.
QUALITIES, REFRESH, GOP = (32, 9.25, 63, 32.5, 0, 17.75), {2}, 4


def sparse(model: nn.Module) -> nn.Module:
    """The model with weights made by a rule of their names and places alone."""
    with torch.no_grad():
        for number, (name, value) in enumerate(sorted(model.named_parameters())):
            if name.startswith("q_"):
                # From the lowest to the highest quality: 1 ... 16 on the encoder's side, back on the other.
                ladder = torch.tensor([1.0, 16.0] if name in ("q_encoder", "q_scale_y_enc", "q_prior", "q_hyper")
                                      else [1.0, 1 / 16])
                value.copy_(ladder[:, None].expand_as(value))
            elif name.startswith("bit_estimator_z"):
                value.fill_(0.5 if name.endswith("h") else 0.0)
            elif value.dim() == 4:
                value.zero_()
                for out in range(len(value)):
                    place = (out, (out + number) % value.shape[1], value.shape[2] // 2, value.shape[3] // 2)
                    value[place] = _gain(name) * (-1.0) ** out
            else:
                value.copy_(((torch.arange(len(value)) * 7 + number) % 5 - 2) / 16)
    return model.eval()


def _gain(name: str) -> float:
    # Blocks add to what goes around them; y and z are large enough to have something to say.
    if ".dc." in name or ".ffn." in name:
        return 0.25
    return 4.0 if name.startswith(("encoder.down", "enc.enc_2", "hyper_enc")) else 1.0


def golden_codec() -> VideoCodec:
    p_frame, intra = sparse(LightPFrameModel(P_CONFIG)), sparse(LightIFrameModel(I_CONFIG))
    return VideoCodec(p_frame, intra)


def golden_frames() -> list[Tensor]:
    rows, columns = torch.meshgrid(torch.arange(34), torch.arange(51), indexing="ij")
    return [((7 * rows + 5 * (columns + number)) % 256).to(torch.uint8).expand(3, -1, -1)
            for number in range(len(QUALITIES))]


def golden_stream() -> tuple[bytes, list[CodedFrame]]:
    """The bytes of tests/codec/golden_light.dcvc as this machine makes them, and its frames."""
    codec, file = golden_codec(), io.BytesIO()
    with computing_threads(1):
        header = codec.header((34, 51), Fraction(24000, 1001), len(QUALITIES), GOP, source=b"gold")
        coded = list(codec.encode(golden_frames(), header, file, quality=QUALITIES, refresh=REFRESH))
    return file.getvalue(), coded
