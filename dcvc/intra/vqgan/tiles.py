"""Large frames in overlapping tiles: the memory of a tile instead of that of the frame.

One axis, tiles of 64 positions of the latent on 112 of them (896 pixels, f = 8), 16 of overlap:

    tile 0      0 ......................... 63
    tile 1                       48 ......................... 111
    weight 0    1 ............... 1  falls  0
    weight 1                      0  rises  1 ................. 1

In the middle half of the overlap the weights change linearly, and they sum to 1. Its outer quarters
have the weights 1 and 0: there one tile's convolutions saw the border of the tile. Every tile is
normalised and attends by itself, so its brightness differs a little from its neighbour's; the ramp
spreads that over many pixels, so that no seam shows.

Encoding: the latents of the tiles are blended, and then quantized once. Decoding: the codes of the
whole frame are looked up, and the tiles' pictures are blended. So the codes are one map, as without
tiles. Codec and stream agree on the tiles: a payload says how large they are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from dcvc.errors import InputError
from dcvc.intra.vqgan.dimensions import VQGANConfig
from dcvc.intra.vqgan.model import VQGAN
from dcvc.intra.vqgan.stream import SMALLEST_TILE

# A quarter of a tile is shared with each neighbour.
OVERLAP_SHARE = 4


@dataclass(frozen=True)
class Tile:
    """Positions first ... end - 1 of the latent along one axis; before, after: how many of them it
    shares with its neighbours."""

    first: int
    end: int
    before: int
    after: int


def tile_size(pixels: int, config: VQGANConfig) -> int:
    """Pixels a side -> positions. Raises InputError for tiles that are too small, and for models in
    which every pixel depends on all codes."""
    if config.forms.adaptive:
        raise InputError("--tile: found with a VQGAN of the graph "
                         f"{config.graph}, in which every pixel depends on all codes; leave it out")
    size = pixels // config.factor
    if size < SMALLEST_TILE:
        raise InputError(f"--tile: found {pixels}, needed at least {SMALLEST_TILE * config.factor} pixels "
                         f"(f of the VQGAN is {config.factor})")
    return size


def tiles_of(length: int, size: int) -> list[Tile]:
    """As few tiles of `size` positions as cover `length`, evenly spaced."""
    if length <= size:
        return [Tile(0, length, 0, 0)]
    step = size - size // OVERLAP_SHARE
    count = -(-(length - size) // step) + 1
    firsts = [number * (length - size) // (count - 1) for number in range(count)]
    shared = [first + size - after for first, after in zip(firsts, firsts[1:], strict=False)]
    return [Tile(first, first + size, before, after) for first, before, after
            in zip(firsts, [0, *shared], [*shared, 0], strict=True)]


def weights_of(tile: Tile, scale: int) -> Tensor:
    """How much of each position counts, float32 `((end - first) * scale,)`."""
    length = (tile.end - tile.first) * scale
    places = torch.arange(length) + 0.5

    def ramp(distance: Tensor, shared: int) -> Tensor:
        # From 0 to 1 over the middle half of what is shared; at a frame's border nothing is.
        width = shared * scale / 2
        return ((distance - width / 2) / width).clamp(0, 1) if shared else torch.ones(length)

    return ramp(places, tile.before) * ramp(length - places, tile.after)


def in_tiles(run: Callable[[Tensor], Tensor], x: Tensor, size: int, scales: tuple[int, int],
             channels: int) -> Tensor:
    """x `(B, C, H, W)` -> `run` on each tile, blended: `(B, channels, …)`.

    size: of a tile, in positions of the latent. scales: how many rows of x a position has, and how
    many of the result; one of the two is 1 and the other one f."""
    into, out_of = scales
    height, width = (side // into for side in x.shape[-2:])
    total = torch.zeros(len(x), channels, height * out_of, width * out_of, device=x.device)
    for down, right in product(tiles_of(height, size), tiles_of(width, size)):
        part = x[:, :, down.first * into:down.end * into, right.first * into:right.end * into]
        made = run(part.contiguous())
        weight = weights_of(down, out_of)[:, None] * weights_of(right, out_of)
        total[:, :, down.first * out_of:down.end * out_of,
              right.first * out_of:right.end * out_of] += made * weight.to(x.device)
    return total


def encode_tiled(model: VQGAN, x: Tensor, size: int) -> Tensor:
    """`VQGAN.encode` in tiles."""
    config = model.config
    return model.quantize.indices(
        in_tiles(model.prequant, x, size, (config.factor, 1), config.embed_dim))


def decode_tiled(model: VQGAN, codes: Tensor, grid: tuple[int, int], size: int) -> Tensor:
    """`VQGAN.decode` in tiles."""
    config = model.config
    return in_tiles(model.decode_latent, model.quantize.lookup(codes, grid), size,
                    (1, config.factor), config.out_ch)
