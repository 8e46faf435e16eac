"""Units and limits that the exact forms of both light codecs share."""

import torch

from dcvc.layers.exact_blocks import TRUNK_BITS
from dcvc.layers.exact_linear import Grid

LATENT_BITS = 6
# Limits of what no range is measured of: y and its means, +-8192; what the priors see, +-64.
LATENT_LIMIT, PRIOR_LIMIT = 2.0 ** (13 + LATENT_BITS), 2.0 ** (6 + TRUNK_BITS)


def even_grid(channels: int, bits: int, limit: float) -> Grid:
    """The same limit for all channels."""
    return Grid(bits, torch.full((channels,), limit, dtype=torch.float64))
