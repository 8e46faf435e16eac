"""Make the I-frame codec that a configuration names, and code one frame with any of them."""

import torch
from torch import Tensor, nn

from dcvc.config import IntraConfig
from dcvc.interfaces import bits_per_pixel
from dcvc.intra.base import FrozenCodec, check_frames
from dcvc.intra.compressai import CompressAIIFrameModel
from dcvc.intra.vqgan.codec import VQGANIFrameModel
from dcvc.layers import crop, pad_to_multiple

ZOO_MULTIPLE = 64


def build_intra_codec(config: IntraConfig, device: str | torch.device = "cpu") -> FrozenCodec:
    """The frozen FrameCodec that `config` describes, on `device`. Raises InputError, MissingError, ReadError."""
    if config.type == "vqgan":
        return VQGANIFrameModel(config.vqgan_config, config.vqgan_checkpoint, device)
    codec = CompressAIIFrameModel(config.model_name, config.quality, config.pretrained, config.checkpoint)
    return codec.to(device)


@torch.no_grad()
def compress_i_frame_with_padding(i_frame_model: nn.Module, frame_tensor: Tensor, calculate_bpp: bool = True):
    """Code an I-frame of any size with one of our codecs or with a bare model of CompressAI's zoo.

    frame_tensor: float RGB `(B, 3, H, W)` in [0, 1]. It is padded to the codec's own multiple (64 for a zoo model)
    and cropped after. Returns `(result, bpp)`: `result["x_hat"]` is `(B, 3, H, W)` in [0, 1], `result["likelihoods"]`
    the named likelihoods, `bpp` a float: estimated bits over the B·H·W unpadded pixels. With `calculate_bpp=False`
    it returns `result` alone. Raises InputError for a frame that is no RGB or not finite.
    """
    if isinstance(i_frame_model, FrozenCodec):
        result = i_frame_model(frame_tensor)
        return (result, float(bits_per_pixel(result.total_bits, frame_tensor))) if calculate_bpp else result
    check_frames(frame_tensor)
    result = dict(i_frame_model(pad_to_multiple(frame_tensor, ZOO_MULTIPLE)))
    result["x_hat"] = crop(result["x_hat"], *frame_tensor.shape[-2:]).clamp(0, 1)
    if not calculate_bpp:
        return result
    bits = sum(-torch.log2(values.double()).sum() for values in result["likelihoods"].values())
    return result, float(bits_per_pixel(bits, frame_tensor))
