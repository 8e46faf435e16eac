"""The quantizer of VAR: one table, and a grid of codes for each of several scales, coarse to fine.

Tian et al., "Visual Autoregressive Modeling", NeurIPS 2024, algorithms 1 and 2:

    left = z, sum = 0
    for each scale s:   codes of s = the nearest rows to `left`, averaged down to the grid of s
                        e = those rows, enlarged bicubically to the grid of z
                        e = (1 - r) e + r * smooth(e)             r = 1/2, a 3x3 convolution
                        left = left - e, sum = sum + e
    decode sum

The published scales are squares of 1, 2, 3, 4, 5, 6, 8, 10, 13 and 16 for a z of 16 x 16, 680 codes
in all. A z of another size takes them in proportion: on 68 x 120 the scale 4 of 16 has 17 x 30
codes, and the last scale is always z's own grid. A few convolutions serve all scales: with four,
the ten scales take 0 0 1 1 1 2 2 3 3 3.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.intra.vqgan.codebooks import Grid, Quantizer, code_map, code_rows, nearest_codes
from dcvc.intra.vqgan.dimensions import VQGANConfig


def smoothing_of(scales: int, smoothings: int) -> list[int]:
    """Which convolution each scale takes: that of the tick nearest to s / (S - 1)."""
    # In float64 as the original: two of the ten published scales lie between two ticks, and the
    # rounding of these very sums decides.
    edge = 1 / 3 / smoothings if smoothings == 4 else 1 / 2 / smoothings
    ticks = np.linspace(edge, 1 - edge, smoothings)
    return [int(np.abs(ticks - scale / max(1, scales - 1)).argmin()) for scale in range(scales)]


class MultiScaleQuantizer(Quantizer):
    """Codes are `(B, 1, 1, n)`: the grids of all scales row by row, one after the other."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.scales, self.share = config.scales, config.smoothing
        self.embedding = nn.Embedding(config.n_embed, config.embed_dim)
        self.smooth = nn.ModuleList(nn.Conv2d(config.embed_dim, config.embed_dim, 3, padding=1)
                                    for _ in range(config.smoothings))
        self.smoothing_of = smoothing_of(len(config.scales), config.smoothings)

    def grids(self, grid: Grid) -> list[tuple[int, int]]:
        """(h, w) of each scale for a latent of that size."""
        if grid is None:
            return list(self.scales)
        height, width = self.scales[-1]
        # The nearest whole number of rows and columns, at least one.
        inner = [(max(1, (2 * h * grid[0] + height) // (2 * height)),
                  max(1, (2 * w * grid[1] + width) // (2 * width))) for h, w in self.scales[:-1]]
        return [*inner, tuple(grid)]

    def shape(self, grid: tuple[int, int]) -> tuple[int, int, int]:
        return (1, 1, sum(h * w for h, w in self.grids(grid)))

    def split(self, codes: Tensor, grid: Grid) -> list[Tensor]:
        """`(B, 1, 1, n)` -> a map `(B, h, w)` for each scale."""
        grids = self.grids(grid)
        parts = codes[:, 0, 0].split([h * w for h, w in grids], dim=1)
        return [part.reshape(-1, *size) for part, size in zip(parts, grids, strict=True)]

    def tables(self) -> Tensor:
        return self.embedding.weight.detach()[None]

    def indices(self, z: Tensor) -> Tensor:
        grid, codes, left = z.shape[-2:], [], z
        for scale, size in enumerate(self.grids(grid)):
            # At the last scale this is `left` itself.
            small = F.adaptive_avg_pool2d(left, size)
            chosen = nearest_codes(code_rows(small), self.embedding.weight)
            codes.append(chosen.view(len(z), -1))
            left = left - self._enlarged(chosen.view(len(z), *size), scale, grid)
        return torch.cat(codes, dim=1)[:, None, None]

    def lookup(self, indices: Tensor, grid: Grid = None) -> Tensor:
        parts = self.parts(indices, grid)
        # Scale by scale on both sides: in another order the last bit of a sum can differ.
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def parts(self, indices: Tensor, grid: Grid = None) -> list[Tensor]:
        """What each scale adds to the latent, `(B, E, h, w)`."""
        grid = grid or self.scales[-1]
        return [self._enlarged(codes, scale, grid)
                for scale, codes in enumerate(self.split(indices, grid))]

    def _enlarged(self, codes: Tensor, scale: int, grid: tuple[int, int]) -> Tensor:
        rows = code_map(self.embedding.weight[codes], codes)
        if rows.shape[-2:] != tuple(grid):
            rows = F.interpolate(rows, size=tuple(grid), mode="bicubic", align_corners=False)
        smooth = self.smooth[self.smoothing_of[scale]]
        return rows * (1 - self.share) + smooth(rows) * self.share
