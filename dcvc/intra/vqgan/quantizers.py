"""Quantizers of a VQGAN: latent -> codes, codes -> latent. One small class each, the entry names of published files.

Every quantizer has `indices(z)`: `(B, E, h, w)` -> int64 `(B, D, h, w)` with values in [0, K), and `lookup(indices)`:
the reverse, by table only, so that encoder and decoder see the same latent. `tables()` gives `(D, K, e)`.
The nearest code is by squared L2 distance, the first minimum wins.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.intra.vqgan.config import VQGANConfig

DISTANCES_AT_ONCE = 1 << 24                                  # elements of the distance matrix held in memory


def nearest_codes(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest row of codebook (K, e) for each of vectors (n, e), int64 (n,)."""
    # |v - c|^2 without |v|^2, which is the same for all rows. Equal rows stand for the first of them, whatever order
    # the matrix product rounds in.
    half_norms = codebook.square().sum(1) / 2
    rows = max(1, DISTANCES_AT_ONCE // len(codebook))
    found = [torch.addmm(half_norms, part, codebook.T, alpha=-1).argmin(1) for part in vectors.split(rows)]
    return _first_equal_rows(codebook)[torch.cat(found)]


def _first_equal_rows(codebook: Tensor) -> Tensor:
    """For each row the first row that equals it, int64 (K,). Found on the CPU: not every device sorts rows."""
    _, inverse = torch.unique(codebook.detach().cpu(), dim=0, return_inverse=True)
    order = torch.arange(len(codebook))
    first = torch.full_like(order, len(codebook)).scatter_reduce(0, inverse, order, "amin")
    return first[inverse].to(codebook.device)


def _rows(z: Tensor) -> Tensor:
    """(B, e, h, w) -> (B·h·w, e)."""
    return z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])


def _image(rows: Tensor, like: Tensor) -> Tensor:
    """(B·h·w, e) -> (B, e, h, w) with the sizes of `like` (B, h, w)."""
    return rows.view(*like.shape, -1).permute(0, 3, 1, 2).contiguous()


class EMACodebook(nn.Module):
    """A codebook with the running averages it is trained by (van den Oord et al., 2017, appendix A)."""

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size, dim) / dim**0.5, requires_grad=False)
        # Sizes that start at 0 would make the first update collapse every code that was not drawn.
        self.register_buffer("cluster_size", torch.ones(size))
        self.register_buffer("embed_avg", self.weight.detach().clone())


class VectorQuantizer(nn.Module):
    """Plain table `embedding`; with l2_norm both sides are normalised and the normalised entries are decoded."""

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
    """D levels over one shared table: each quantizes what the levels before left over."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__(config)
        self.levels = config.levels

    def tables(self) -> Tensor:
        return super().tables().expand(self.levels, -1, -1)

    def indices(self, z: Tensor) -> Tensor:
        residual, codes = _rows(z), []
        for _ in range(self.levels):
            codes.append(nearest_codes(residual, self.codebook()))
            residual = residual - self.codebook()[codes[-1]]
        return torch.stack([code.view(z.shape[0], *z.shape[-2:]) for code in codes], dim=1)

    def lookup(self, indices: Tensor) -> Tensor:
        total = self.codebook()[indices[:, 0]]
        for level in range(1, self.levels):
            total = total + self.codebook()[indices[:, level]]
        return _image(total, indices[:, 0])


class ProductQuantizer(nn.Module):
    """S tables, each over its own slice of the channels."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        dim = config.embed_dim // config.levels
        self.codebooks = nn.ModuleList(EMACodebook(config.n_embed, dim) for _ in range(config.levels))

    def tables(self) -> Tensor:
        return torch.stack([book.weight.detach() for book in self.codebooks])

    def indices(self, z: Tensor) -> Tensor:
        slices = zip(z.chunk(len(self.codebooks), dim=1), self.codebooks, strict=True)
        codes = [nearest_codes(_rows(part), book.weight).view(z.shape[0], *z.shape[-2:]) for part, book in slices]
        return torch.stack(codes, dim=1)

    def lookup(self, indices: Tensor) -> Tensor:
        slices = [_image(book.weight[indices[:, s]], indices[:, s]) for s, book in enumerate(self.codebooks)]
        return torch.cat(slices, dim=1)


class GumbelQuantizer(nn.Module):
    """A 1x1 convolution scores every code; the best one is taken. (Sampling serves training only.)"""

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
    "VQModel": VectorQuantizer, "EMAVQ": EMAVectorQuantizer, "RVQ": ResidualQuantizer, "PQEMAVQ": ProductQuantizer,
    "GumbelVQ": GumbelQuantizer,
}
