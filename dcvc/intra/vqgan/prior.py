"""A learned prior: a network that tells how likely each code is, from the codes around it.

**What a code may see.** The grid is coded in five passes, from coarse to fine. The positions of one
pass see all the passes before it and nothing of their own, so they are computed at once:

    0 4 2 4 0 4 2 4      pass 0   every 4th position      sees nothing
    4 3 4 3 4 3 4 3      pass 1   the centres of those    sees 0
    2 4 1 4 2 4 1 4      pass 2   between 0 and 1         sees 0, 1
    4 3 4 3 4 3 4 3      pass 3   the centres again       sees 0, 1, 2
    0 4 2 4 0 4 2 4      pass 4   all that is left        sees 0, 1, 2, 3

Half of all codes come in pass 4, with their four nearest neighbours known. Of what it may see, a
position takes the NEIGHBOURS nearest.

**How a code is predicted.** A code is a group of alike codes and a place in that group, so that
K = 16384 costs two tables of 128 and not one of 16384:

    embeddings of the neighbours -> `gather`, `blocks` -> state of the position
    state -> head "group" -> table of groups -> the group is coded
    state + group -> head "place" -> table of places in it -> the place is coded
    with D levels: state + code -> head "group" of the next level ...

**Why both sides compute the same.** One table that differs in one bit loses the stream. `_walk` is
the one function that encoder, decoder and estimate run, on the CPU, and its matrix products are
exact. float64 holds fixed-point numbers there: weights and inputs are multiples of 2^-16, and small
enough that no partial sum needs more than 53 bits. So neither the order of summation nor the number
of threads nor the machine can change a score. Example: 0.5 * 3 + 0.25 * 5 = 2.75 is exact in any
order, 0.1 * 3 + 0.7 * 5 is rounded at every step.

**From scores to tables.** A score is rounded to 1/16 bit. d steps below the best one it weighs
2^(20 - d/16), rounded to a whole number of at least 1: 0, 16 and 160 steps below the best give the
weights 1048576, 524288 and 1024.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.entropy.categorical import TableDecoder, TableEncoder, table_bits
from dcvc.errors import InputError
from dcvc.weights import check_finite

# Steps of a score per bit, and how many bits the least weight of a table is below the greatest.
GRID = 16
DEPTH = 20
# The weight of a symbol by how many steps it is below the best one.
WEIGHTS = np.array([max(1, round(2 ** (DEPTH - step / GRID)))
                    for step in range(DEPTH * GRID + 1)], dtype=np.float32)
# Codebooks up to this size need no groups.
UNSPLIT = 256
PASSES = 5
NEIGHBOURS = 24
# Weights and inputs of layers are multiples of UNIT, so products are multiples of UNIT^2; sums of
# those are exact in float64 while they stay below LARGEST_SUM.
UNIT = 2.0**-16
LARGEST_INPUT = 2.0**8
LARGEST_SUM = 2.0**53 * UNIT**2
# Rows and columns (n,) of the positions of one pass.
Positions = tuple[np.ndarray, np.ndarray]
# (tables (n, k), level, "group" or "place", positions) -> the symbols (n,) that are coded there.
Exchange = Callable[[np.ndarray, int, str, Positions], np.ndarray]


@dataclass(frozen=True)
class PriorConfig:
    """Sizes of the network.

    levels: D. codes: K. channels: of a code's embedding. hidden: of a position's state. blocks: how
    many residual layers follow the gathering of the neighbours.
    """

    levels: int
    codes: int
    channels: int = 32
    hidden: int = 192
    blocks: int = 2


def pass_of(height: int, width: int) -> np.ndarray:
    """The pass `(h, w)` in which each position is coded."""
    y, x = np.indices((height, width))
    order = np.full((height, width), 4)
    order[(y % 2 == 1) & (x % 2 == 1)] = 3
    order[(y % 2 == 0) & (x % 2 == 0)] = 2
    order[(y % 4 == 2) & (x % 4 == 2)] = 1
    order[(y % 4 == 0) & (x % 4 == 0)] = 0
    return order


def split_codes(codebook: np.ndarray) -> np.ndarray:
    """A codebook `(K, e)` -> its groups of alike codes: table `(G, M)`, -1 where a group has fewer.

    Every group is cut in two halves of equal size across its longest axis, until there are
    G = 2^round(log2(K) / 2) groups: for K = 16384, 128 groups of 128.
    """
    codes = len(codebook)
    if codes <= UNSPLIT:
        return np.arange(codes)[:, None]
    parts = [np.arange(codes)]
    for _ in range(round(np.log2(codes) / 2)):
        halves = []
        for part in parts:
            centred = codebook[part] - codebook[part].mean(0)
            # The longest axis: the direction in which the group's codes differ most.
            axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
            order = part[np.argsort(centred @ axis, kind="stable")]
            middle = (len(order) + 1) // 2
            halves += [order[:middle], order[middle:]]
        parts = halves
    table = np.full((len(parts), max(map(len, parts))), -1)
    for row, part in zip(table, parts, strict=True):
        row[:len(part)] = part
    return table


def neighbours_of(number: int) -> np.ndarray:
    """Offsets `(NEIGHBOURS, 2)`, rows and columns, to the nearest positions of earlier passes."""
    # A grid so large that no offset reaches its border from a position in its middle.
    reach = 16
    order = pass_of(4 * reach, 4 * reach)
    middle = range(2 * reach, 2 * reach + 4)
    y, x = next((y, x) for y in middle for x in middle if order[y, x] == number)
    known = np.argwhere(order < number) - (y, x)
    # By distance, then by row and column: one order on every machine.
    nearest = np.lexsort((known[:, 1], known[:, 0], (known**2).sum(1)))
    return known[nearest[:NEIGHBOURS]]


NOTHING = np.zeros((0, 2), dtype=np.int64)
OFFSETS = [NOTHING, *(neighbours_of(number) for number in range(1, PASSES))]
REACH = max(int(np.abs(offsets).max()) for offsets in OFFSETS[1:])


class FixedPointLinear(nn.Linear):
    """A linear layer. With `exact`, its input is rounded to fixed point: the product is exact."""

    exact = False

    def forward(self, x: Tensor) -> Tensor:
        if self.exact:
            x = (x / UNIT).round_().mul_(UNIT).clamp_(-LARGEST_INPUT, LARGEST_INPUT)
        return super().forward(x)

    def make_exact(self) -> None:
        """Raises InputError where the weights are so large that sums could need rounding."""
        self.exact = True
        sums = self.weight.abs().sum(1) * LARGEST_INPUT
        largest = float((sums if self.bias is None else sums + self.bias.abs()).max())
        if largest >= LARGEST_SUM:
            raise InputError(f"learned prior: sums of up to {largest:.3g}, needed below "
                             f"{LARGEST_SUM:.3g}; train it again with a lower learning rate")


class CodePrior(nn.Module):
    """The network. Codes are int64 `(B, D, h, w)`."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        levels, codes = config.levels, config.codes
        channels, wide = config.channels, config.hidden
        groups = 2 ** round(np.log2(codes) / 2) if codes > UNSPLIT else codes
        members = -(-codes // groups) if codes > UNSPLIT else 1
        # (D, G, M): the code of each place; (D, K): group and place of each code.
        self.register_buffer("code_at", torch.zeros(levels, groups, members, dtype=torch.int64))
        self.register_buffer("group_of", torch.zeros(levels, codes, dtype=torch.int64))
        self.register_buffer("place_of", torch.zeros(levels, codes, dtype=torch.int64))
        self.embed = nn.Parameter(torch.randn(levels, codes, channels) * 0.3)
        self.group_state = nn.Parameter(torch.zeros(levels, groups, wide))
        self.code_state = FixedPointLinear(channels, wide, bias=False)
        # The state of all positions of pass 0, which knows nothing.
        self.first = nn.Parameter(torch.zeros(wide))
        # One layer a pass: the neighbours lie elsewhere in each. One more input for each neighbour
        # says whether it is inside the grid.
        self.gather = nn.ModuleList(FixedPointLinear(NEIGHBOURS * (channels + 1), wide)
                                    for _ in range(PASSES - 1))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.ReLU(), FixedPointLinear(wide, wide),
                          nn.ReLU(), FixedPointLinear(wide, wide))
            for _ in range(config.blocks))
        sizes = {"group": groups, "place": members}
        self.hidden = nn.ModuleDict({
            kind: nn.ModuleList(FixedPointLinear(wide, wide) for _ in range(levels))
            for kind in sizes})
        self.out = nn.ModuleDict({
            kind: nn.ModuleList(FixedPointLinear(wide, size) for _ in range(levels))
            for kind, size in sizes.items()})

    @torch.no_grad()
    def set_codebooks(self, tables: Sequence[Tensor]) -> None:
        """Make the groups, and start the embeddings on a random projection of the codebooks.

        tables: `(K, e)` for each level, as a quantizer's `tables()` gives them; where they have
        different sizes, K is at most UNSPLIT.
        """
        for level, table in enumerate(tables):
            table = table.cpu().double().numpy()
            places = split_codes(table)
            # Levels may have fewer codes than others: what is left is no code.
            self.code_at[level] = -1
            self.code_at[level, :len(places), :places.shape[1]] = torch.from_numpy(places)
            group, place = np.nonzero(places >= 0)
            self.group_of[level, places[group, place]] = torch.from_numpy(group)
            self.place_of[level, places[group, place]] = torch.from_numpy(place)
            generator = torch.Generator().manual_seed(level)
            projection = torch.randn(table.shape[1], self.config.channels, generator=generator)
            scaled = table / max(table.std(), 1e-9) / table.shape[1] ** 0.5
            self.embed[level, :len(table)] = 0.3 * (torch.from_numpy(scaled).float() @ projection)

    @property
    def split(self) -> bool:
        return self.code_at.shape[2] > 1

    def valid_groups(self, level: int) -> Tensor | None:
        """bool `(G,)`: which groups hold a code at this level; None where all do."""
        valid = self.code_at[level, :, 0] >= 0
        return None if bool(valid.all()) else valid

    def states(self, number: int, context: Tensor, at: tuple[Tensor, ...]) -> Tensor:
        """The states `(n, hidden)` of n positions of a pass.

        context: `(B, h + 2 REACH, w + 2 REACH, channels + 1)`, embeddings of known codes, summed
        over the levels, and a 1 where they are known. at: batch, row and column of the positions.
        """
        if number == 0:
            return self.first.expand(len(at[0]), -1)
        # The context has a border of REACH zeros, so that no offset leaves it.
        offsets = torch.from_numpy(OFFSETS[number] + REACH).to(context.device)
        batch, rows, columns = (index[:, None] for index in at)
        near = context[batch, rows + offsets[:, 0], columns + offsets[:, 1]].flatten(1)
        state = self.gather[number - 1](near)
        for block in self.blocks:
            state = state + block(state)
        return state

    def logits(self, kind: str, level: int, state: Tensor) -> Tensor:
        """state `(n, hidden)` -> scores `(n, G)` of groups or `(n, M)` of places."""
        return self.out[kind][level](F.relu(self.hidden[kind][level](state)))

    def loss(self, codes: Tensor) -> Tensor:
        """Mean bits per code of a batch `(B, D, h, w)`, differentiable."""
        order = torch.from_numpy(pass_of(*codes.shape[-2:])).to(codes.device)
        order = order.expand(len(codes), -1, -1)
        embedded = sum(self.embed[level][codes[:, level]] for level in range(codes.shape[1]))
        everything = torch.cat([embedded, torch.ones_like(embedded[..., :1])], dim=-1)
        everything = F.pad(everything, (0, 0) + (REACH,) * 4)
        total = 0.0
        for number in range(PASSES):
            at = torch.nonzero(order == number, as_tuple=True)
            # All codes are in the context, but the offsets of a pass lead to earlier ones only.
            state = self.states(number, everything, at)
            for level in range(codes.shape[1]):
                chosen = codes[:, level][at]
                group = self.group_of[level][chosen]
                scores = self.logits("group", level, state)
                if (valid := self.valid_groups(level)) is not None:
                    scores = scores.masked_fill(~valid, -1e4)
                total = total + F.cross_entropy(scores, group, reduction="sum")
                if self.split:
                    place = self.place_of[level][chosen]
                    scores = self.logits("place", level, state + self.group_state[level][group])
                    scores = scores.masked_fill(self.code_at[level][group] < 0, -1e4)
                    total = total + F.cross_entropy(scores, place, reduction="sum")
                state = state + self.code_state(self.embed[level][chosen])
        # Cross entropy is in natural units: log 2 of them are a bit.
        return total / codes.numel() / np.log(2)


