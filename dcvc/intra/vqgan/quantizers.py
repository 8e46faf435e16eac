"""Quantizers of a VQGAN: latent -> codes, codes -> latent. Entries are named as in published files.

The latent z has E numbers at each of h x w positions. A codebook is a table of K vectors; the code
of a vector v is the row nearest to it (van den Oord et al., "Neural Discrete Representation
Learning", 2017, eq. 1):

    code(v) = the first k with the least |v - table[k]|^2

    variant    codes of a position                                     source
    VQModel    1: the nearest of K rows; with l2_norm, z and rows      Esser et al., CVPR 2021;
               are divided by their length first                       Yu et al., 2022 (l2_norm)
    EMAVQ      the same; the file also holds the averages of training  van den Oord, appendix A
    RVQ        D: each level codes what the levels before left over    Lee et al., CVPR 2022
    PQEMAVQ    D: slice s of the channels has its own table s          Jegou et al., TPAMI 2011
    GumbelVQ   1: a 1x1 convolution scores all rows, the best is it    Jang et al., ICLR 2017
    IBQ        1: the row with the largest product z·row, of whatever  Shi et al., 2024
               length: with z = [2, 1] and the rows [2, 1], [9, 0] it
               is 18 against 5, and the second is taken
    LFQ BSQ    1, without a table: see dcvc.intra.vqgan.digits
    FSQ
    VAR        1 at each position of each scale: dcvc.intra.vqgan.multiscale

Residual levels by example, one channel, D = 3, table [-4, -1, 0, 2], v = 5:

    level 0    5 is nearest to 2: code 3, left over 3
    level 1    3 is nearest to 2: code 3, left over 1
    level 2    1 is as near to 0 as to 2, the first wins: code 2, left over 1
    looked up  2 + 2 + 0 = 4

Every quantizer has `indices(z)`: `(B, E, h, w)` -> codes, int64 `(B, D, h, w)` in [0, K);
`lookup(indices, grid)`: the reverse, by table only, so that encoder and decoder see the same latent
(grid: its h and w, where the codes do not tell); `shape(grid)`: the shape (D, h, w) of its codes;
and `tables()`: `(D, K, e)`, the rows that a code of each level can stand for, or of codes that have
digits a list with a table `(K_p, e_p)` for each group p of them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.intra.vqgan.codebooks import (
    DISTANCES_AT_ONCE,
    EMACodebook,
    Grid,
    Quantizer,
    code_map,
    code_rows,
    nearest_codes,
)
from dcvc.intra.vqgan.digits import BinaryQuantizer, FiniteScalarQuantizer
from dcvc.intra.vqgan.dimensions import VQGANConfig
from dcvc.intra.vqgan.multiscale import MultiScaleQuantizer


class VectorQuantizer(Quantizer):
    """One table, `embedding`. With l2_norm the rows of length 1 are also what is decoded."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.l2_norm = config.l2_norm
        self.embedding = self._table(config)

    @staticmethod
    def _table(config: VQGANConfig) -> nn.Module:
        table = nn.Embedding(config.n_embed, config.embed_dim)
        nn.init.uniform_(table.weight, -1.0 / config.n_embed, 1.0 / config.n_embed)
        return table

    def codebook(self) -> Tensor:
        return F.normalize(self.embedding.weight, dim=-1) if self.l2_norm else self.embedding.weight

    def tables(self) -> Tensor:
        return self.codebook().detach()[None]

    def indices(self, z: Tensor) -> Tensor:
        rows = code_rows(F.normalize(z, dim=1) if self.l2_norm else z)
        return nearest_codes(rows, self.codebook()).view(z.shape[0], 1, *z.shape[-2:])

    def lookup(self, indices: Tensor, grid: Grid = None) -> Tensor:
        return code_map(self.codebook()[indices[:, 0]], indices[:, 0])


