"""A learned prior of VQGAN codes: parallel, light, and the same integer tables in encoder and decoder.

Codes are coded in five passes over the grid, from coarse to fine; each pass sees all the passes before it:

    0 . 2 . 0      embeddings of the NEIGHBOURS nearest known positions -> layers -> one state per position
    . 3 . 3 .      state -> head -> table of the code's group -> group
    2 . 1 . 2      state + group -> head -> table of the code within its group -> code
    . 3 . 3 .      with D levels: state + code -> head -> next level's table ...
    (. is 4)

A code is a group of alike codes and a place in it, so that K = 16384 costs two tables of 128. Every position is
evaluated once, with matrix products only. `_walk` is the one function that encoder, decoder and estimate run, on the
CPU. Its matrix products are exact: float64 holds fixed-point numbers there, weights and inputs are multiples of 2^-16
and small enough that no partial sum needs more than 53 bits, so that neither the order of summation nor the number of
threads nor the machine can change a logit. Logits are rounded to 1/16 bit and become integer weights by a look-up.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.entropy.categorical import TableDecoder, TableEncoder, table_bits
from dcvc.errors import InputError

GRID = 16                                                    # steps of a logit per bit
DEPTH = 20                                                   # bits: the least weight is 2^-20 of the greatest
WEIGHTS = np.array([max(1, round(2 ** (DEPTH - step / GRID))) for step in range(DEPTH * GRID + 1)], dtype=np.float32)
UNSPLIT = 256                                                # codebooks up to this size need no groups
PASSES = 5
NEIGHBOURS = 24
UNIT = 2.0**-16                                              # fixed point: what weights and inputs are multiples of
LARGEST_INPUT = 2.0**8
LARGEST_SUM = 2.0**53 * UNIT**2                              # multiples of UNIT^2 below this are exact in float64
Exchange = Callable[[np.ndarray, int, str, tuple[np.ndarray, np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class PriorConfig:
    """levels: D; codes: K; channels of an embedding, hidden channels and blocks of the layers after the neighbours."""

    levels: int
    codes: int
    channels: int = 32
    hidden: int = 192
    blocks: int = 2


def pass_of(height: int, width: int) -> np.ndarray:
    """The pass (h, w) in which each position is coded: every 4th, the centres between, the crosses, then halves."""
    y, x = np.indices((height, width))
    order = np.full((height, width), 4)
    order[(y % 2 == 1) & (x % 2 == 1)] = 3
    order[(y % 2 == 0) & (x % 2 == 0)] = 2
    order[(y % 4 == 2) & (x % 4 == 2)] = 1
    order[(y % 4 == 0) & (x % 4 == 0)] = 0
    return order


def split_codes(codebook: np.ndarray) -> np.ndarray:
    """Codes (K, e) -> groups of alike ones: table (G, M) of codes, -1 where a group has fewer. Balanced bisection
    along the principal axis, down to G = 2^round(log2(K) / 2) groups."""
    codes = len(codebook)
    if codes <= UNSPLIT:
        return np.arange(codes)[:, None]
    parts = [np.arange(codes)]
    for _ in range(round(np.log2(codes) / 2)):
        halves = []
        for part in parts:
            centred = codebook[part] - codebook[part].mean(0)
            axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
            order = part[np.argsort(centred @ axis, kind="stable")]
            halves += [order[:(len(order) + 1) // 2], order[(len(order) + 1) // 2:]]
        parts = halves
    table = np.full((len(parts), max(map(len, parts))), -1)
    for row, part in zip(table, parts, strict=True):
        row[:len(part)] = part
    return table


def neighbours_of(number: int) -> np.ndarray:
    """The NEIGHBOURS offsets (n, 2) from a position of this pass to the nearest ones of earlier passes."""
    reach = 16
    order = pass_of(4 * reach, 4 * reach)
    y, x = next((y, x) for y in range(2 * reach, 2 * reach + 4) for x in range(2 * reach, 2 * reach + 4)
                if order[y, x] == number)
    known = np.argwhere(order < number) - (y, x)
    nearest = np.lexsort((known[:, 1], known[:, 0], (known**2).sum(1)))
    return known[nearest[:NEIGHBOURS]]


OFFSETS = [np.zeros((0, 2), dtype=np.int64)] + [neighbours_of(number) for number in range(1, PASSES)]
REACH = max(int(np.abs(offsets).max()) for offsets in OFFSETS[1:])


class FixedPointLinear(nn.Linear):
    """A linear layer; with `exact`, its input is rounded to fixed point first, which makes the product exact."""

    exact = False

    def forward(self, x: Tensor) -> Tensor:
        if self.exact:
            x = (x / UNIT).round_().mul_(UNIT).clamp_(-LARGEST_INPUT, LARGEST_INPUT)
        return super().forward(x)

    def make_exact(self) -> None:
        """Raises InputError where the weights are so large that sums could need rounding."""
        self.exact = True
        sums = self.weight.abs().sum(1) * LARGEST_INPUT + (self.bias.abs() if self.bias is not None else 0)
        if float(sums.max()) >= LARGEST_SUM:
            raise InputError(f"learned prior: sums of up to {float(sums.max()):.3g}, needed below {LARGEST_SUM:.3g}; "
                             "train it again with a lower learning rate")


class CodePrior(nn.Module):
    """The network. Codes are int64 (B, D, h, w)."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        c, wide = config.channels, config.hidden
        groups = 2 ** round(np.log2(config.codes) / 2) if config.codes > UNSPLIT else config.codes
        members = -(-config.codes // groups) if config.codes > UNSPLIT else 1
        # (D, G, M): code of each place; (D, K): group and place of each code.
        self.register_buffer("code_at", torch.zeros(config.levels, groups, members, dtype=torch.int64))
        self.register_buffer("group_of", torch.zeros(config.levels, config.codes, dtype=torch.int64))
        self.register_buffer("place_of", torch.zeros(config.levels, config.codes, dtype=torch.int64))
        self.embed = nn.Parameter(torch.randn(config.levels, config.codes, c) * 0.3)
        self.group_state = nn.Parameter(torch.zeros(config.levels, groups, wide))
        self.code_state = FixedPointLinear(c, wide, bias=False)
        self.first = nn.Parameter(torch.zeros(wide))         # the state of pass 0, which knows nothing
        self.gather = nn.ModuleList(FixedPointLinear(NEIGHBOURS * (c + 1), wide) for _ in range(PASSES - 1))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.ReLU(), FixedPointLinear(wide, wide), nn.ReLU(), FixedPointLinear(wide, wide))
            for _ in range(config.blocks))
        self.hidden = nn.ModuleDict({kind: nn.ModuleList(FixedPointLinear(wide, wide) for _ in range(config.levels))
                                     for kind in ("group", "place")})
        self.out = nn.ModuleDict({
            "group": nn.ModuleList(FixedPointLinear(wide, groups) for _ in range(config.levels)),
            "place": nn.ModuleList(FixedPointLinear(wide, members) for _ in range(config.levels))})

    @torch.no_grad()
    def set_codebooks(self, tables: Tensor) -> None:
        """tables (D, K, e): make the groups, and start the embeddings on a projection of the codes."""
        for level, table in enumerate(tables.cpu().double().numpy()):
            places = split_codes(table)
            self.code_at[level, :, :places.shape[1]] = torch.from_numpy(places)
            group, place = np.nonzero(places >= 0)
            self.group_of[level, places[group, place]] = torch.from_numpy(group)
            self.place_of[level, places[group, place]] = torch.from_numpy(place)
            generator = torch.Generator().manual_seed(level)
            projection = torch.randn(table.shape[1], self.config.channels, generator=generator)
            values = torch.from_numpy(table / max(table.std(), 1e-9) / table.shape[1] ** 0.5).float() @ projection
            self.embed[level] = 0.3 * values

    @property
    def split(self) -> bool:
        return self.code_at.shape[2] > 1

    def states(self, number: int, context: Tensor, at: tuple[Tensor, ...]) -> Tensor:
        """context (B, h + 2 REACH, w + 2 REACH, C + 1): summed embeddings of known codes and a 1 where they are
        known; at: batch, row and column of n positions -> (n, hidden)."""
        if number == 0:
            return self.first.expand(len(at[0]), -1)
        offsets = torch.from_numpy(OFFSETS[number] + REACH).to(context.device)
        batch, rows, columns = (index[:, None] for index in at)
        near = context[batch, rows + offsets[:, 0], columns + offsets[:, 1]].flatten(1)
        state = self.gather[number - 1](near)
        for block in self.blocks:
            state = state + block(state)
        return state

    def logits(self, kind: str, level: int, state: Tensor) -> Tensor:
        """state (n, C) -> scores (n, G) or (n, M)."""
        return self.out[kind][level](F.relu(self.hidden[kind][level](state)))

    def loss(self, codes: Tensor) -> Tensor:
        """Mean bits per code of a batch (B, D, h, w), differentiable; all passes at once."""
        order = torch.from_numpy(pass_of(*codes.shape[-2:])).to(codes.device).expand(len(codes), -1, -1)
        embedded = sum(self.embed[level][codes[:, level]] for level in range(codes.shape[1]))
        everything = F.pad(torch.cat([embedded, torch.ones_like(embedded[..., :1])], dim=-1), (0, 0) + (REACH,) * 4)
        total = 0.0
        for number in range(PASSES):
            at = torch.nonzero(order == number, as_tuple=True)
            state = self.states(number, everything, at)      # looks at known positions only
            for level in range(codes.shape[1]):
                chosen = codes[:, level][at]
                group = self.group_of[level][chosen]
                total = total + F.cross_entropy(self.logits("group", level, state), group, reduction="sum")
                if self.split:
                    inner = self.logits("place", level, state + self.group_state[level][group])
                    inner = inner.masked_fill(self.code_at[level][group] < 0, -1e4)
                    total = total + F.cross_entropy(inner, self.place_of[level][chosen], reduction="sum")
                state = state + self.code_state(self.embed[level][chosen])
        return total / codes.numel() / np.log(2)


