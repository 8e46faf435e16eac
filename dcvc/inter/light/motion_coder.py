"""The small learned model of motion vectors, the rate term "mv".

Vectors of 16x16 blocks go from coarse to fine, each step in between what is known:

    0 . . . 0        0  first, from the frame before
    . 2 . 2 .        1  from its four neighbours on the diagonals (here the 1 between four 0)
    . . 1 . .        then at half the distance from those left, right, above and below,
    . 2 . 2 .           and so on: 2 again from diagonals ...
    0 . . . 0

All vectors of a step are coded at once. The prediction is the mean of the middle two of the four
neighbours; what is coded is the difference, by a table that is chosen by how much the neighbours
disagree, how far off the frame before would have been, and, for dx, by the difference of dy. Then a
bit for each 16x16 block tells whether its four 8x8 blocks differ; if so three of them follow.

For example all neighbours (0, 4) and (0, 4) in the frame before: the prediction is (0, 4), the
disagreement 0, and a difference of (0, 0) costs a few hundredths of a bit.

A table is a mixture of zero and two discrete Laplace distributions; their weights and widths are
learned. Everything that chooses a table is integer arithmetic on decoded vectors: no float decides
how a stream is read.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.entropy.coder import FrequencyTable, SymbolDecoder, SymbolEncoder, TableSet
from dcvc.entropy.tables import tables_crc
from dcvc.inter.light.motion_order import CONTEXTS, LARGEST_DIFFERENCE
from dcvc.inter.light.motion_walk import Reader, symbols_of, tally
from dcvc.layers import MadeOfWeights

# Parameters are learned as fast as the networks' weights, whose steps are small.
PACE = 10.0

# Where training begins, fitted to the vectors that the search finds on training clips at qualities
# 8, 32 and 56: logits of zero, narrow and wide, logarithms of the two widths in quarter pixels;
# what each class adds to the logit of zero and to the narrow width; logits of a split by spread.
START = (2.5, 1.7, -0.8, 1.1, 3.7)
BY_SPREAD = ((1.5, -0.6), (-0.1, -1.2), (-0.1, -0.5), (-0.4, 0.1), (-0.7, 1.6), (-1.3, 0.4))
BY_DISTANCE = ((0.6, -0.1), (-0.8, -0.2), (-1.0, 0.5), (-0.2, 0.0))
BY_FIRST = ((0.3, 0.0), (1.1, -0.1), (-1.1, -0.1), (-1.6, 0.7))
SPLITS = (-4.9, -3.1, -2.2, -1.2, -0.6)


class MotionCoder(nn.Module):
    """Vectors are int32 (B, 2, h, w), (dy, dx) in quarter pixels for blocks of 8x8, h and w even.
    previous: those of the frame before, or None."""

    def __init__(self) -> None:
        super().__init__()
        # Five numbers for each context, and the logit of a split for each spread.
        table = torch.tensor(START).repeat(CONTEXTS, 1).view(
            len(BY_SPREAD), len(BY_DISTANCE), len(BY_FIRST), len(START))
        for axis, added in enumerate((BY_SPREAD, BY_DISTANCE, BY_FIRST)):
            shape = [len(added) if axis == other else 1 for other in range(3)]
            table[..., [0, 3]] += torch.tensor(added).view(*shape, 2)
        self.table = nn.Parameter(table.view(CONTEXTS, -1) / PACE)
        self.split = nn.Parameter(torch.tensor(SPLITS) / PACE)
        self._made: MadeOfWeights[tuple[TableSet, TableSet]] = MadeOfWeights()

    def bits(self, vectors: Tensor, previous: Tensor | None) -> Tensor:
        """Total bits, 0-dim float32, differentiable in the model's parameters."""
        device = self.table.device
        # Vectors come from a search on the CPU, and counting them needs no gradients.
        found = tally(*(None if x is None else x.cpu().numpy() for x in (vectors, previous)))
        sizes, contexts, counts = torch.from_numpy(found.differences).to(device)
        bits = -(self._log2_mixture(self.table)(sizes, contexts) * counts).sum()
        # Cost of an unset and of a set flag: -log2 of a sigmoid.
        flags = F.softplus(torch.stack((self.split, -self.split)) * PACE) / np.log(2)
        return bits + (flags * torch.from_numpy(found.flags).to(device)).sum()

    @torch.no_grad()
    def stream_bits(self, vectors: Tensor, previous: Tensor | None) -> Tensor:
        """Total bits as the integer tables count them, 0-dim float32."""
        return self.push(vectors, previous, None)

    @torch.no_grad()
    def push(self, vectors: Tensor, previous: Tensor | None,
             encoder: SymbolEncoder | None) -> Tensor:
        """What `stream_bits` gives, of vectors that an encoder takes."""
        cost, (differences, flags) = 0.0, self._tables()
        before = [None] * len(vectors) if previous is None else previous.cpu().numpy()
        for sample, known in zip(vectors.cpu().numpy(), before, strict=True):
            for tables, (symbols, contexts, counts) in zip(
                    (differences, flags, differences), symbols_of(sample, known), strict=True):
                cost += tables.bits(symbols, contexts)
                if encoder is not None:
                    encoder.push(symbols, tables, contexts, counts)
        return torch.tensor(cost, device=vectors.device)

    @torch.no_grad()
    def pop(self, shape: tuple[int, ...], previous: Tensor | None,
            decoder: SymbolDecoder) -> tuple[Tensor, float]:
        """-> vectors (1, 2, h, w) and what they cost. Raises BitstreamError for vectors that no
        encoder writes."""
        reader = Reader(decoder, *self._tables())
        known = None if previous is None else previous[0].cpu().numpy()
        vectors = torch.from_numpy(reader.vectors(*shape[2:], known))[None]
        return vectors.to(self.table.device), reader.cost

    def _log2_mixture(self, table: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """differences, contexts of any shape -> log2 of their probabilities."""
        weights = F.log_softmax(table[:, :3] * PACE, dim=1)
        # theta = exp(-1 / width); mass of k: (1 - theta) / (1 + theta) theta^|k|.
        rate = torch.exp(-table[:, 3:] * PACE)
        scale = torch.log(torch.tanh(rate / 2))
        # Together, as each choice of rows has a slow way back for its gradients.
        parts = torch.cat((weights[:, :1], weights[:, 1:] + scale, rate), dim=1)

        def log2(difference: Tensor, context: Tensor) -> Tensor:
            k = difference.abs()[..., None].to(table.dtype)
            only_zero, sides, slope = parts[context].split((1, 2, 2), dim=-1)
            # Zero is in all three parts of the mixture, any other difference in two.
            zero = torch.where(k == 0, only_zero, float("-inf"))
            return torch.logsumexp(torch.cat((zero, sides - slope * k), dim=-1), dim=-1) / np.log(2)
        return log2

    def _tables(self) -> tuple[TableSet, TableSet]:
        """Of differences and of flags."""
        return self._made.get(self.parameters, self._make_tables)

    @torch.no_grad()
    def _make_tables(self) -> tuple[TableSet, TableSet]:
        log2 = self._log2_mixture(self.table.detach().double().cpu())
        reach = torch.arange(-LARGEST_DIFFERENCE, LARGEST_DIFFERENCE + 1)
        context = torch.arange(CONTEXTS)[:, None].expand(-1, len(reach))
        masses = torch.exp2(log2(reach.expand(CONTEXTS, -1), context)).numpy()
        rest = np.maximum(1 - masses.sum(1, keepdims=True), 0)
        differences = TableSet(
            FrequencyTable.from_probabilities(row, first=-LARGEST_DIFFERENCE, escape=True)
            for row in np.concatenate((masses, rest), axis=1))
        share = torch.sigmoid(self.split.double().cpu() * PACE).numpy()
        return differences, TableSet(
            FrequencyTable.from_probabilities(np.array([1 - p, p])) for p in share)

    @property
    def crc(self) -> int:
        return tables_crc(*self._tables())