class ProductScoreQuantizer(VectorQuantizer):
    """The same table; the largest product decides, so long rows are chosen more often."""

    def indices(self, z: Tensor) -> Tensor:
        codes = nearest_codes(code_rows(z), self.codebook(), by_product=True)
        return codes.view(z.shape[0], 1, *z.shape[-2:])


class EMAVectorQuantizer(VectorQuantizer):
    """The same table with running averages in the file."""

    @staticmethod
    def _table(config: VQGANConfig) -> nn.Module:
        return EMACodebook(config.n_embed, config.embed_dim)


class ResidualQuantizer(EMAVectorQuantizer):
    """D levels over one shared table."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__(config)
        self.levels = config.levels

    def tables(self) -> Tensor:
        # One table seen D times, not copied.
        return super().tables().expand(self.levels, -1, -1)

    def indices(self, z: Tensor) -> Tensor:
        residual, codes = code_rows(z), []
        for _ in range(self.levels):
            codes.append(nearest_codes(residual, self.codebook()))
            residual = residual - self.codebook()[codes[-1]]
        return torch.stack([code.view(z.shape[0], *z.shape[-2:]) for code in codes], dim=1)

    def lookup(self, indices: Tensor, grid: Grid = None) -> Tensor:
        # Level by level on both sides: in another order the last bit of a sum can differ.
        total = self.codebook()[indices[:, 0]]
        for level in range(1, self.levels):
            total = total + self.codebook()[indices[:, level]]
        return code_map(total, indices[:, 0])


class ProductQuantizer(Quantizer):
    """D tables, each for its own slice of E / D channels."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.levels = config.levels
        dim = config.embed_dim // config.levels
        self.codebooks = nn.ModuleList(EMACodebook(config.n_embed, dim)
                                       for _ in range(config.levels))

    def tables(self) -> Tensor:
        return torch.stack([book.weight.detach() for book in self.codebooks])

    def indices(self, z: Tensor) -> Tensor:
        slices = zip(z.chunk(len(self.codebooks), dim=1), self.codebooks, strict=True)
        codes = [nearest_codes(code_rows(part), book.weight).view(z.shape[0], *z.shape[-2:])
                 for part, book in slices]
        return torch.stack(codes, dim=1)

    def lookup(self, indices: Tensor, grid: Grid = None) -> Tensor:
        slices = [code_map(book.weight[indices[:, s]], indices[:, s])
                  for s, book in enumerate(self.codebooks)]
        return torch.cat(slices, dim=1)


class GumbelQuantizer(Quantizer):
    """The best score is taken: drawing at random by the scores serves training only."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(config.embed_dim, config.n_embed, 1)
        self.embed = nn.Embedding(config.n_embed, config.embed_dim)

    def tables(self) -> Tensor:
        return self.embed.weight.detach()[None]

    def indices(self, z: Tensor) -> Tensor:
        # Row strips: the scores of a whole large frame would take K floats per position.
        rows = max(1, DISTANCES_AT_ONCE // (self.embed.num_embeddings * z.shape[0] * z.shape[-1]))
        strips = [self.proj(strip).argmax(1, keepdim=True) for strip in z.split(rows, dim=2)]
        return torch.cat(strips, dim=2)

    def lookup(self, indices: Tensor, grid: Grid = None) -> Tensor:
        return code_map(self.embed.weight[indices[:, 0]], indices[:, 0])


QUANTIZERS: dict[str, type[nn.Module]] = {
    "VQModel": VectorQuantizer,
    "EMAVQ": EMAVectorQuantizer,
    "RVQ": ResidualQuantizer,
    "PQEMAVQ": ProductQuantizer,
    "GumbelVQ": GumbelQuantizer,
    "IBQ": ProductScoreQuantizer,
    "LFQ": BinaryQuantizer,
    "BSQ": BinaryQuantizer,
    "FSQ": FiniteScalarQuantizer,
    "VAR": MultiScaleQuantizer,
}
