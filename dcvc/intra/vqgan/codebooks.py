"""Tables of vectors: the row that stands for a vector, and rows as maps and back."""

import torch
from torch import Tensor, nn

# Elements of a matrix of distances that are held in memory at a time: 64 MiB of floats.
DISTANCES_AT_ONCE = 1 << 24
# Equal rows are looked for by so many columns first, which this number mixes into one.
COLUMNS, MIXER = 8, 0.7390851332151607
# (h, w) of a latent, where it is known.
Grid = tuple[int, int] | None


class Quantizer(nn.Module):
    """What all of them have in common. levels: D."""

    levels = 1

    def shape(self, grid: tuple[int, int]) -> tuple[int, int, int]:
        return (self.levels, *grid)


def nearest_codes(vectors: Tensor, codebook: Tensor, by_product: bool = False) -> Tensor:
    """The nearest row of codebook `(K, e)` for each of vectors `(n, e)`, int64 `(n,)`.

    by_product: the row with the largest product v·c instead.
    """
    # |v - c|^2 = |v|^2 - 2 v·c + |c|^2; |v|^2 is the same for all rows: |c|^2 / 2 - v·c decides.
    half_norms = codebook.square().sum(1) / 2
    if by_product:
        half_norms = torch.zeros_like(half_norms)
    rows = max(1, DISTANCES_AT_ONCE // len(codebook))
    nearest = [torch.addmm(half_norms, part, codebook.T, alpha=-1).argmin(1)
               for part in vectors.split(rows)]
    # Equal rows stand for the first of them, whatever order the matrix product rounds in.
    return _first_equal_rows(codebook)[torch.cat(nearest)]


def _first_equal_rows(codebook: Tensor) -> Tensor:
    """For each row the first row that equals it, int64 `(K,)`."""
    # On the CPU: not every device can sort rows.
    rows = codebook.detach().cpu()
    first = torch.arange(len(rows))
    # Sorting whole rows takes a second for 2^18 of them, at every frame. Rows that are equal agree
    # in a few columns, and hardly any others do: only those are sorted as a whole.
    number = torch.zeros(len(rows), dtype=rows.dtype)
    for column in range(0, rows.shape[1], max(1, rows.shape[1] // COLUMNS)):
        number = number * MIXER + rows[:, column]
    _, inverse, counts = torch.unique(number, return_inverse=True, return_counts=True)
    suspects = torch.nonzero(counts[inverse] > 1)[:, 0]
    if len(suspects):
        _, inverse = torch.unique(rows[suspects], dim=0, return_inverse=True)
        lowest = torch.full_like(suspects, len(rows)).scatter_reduce(0, inverse, suspects, "amin")
        first[suspects] = lowest[inverse]
    return first.to(codebook.device)


def code_rows(z: Tensor) -> Tensor:
    """`(B, e, h, w)` -> `(B·h·w, e)`."""
    return z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])


def code_map(rows: Tensor, like: Tensor) -> Tensor:
    """`(B·h·w, e)` -> `(B, e, h, w)` with the sizes of `like` `(B, h, w)`."""
    return rows.view(*like.shape, -1).permute(0, 3, 1, 2).contiguous()


class EMACodebook(nn.Module):
    """A codebook with the running averages it is trained by (van den Oord, appendix A).

    cluster_size: how often each code is chosen, on average. embed_avg: the sum of the vectors that
    choose it. Their quotient is the weight.
    """

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        # In place: on the device "meta", where files are compared with what is needed, another
        # operation would load torch's compiler first, which takes seconds.
        start = torch.randn(size, dim).div_(dim**0.5)
        self.weight = nn.Parameter(start, requires_grad=False)
        # Sizes that start at 0 would make the first update spoil every code that nothing chose.
        self.register_buffer("cluster_size", torch.ones(size))
        self.register_buffer("embed_avg", self.weight.detach().clone())
