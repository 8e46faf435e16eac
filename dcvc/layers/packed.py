"""A block of the light codecs without gradients on a CPU: the same sums in fewer passes over memory.

Matrix products take less than half of the time where every addition, clip and sum of a block is a
pass through memory of its own. Here a picture lies channels last, so that it is a matrix with a row
for each position and a 1x1 convolution one matrix product, and one compiled function takes a few
rows at a time through the whole block (packed_loops.py):

    m = x + depthwise(act(x W0 + b0)) W1 + b1
    o = m + fold(act(m W2 + b2)) W3 + b3

The fold adds channels 4c ... 4c + 3; the columns of W2 are put in another order, all channels 4c first,
then all 4c + 1, ..., so that it adds quarters:

    a0 b0 | a1 b1 | a2 b2 | a3 b3   ->   a0+a1+a2+a3 b0+b1+b2+b3   ->   a b

A picture is cut into bands of rows, which threads share (dcvc/device/workers.py, `in_bands`). A band goes
through all blocks of a network without waiting for the others: it begins with the rows around it that
the depthwise convolutions look at, and each block leaves out those that it lacks neighbours for.

    rows of the picture       0 . . . . . 6 | . . . . . 13          two blocks of kernel 3
    first band, input         0 . . . . . 6   7 8
    behind the first block    0 . . . . . 6   7
    behind the second         0 . . . . . 6

Last bits differ from the plain form. So that encoder and decoder have the same ones, this is not
chosen block by block: a codec's `compress`, `decompress` and `reconstruct` run in `packed()`, and all
else, training above all, goes the plain way.
"""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from dcvc.device.memory import keep_memory
from dcvc.device.workers import share, single
from dcvc.layers.made_of_weights import weights_stay

# Rows of a band, about: with fewer, more is computed twice.
BAND = 24
# Of networks at 1/16 of the size, whose rows are wide.
SMALL_BAND = 12
# x sigmoid(4 x) is a fourth of silu(4 x): factors like this one go into the weights around.
GAINS = {"wsilu": 4.0, "clip": 1.0}
# Channels of the compiled loops come in multiples.
FULL = 16


# Whether what a block sees goes on above and below, beyond the rows that it has.
Cut = tuple[bool, bool]

_PACKED = ContextVar("packed", default=False)
_CUT: ContextVar[Cut] = ContextVar("cut", default=(False, False))


@contextmanager
def packed() -> Iterator[None]:
    """Inside, or in a function that has this as its decorator: no gradients, packed blocks, and one
    thread in each of torch's operations: blocks share their work between threads themselves. Weights
    must not change inside."""
    keep_memory()
    before = _PACKED.set(True)
    try:
        with single(), weights_stay(), torch.no_grad():
            yield
    finally:
        _PACKED.reset(before)


def coding() -> bool:
    """Whether this is inside of `packed`."""
    return _PACKED.get()


def packs(*inputs: Tensor) -> bool:
    """Whether layers with these inputs shall take their packed form, which only CPUs profit from."""
    return (_PACKED.get() and not torch.is_autocast_enabled("cpu")
            and all(x.device.type == "cpu" and x.dtype == torch.float32 for x in inputs))


def rows_of(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B H W, C); a view where x lies channels last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def picture_of(rows: Tensor, like: Tensor) -> Tensor:
    """The inverse of `rows_of`, channels last; B, H and W as `like` has them."""
    return rows.reshape(len(like), *like.shape[2:], -1).permute(0, 3, 1, 2)


def _matrix(layer: nn.Conv2d, gain: float = 1.0) -> Tensor:
    """The weight of a 1x1 convolution as a matrix that rows are multiplied with."""
    return (layer.weight.detach().flatten(1) * gain).t().contiguous()


class Product:
    """rows (..., inputs) -> their product with matrix (inputs, outputs), with a bias; added to rows of that
    kind, which it changes, where some are given."""

    def __init__(self, matrix: Tensor, bias: Tensor | None) -> None:
        # Here, since Numba takes long to import.
        from dcvc.layers.packed_loops import product

        self.run, self.outputs = product, matrix.shape[1]
        self.panels = matrix_panels(matrix.detach()).contiguous().numpy()
        bias = matrix.new_zeros(self.outputs) if bias is None else bias.detach()
        self.bias = _filled(bias, 0).numpy()
        self.nothing = np.zeros((1, len(self.bias)), np.float32)

    def of(self, rows: np.ndarray, added: np.ndarray | None = None,
           out: np.ndarray | None = None) -> np.ndarray:
        """out: where the result goes, otherwise."""
        whole = full(rows)
        shape = *rows.shape[:-1], len(self.bias)
        to = added if added is not None else place_for(shape, out)
        # Only rows that have not as many numbers as the loop wants are copied.
        result = full(to)
        result = result.reshape(-1, result.shape[-1])
        self.run(whole.reshape(-1, whole.shape[-1]), self.panels,
                 self.nothing if added is None else result, self.bias, result)
        return put(result.reshape(shape)[..., :self.outputs], out)


