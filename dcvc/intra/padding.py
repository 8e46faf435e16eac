"""One I-frame of any size by any codec: ours, or a bare model of CompressAI's zoo."""

import torch
from torch import Tensor, nn

from dcvc.interfaces import FrozenCodec, bits_per_pixel
from dcvc.intra.compressai import code_with_zoo_model


@torch.no_grad()
def compress_i_frame_with_padding(i_frame_model: nn.Module, frame_tensor: Tensor,
                                  calculate_bpp: bool = True):
    """Code an I-frame of any size with one of our codecs or with a bare model of CompressAI's zoo.

    frame_tensor: float RGB `(B, 3, H, W)` in [0, 1]. It is padded to the codec's own multiple (64
    for a zoo model) and cropped after. Returns `(result, bpp)`: `result["x_hat"]` is `(B, 3, H, W)`
    in [0, 1], `result["likelihoods"]` the named likelihoods, `bpp` a float: estimated bits over the
    B·H·W unpadded pixels. With `calculate_bpp=False` it returns `result` alone. Raises InputError
    for a frame that is no RGB or not finite.
    """
    if isinstance(i_frame_model, FrozenCodec):
        result = i_frame_model(frame_tensor)
        bits = result.total_bits
    else:
        # A bare model tells likelihoods and no bits: a symbol of likelihood p costs -log2 p. In
        # float64, as millions of small terms are added.
        result = code_with_zoo_model(i_frame_model, frame_tensor)
        bits = sum(-torch.log2(values.double()).sum() for values in result["likelihoods"].values())
    return (result, float(bits_per_pixel(bits, frame_tensor))) if calculate_bpp else result