def integer_weights(logits: Tensor, valid: Tensor | None = None) -> np.ndarray:
    """Natural-log scores (n, k), float64 -> whole numbers as float32 (n, k), what the coder takes."""
    steps = torch.round(logits * (GRID / np.log(2)))
    if valid is not None:
        steps = steps.masked_fill(~valid, -torch.inf)
    below = (steps.amax(1, keepdim=True) - steps).clamp_max(DEPTH * GRID).to(torch.int64)
    weights = torch.from_numpy(WEIGHTS)[below]
    return weights.numpy() if valid is None else weights.masked_fill(~valid, 0).numpy()


class PriorRate:
    """RateModel of a trained CodePrior. indices: int64 (D, h, w)."""

    name = "prior"

    def __init__(self, network: CodePrior) -> None:
        if not all(bool(torch.isfinite(value).all()) for value in network.parameters()):
            raise InputError("learned prior: holds NaN or infinite weights, needed finite ones; train it again")
        self.network = network.double().cpu().eval().requires_grad_(False)
        self.to_fixed_point(self.network)

    @staticmethod
    @torch.no_grad()
    def to_fixed_point(network: nn.Module) -> None:
        """Round float64 parameters to multiples of UNIT. Raises InputError where sums could still need rounding."""
        for parameter in network.parameters():
            parameter.copy_((parameter / UNIT).round_().mul_(UNIT))
        for module in network.modules():
            if isinstance(module, FixedPointLinear):
                module.make_exact()

    @torch.inference_mode()
    def _walk(self, shape: tuple[int, int, int], exchange: Exchange) -> np.ndarray:
        """Go through the codes in coding order; `exchange` gets each table and gives the symbols it stands for."""
        network, (levels, height, width) = self.network, shape
        channels = network.config.channels
        codes = np.zeros(shape, dtype=np.int64)
        context = torch.zeros(1, height + 2 * REACH, width + 2 * REACH, channels + 1, dtype=torch.float64)
        order = pass_of(height, width)
        for number in range(PASSES):
            at = np.nonzero(order == number)
            if not len(at[0]):
                continue
            ys, xs = (torch.from_numpy(index) for index in at)
            state = network.states(number, context, (torch.zeros_like(ys), ys, xs))
            known = torch.zeros(len(ys), channels, dtype=torch.float64)
            for level in range(levels):
                group = exchange(integer_weights(network.logits("group", level, state)), level, "group", at)
                place = np.zeros(len(ys), dtype=np.int64)
                if network.split:
                    inner = network.logits("place", level, state + network.group_state[level][group])
                    weights = integer_weights(inner, network.code_at[level][group] >= 0)
                    place = exchange(weights, level, "place", at)
                found = network.code_at[level][group, place]
                codes[level][at] = found.numpy()
                embedded = network.embed[level][found]
                state, known = state + network.code_state(embedded), known + embedded
            context[0, ys + REACH, xs + REACH] = F.pad(known, (0, 1), value=1.0)
        return codes

    def _symbols(self, indices: np.ndarray, level: int, kind: str, at: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        table = self.network.group_of if kind == "group" else self.network.place_of
        return table[level].numpy()[indices[level][at]]

    def bits(self, indices: np.ndarray) -> np.ndarray:
        total = np.zeros(indices.shape)

        def measure(table: np.ndarray, level: int, kind: str, at: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
            symbols = self._symbols(indices, level, kind, at)
            total[level][at] += table_bits(symbols, table)
            return symbols

        self._walk(indices.shape, measure)
        return total

    def write(self, indices: np.ndarray, encoder: TableEncoder) -> None:
        def put(table: np.ndarray, level: int, kind: str, at: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
            symbols = self._symbols(indices, level, kind, at)
            encoder.put(symbols, table)
            return symbols

        self._walk(indices.shape, put)

    def read(self, shape: tuple[int, int, int], decoder: TableDecoder) -> np.ndarray:
        return self._walk(shape, lambda table, level, kind, at: decoder.take(len(at[0]), table))

    def fingerprint(self) -> int:
        checksum = 0
        for value in self.network.state_dict().values():
            checksum = zlib.crc32(value.contiguous().numpy().tobytes(), checksum)
        return checksum