class PackedBlock:
    """The weights of a DepthConvBlock for channels-last rows.

    Call: float32 (B, inputs, H, W) in any layout, or several such inputs that lie side by side ->
    (B, outputs, H, W), channels last.
    """

    def __init__(self, adaptor: nn.Conv2d | None, dc: nn.Sequential, ffn: nn.Sequential,
                 shortcut: bool) -> None:
        # Here, since Numba takes long to import.
        from dcvc.layers.packed_loops import block

        (into, act, middle, back), (wide, _, narrow) = dc, ffn
        gain, inner = GAINS[act.kind], len(middle.weight)
        self.run, self.silu, self.shortcut = block, act.kind == "wsilu", shortcut
        self.outputs, self.reach = len(back.weight), middle.padding[0]
        self.adaptor = None if adaptor is None else _matrix(adaptor)
        self.adaptor_bias = None if adaptor is None else adaptor.bias.detach()
        self._adaptors: dict[tuple[int, int, bool], Product] = {}
        # (kernel, kernel, inner), as the loop wants it.
        taps = (middle.weight.detach()[:, 0] / gain).permute(1, 2, 0)
        # The fold adds quarters: all channels 4c come first, then all 4c + 1, ...
        quarters = _filled(_matrix(wide, gain).unflatten(1, (inner, 4)).transpose(1, 2), 2).flatten(1)
        quarters_bias = _filled((wide.bias.detach() * gain).view(inner, 4).t(), 1).flatten()
        self.weights = [
            array.contiguous().numpy() for array in (
                matrix_panels(_matrix(into, gain)), _filled(into.bias.detach() * gain, 0),
                _filled(taps, 2), _filled(middle.bias.detach(), 0),
                matrix_panels(_matrix(back)), _filled(back.bias.detach(), 0),
                matrix_panels(quarters), quarters_bias,
                matrix_panels(_matrix(narrow, 1 / gain)), _filled(narrow.bias.detach(), 0))]

    def __call__(self, *inputs: Tensor) -> Tensor:
        return shown(self.of(list(map(seen, inputs)), _CUT.get()))

    def of(self, parts: list[np.ndarray], cut: Cut, out: np.ndarray | None = None) -> np.ndarray:
        """The same for arrays (B, H, W, channels) that begin and end as `cut` says."""
        if self.adaptor is None:
            rows = np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
            return self.behind_adaptor(rows, cut, out)
        # Side by side in one matrix or not: the products add up.
        end, rows = 0, None
        for part in parts:
            first, end = end, end + part.shape[-1]
            rows = self._adaptor(first, end).of(part, rows)
        return self.behind_adaptor(rows, cut, out)

    def _adaptor(self, first: int, end: int, bias: bool = False) -> Product:
        """Of inputs first ... end - 1; the bias goes with number 0, and wherever it is asked for."""
        if (first, end, bias) not in self._adaptors:
            added = self.adaptor_bias if bias or not first else None
            self._adaptors[first, end, bias] = Product(self.adaptor[first:end], added)
        return self._adaptors[first, end, bias]

    def adapted(self, x: Tensor, first: int) -> Tensor:
        """What the adaptor makes of the inputs from number `first` on, with its bias."""
        return shown(self._adaptor(first, len(self.adaptor), bias=True).of(seen(x)))

    def behind_adaptor(self, rows: np.ndarray, cut: Cut, out: np.ndarray | None = None) -> np.ndarray:
        """The block, given what its adaptor has made."""
        # Rows that lack neighbours are left out.
        above, below = cut
        x = full(rows)
        first, last = self.reach * above, x.shape[1] - self.reach * below
        to = place_for((len(x), last - first, *x.shape[2:]), out)
        self.run(x, first, last, *self.weights, self.silu, self.shortcut, to)
        return put(to[..., :self.outputs], out)


def seen(x: Tensor) -> np.ndarray:
    """(B, C, H, W) -> an array (B, H, W, C) of the same numbers."""
    return x.permute(0, 2, 3, 1).numpy()


def shown(rows: np.ndarray) -> Tensor:
    """The inverse of `seen`."""
    return torch.from_numpy(rows).permute(0, 3, 1, 2)