def integer_weights(logits: Tensor, valid: Tensor | None = None) -> np.ndarray:
    """Natural-log scores `(n, k)`, float64 -> whole numbers as float32 `(n, k)` for the coder.

    valid: bool `(n, k)` or `(k,)`, False for symbols that do not occur; they get the weight 0.
    """
    steps = torch.round(logits * (GRID / np.log(2)))
    if valid is not None:
        steps = steps.masked_fill(~valid, -torch.inf)
    # Only distances to the best symbol count, which weighs 2^DEPTH whatever its score.
    below = (steps.amax(1, keepdim=True) - steps).clamp_max(DEPTH * GRID).to(torch.int64)
    weights = torch.from_numpy(WEIGHTS)[below]
    return weights.numpy() if valid is None else weights.masked_fill(~valid, 0).numpy()


class PriorRate:
    """RateModel of a trained CodePrior, which it takes over and rounds to fixed point.

    Raises InputError for weights that are not finite or too large for exact sums.
    """

    name = "prior"

    def __init__(self, network: CodePrior) -> None:
        check_finite(dict(network.named_parameters()), "learned prior")
        self.network = network.double().cpu().eval().requires_grad_(False)
        self.to_fixed_point(self.network)

    @staticmethod
    @torch.no_grad()
    def to_fixed_point(network: nn.Module) -> None:
        """Round float64 parameters to multiples of UNIT, and make the layers exact."""
        for parameter in network.parameters():
            parameter.copy_((parameter / UNIT).round_().mul_(UNIT))
        for module in network.modules():
            if isinstance(module, FixedPointLinear):
                module.make_exact()

    @torch.inference_mode()
    def _walk(self, shape: tuple[int, int, int], exchange: Exchange) -> np.ndarray:
        """Go through the codes `(D, h, w)` in coding order.

        exchange: gets the tables of n positions at once and gives the symbols that are coded there,
        from the frame (encoder) or from the stream (decoder).
        """
        network, (levels, height, width) = self.network, shape
        channels = network.config.channels
        codes = np.zeros(shape, dtype=np.int64)
        context = torch.zeros(1, height + 2 * REACH, width + 2 * REACH, channels + 1,
                              dtype=torch.float64)
        order = pass_of(height, width)
        for number in range(PASSES):
            at = np.nonzero(order == number)
            # Grids of one row have no centres.
            if not len(at[0]):
                continue
            ys, xs = (torch.from_numpy(index) for index in at)
            state = network.states(number, context, (torch.zeros_like(ys), ys, xs))
            known = torch.zeros(len(ys), channels, dtype=torch.float64)
            for level in range(levels):
                weights = integer_weights(network.logits("group", level, state),
                                          network.valid_groups(level))
                group = exchange(weights, level, "group", at)
                place = np.zeros(len(ys), dtype=np.int64)
                if network.split:
                    inside = state + network.group_state[level][group]
                    weights = integer_weights(network.logits("place", level, inside),
                                              network.code_at[level][group] >= 0)
                    place = exchange(weights, level, "place", at)
                found = network.code_at[level][group, place]
                codes[level][at] = found.numpy()
                embedded = network.embed[level][found]
                state, known = state + network.code_state(embedded), known + embedded
            # Only now: the positions of one pass do not see each other.
            context[0, ys + REACH, xs + REACH] = F.pad(known, (0, 1), value=1.0)
        return codes

    def _symbols(self, indices: np.ndarray, level: int, kind: str, at: Positions) -> np.ndarray:
        table = self.network.group_of if kind == "group" else self.network.place_of
        return table[level].numpy()[indices[level][at]]

    def bits(self, indices: np.ndarray) -> np.ndarray:
        total = np.zeros(indices.shape)

        def measure(table: np.ndarray, level: int, kind: str, at: Positions) -> np.ndarray:
            symbols = self._symbols(indices, level, kind, at)
            total[level][at] += table_bits(symbols, table)
            return symbols

        self._walk(indices.shape, measure)
        return total

    def write(self, indices: np.ndarray, encoder: TableEncoder) -> None:
        def put(table: np.ndarray, level: int, kind: str, at: Positions) -> np.ndarray:
            symbols = self._symbols(indices, level, kind, at)
            encoder.put(symbols, table)
            return symbols

        self._walk(indices.shape, put)

    def read(self, shape: tuple[int, int, int], decoder: TableDecoder) -> np.ndarray:
        return self._walk(shape, lambda table, level, kind, at: decoder.take(len(at[0]), table))

    def fingerprint(self) -> int:
        # Embeddings and groups too: they decide about tables as the layers do.
        checksum = 0
        for value in self.network.state_dict().values():
            checksum = zlib.crc32(value.contiguous().numpy().tobytes(), checksum)
        return checksum
