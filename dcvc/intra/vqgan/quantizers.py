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

Residual levels by example, one channel, D = 3, table [-4, -1, 0, 2], v = 5:

    level 0    5 is nearest to 2: code 3, left over 3
    level 1    3 is nearest to 2: code 3, left over 1
    level 2    1 is as near to 0 as to 2, the first wins: code 2, left over 1
    looked up  2 + 2 + 0 = 4

Every quantizer has `indices(z)`: `(B, E, h, w)` -> codes, int64 `(B, D, h, w)` in [0, K);
`lookup(indices)`: the reverse, by table only, so that encoder and decoder see the same latent; and
`tables()`: `(D, K, e)`, the rows that a code of each level can stand for.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.intra.vqgan.config import VQGANConfig

# Elements of a matrix of distances that are held in memory at a time: 64 MiB of floats.
DISTANCES_AT_ONCE = 1 << 24


def nearest_codes(vectors: Tensor, codebook: Tensor) -> Tensor:
    """The nearest row of codebook `(K, e)` for each of vectors `(n, e)`, int64 `(n,)`."""
    # |v - c|^2 = |v|^2 - 2 v·c + |c|^2; |v|^2 is the same for all rows: |c|^2 / 2 - v·c decides.
    half_norms = codebook.square().sum(1) / 2
    rows = max(1, DISTANCES_AT_ONCE // len(codebook))
    nearest = [torch.addmm(half_norms, part, codebook.T, alpha=-1).argmin(1)
               for part in vectors.split(rows)]
    # Equal rows stand for the first of them, whatever order the matrix product rounds in.
    return _first_equal_rows(codebook)[torch.cat(nearest)]


def _first_equal_rows(codebook: Tensor) -> Tensor:
    """For each row the first row that equals it, int64 `(K,)`."""
    # On the CPU: not every device can sort rows.
    _, inverse = torch.unique(codebook.detach().cpu(), dim=0, return_inverse=True)
    order = torch.arange(len(codebook))
    first = torch.full_like(order, len(codebook)).scatter_reduce(0, inverse, order, "amin")
    return first[inverse].to(codebook.device)


def _rows(z: Tensor) -> Tensor:
    """`(B, e, h, w)` -> `(B·h·w, e)`."""
    return z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])


def _image(rows: Tensor, like: Tensor) -> Tensor:
    """`(B·h·w, e)` -> `(B, e, h, w)` with the sizes of `like` `(B, h, w)`."""
    return rows.view(*like.shape, -1).permute(0, 3, 1, 2).contiguous()


class EMACodebook(nn.Module):
    """A codebook with the running averages it is trained by (van den Oord, appendix A).

    cluster_size: how often each code is chosen, on average. embed_avg: the sum of the vectors that
    choose it. Their quotient is the weight.
    """

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size, dim) / dim**0.5, requires_grad=False)
        # Sizes that start at 0 would make the first update spoil every code that nothing chose.
        self.register_buffer("cluster_size", torch.ones(size))
        self.register_buffer("embed_avg", self.weight.detach().clone())


class VectorQuantizer(nn.Module):
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
        rows = _rows(F.normalize(z, dim=1) if self.l2_norm else z)
        return nearest_codes(rows, self.codebook()).view(z.shape[0], 1, *z.shape[-2:])

    def lookup(self, indices: Tensor) -> Tensor:
        return _image(self.codebook()[indices[:, 0]], indices[:, 0])


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
        residual, codes = _rows(z), []
        for _ in range(self.levels):
            codes.append(nearest_codes(residual, self.codebook()))
            residual = residual - self.codebook()[codes[-1]]
        return torch.stack([code.view(z.shape[0], *z.shape[-2:]) for code in codes], dim=1)

    def lookup(self, indices: Tensor) -> Tensor:
        # Level by level on both sides: in another order the last bit of a sum can differ.
        total = self.codebook()[indices[:, 0]]
        for level in range(1, self.levels):
            total = total + self.codebook()[indices[:, level]]
        return _image(total, indices[:, 0])


class ProductQuantizer(nn.Module):
    """D tables, each for its own slice of E / D channels."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        dim = config.embed_dim // config.levels
        self.codebooks = nn.ModuleList(EMACodebook(config.n_embed, dim)
                                       for _ in range(config.levels))

    def tables(self) -> Tensor:
        return torch.stack([book.weight.detach() for book in self.codebooks])

    def indices(self, z: Tensor) -> Tensor:
        slices = zip(z.chunk(len(self.codebooks), dim=1), self.codebooks, strict=True)
        codes = [nearest_codes(_rows(part), book.weight).view(z.shape[0], *z.shape[-2:])
                 for part, book in slices]
        return torch.stack(codes, dim=1)

    def lookup(self, indices: Tensor) -> Tensor:
        slices = [_image(book.weight[indices[:, s]], indices[:, s])
                  for s, book in enumerate(self.codebooks)]
        return torch.cat(slices, dim=1)


class GumbelQuantizer(nn.Module):
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

    def lookup(self, indices: Tensor) -> Tensor:
        return _image(self.embed.weight[indices[:, 0]], indices[:, 0])


QUANTIZERS: dict[str, type[nn.Module]] = {
    "VQModel": VectorQuantizer,
    "EMAVQ": EMAVectorQuantizer,
    "RVQ": ResidualQuantizer,
    "PQEMAVQ": ProductQuantizer,
    "GumbelVQ": GumbelQuantizer,
}