def full(rows: np.ndarray) -> np.ndarray:
    """(..., C) in one piece, C filled up to a multiple of 16 by zeros, as the loops want it."""
    missing = -rows.shape[-1] % FULL
    if missing:
        rows = np.concatenate((rows, np.zeros((*rows.shape[:-1], missing), np.float32)), axis=-1)
    return np.ascontiguousarray(rows)


def place_for(shape: tuple[int, ...], out: np.ndarray | None) -> np.ndarray:
    """Where a loop writes its result: `out` itself where it can be, for `put`."""
    if out is not None and out.shape == shape and out.flags.c_contiguous:
        return out
    return np.empty(shape, np.float32)


def put(result: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """The result, in `out` where it is given."""
    if out is None:
        return result
    if not np.may_share_memory(result, out):
        out[...] = result
    return out


def _filled(x: Tensor, axis: int) -> Tensor:
    """Zeros behind, up to a multiple of 16 along an axis, as the loops want it."""
    missing = -x.shape[axis] % FULL
    if missing == 0:
        return x
    return torch.cat((x, x.new_zeros(*x.shape[:axis], missing, *x.shape[axis + 1:])), dim=axis)


def matrix_panels(matrix: Tensor) -> Tensor:
    """(k, columns) -> (columns / 16, k, 16), both filled up."""
    matrix = _filled(_filled(matrix, 0), 1)
    return matrix.unflatten(1, (-1, FULL)).transpose(0, 1)


def _count(height: int, band: int) -> int:
    # An even number, which two threads share evenly; a small picture is not worth what is computed
    # twice.
    return 1 if height <= band else 2 * math.ceil(height / (2 * band))


def rows_of_band(height: int, band: int = BAND) -> int:
    """How many rows `in_bands` gives to each."""
    return height // _count(height, band)


def _ends(height: int, reach: int, unit: int, band: int) -> list[int]:
    """Where each band ends, with a zero before: none where the picture is better left whole."""
    count = min(_count(height, band), height // (reach + unit))
    return [height // unit * i // count * unit for i in range(count)] + [height] if count > 1 else []


def _on_bands(ends: list[int], reach: int, work: Callable[[int, int, slice, Cut], None]) -> None:
    """work(first, last, rows, cut) for each band of rows first ... last - 1, which is computed from `rows`."""
    height = ends[-1]

    def compute(band: tuple[int, int]) -> None:
        first, last = band
        cut = above, below = first > 0, last < height
        work(first, last, slice(first - reach * above, last + reach * below), cut)

    share(compute, pairwise(ends))


def in_bands(network: Callable[..., Tensor], *inputs: Tensor, reach: int, unit: int = 1,
             band: int = BAND) -> Tensor:
    """network(*inputs), in `packed` with bands of rows on several threads.

    inputs (B, C, H, W) of one height; reach: how many rows up and down the network looks in all; unit:
    2 where it halves the height. band: rows of each, about."""
    height = inputs[0].shape[2]
    ends = _ends(height, reach, unit, band)
    if not packs(*inputs) or not ends:
        return network(*inputs)
    # All rows, once the first band tells how many there are and how wide.
    whole: list[Tensor] = []
    lock = threading.Lock()

    def compute(first: int, last: int, rows: slice, cut: Cut) -> None:
        _CUT.set(cut)
        found = network(*(x[:, :, rows] for x in inputs)).permute(0, 2, 3, 1)
        # Rows of the result for each one of the input: 2, 1 or 1/2.
        to = [end * found.shape[1] // (last - first) for end in (first, last, height)]
        with lock:
            if not whole:
                whole.append(found.new_empty(len(found), to[2], *found.shape[2:]))
        # Each thread copies its own: together they do it in half of the time.
        whole[0][:, to[0]:to[1]] = found

    _on_bands(ends, reach, compute)
    return whole[0].permute(0, 3, 1, 2)


def arrays_in_bands(network: Callable[..., np.ndarray], parts: list[np.ndarray], shape: tuple[int, ...],
                    reach: int, unit: int, band: int) -> np.ndarray:
    """network(parts, cut, out), which writes to out, for bands of arrays (B, H, W, C): all of its results,
    of this shape. Otherwise as `in_bands`."""
    ends = _ends(parts[0].shape[1], reach, unit, band)
    if not ends:
        return network(parts, (False, False), None)
    whole = np.empty(shape, np.float32)

    def compute(first: int, last: int, rows: slice, cut: Cut) -> None:
        network([part[:, rows] for part in parts], cut, whole[:, first // unit:last // unit])

    _on_bands(ends, reach, compute)
    return whole
