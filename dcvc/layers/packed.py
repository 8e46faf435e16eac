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

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.device.memory import keep_memory
from dcvc.device.workers import share, single
from dcvc.layers.made_of_weights import MadeOfWeights, weights_stay
from dcvc.layers.trained import (
    in_float32_on_cpu,
    trained_patches,
    trained_planes,
    trained_pointwise,
    trained_rows,
    trained_squares,
    trains_in_loops,
)

# Rows of a band, about: with fewer, more is computed twice.
BAND = 24
# Of networks at 1/16 of the size, whose rows are wide.
SMALL_BAND = 12
# x sigmoid(4 x) is a fourth of silu(4 x): factors like this one go into the weights around.
GAINS = {"wsilu": 4.0, "clip": 1.0}
# Channels of the compiled loops come in multiples.
FULL = 16


_PACKED = ContextVar("packed", default=False)
# Whether what a block sees goes on above and below, beyond the rows that it has.
_CUT = ContextVar("cut", default=(False, False))


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
    """rows (N, inputs) -> their product with matrix (inputs, outputs), with a bias; added to rows of that
    kind, which it changes, where some are given."""

    def __init__(self, matrix: Tensor, bias: Tensor | None) -> None:
        # Here, since Numba takes long to import.
        from dcvc.layers.packed_loops import product

        self.run, self.outputs = product, matrix.shape[1]
        self.panels = _panels(matrix.detach()).contiguous().numpy()
        bias = matrix.new_zeros(self.outputs) if bias is None else bias.detach()
        self.bias = _filled(bias, 0).numpy()
        self.nothing = torch.zeros(1, len(self.bias)).numpy()

    def __call__(self, rows: Tensor, added: Tensor | None = None) -> Tensor:
        rows = _filled(rows, 1).contiguous()
        out = torch.empty(len(rows), len(self.bias)) if added is None else _filled(added, 1)
        start = self.nothing if added is None else out.numpy()
        self.run(rows.numpy(), self.panels, start, self.bias, out.numpy())
        return out[:, :self.outputs]


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
        self._adaptors: dict[tuple[int, int], Product] = {}
        # (kernel, kernel, inner), as the loop wants it.
        taps = (middle.weight.detach()[:, 0] / gain).permute(1, 2, 0)
        # The fold adds quarters: all channels 4c come first, then all 4c + 1, ...
        quarters = _filled(_matrix(wide, gain).unflatten(1, (inner, 4)).transpose(1, 2), 2).flatten(1)
        quarters_bias = _filled((wide.bias.detach() * gain).view(inner, 4).t(), 1).flatten()
        self.weights = [
            array.contiguous().numpy() for array in (
                _panels(_matrix(into, gain)), _filled(into.bias.detach() * gain, 0),
                _filled(taps, 2), _filled(middle.bias.detach(), 0),
                _panels(_matrix(back)), _filled(back.bias.detach(), 0),
                _panels(quarters), quarters_bias,
                _panels(_matrix(narrow, 1 / gain)), _filled(narrow.bias.detach(), 0))]

    def __call__(self, *inputs: Tensor) -> Tensor:
        parts = [rows_of(part) for part in inputs]
        if self.adaptor is None:
            rows = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
            return self._behind_adaptor(rows, inputs[0])
        # Side by side in one matrix or not: the products add up.
        end, rows = 0, None
        for part in parts:
            first, end = end, end + part.shape[1]
            rows = self._adaptor(first, end)(part, rows)
        return self._behind_adaptor(rows, inputs[0])

    def _adaptor(self, first: int, end: int) -> "Product":
        """Of inputs first ... end - 1; the bias goes with number 0."""
        if (first, end) not in self._adaptors:
            bias = None if first else self.adaptor_bias
            self._adaptors[first, end] = Product(self.adaptor[first:end], bias)
        return self._adaptors[first, end]

    def adapted(self, x: Tensor, first: int) -> Tensor:
        """What the adaptor makes of the inputs from number `first` on, with its bias: for `continued`."""
        rows = self._adaptor(first, len(self.adaptor))(rows_of(x)) + self.adaptor_bias
        return picture_of(rows, x)

    def continued(self, *parts: Tensor) -> Tensor:
        """The block, given what its adaptor has made of parts of the inputs, one with the bias."""
        return self._behind_adaptor(sum(map(rows_of, parts)), parts[0])

    def _behind_adaptor(self, rows: Tensor, like: Tensor) -> Tensor:
        """rows: of the picture `like`."""
        batch, _, height, width = like.shape
        # Rows that lack neighbours are left out.
        first, last = (self.reach * cut for cut in _CUT.get())
        last = height - last
        x = _filled(rows, 1).contiguous().view(batch, height, width, -1)
        out = torch.empty(batch, last - first, width, x.shape[-1])
        self.run(x.numpy(), first, last, *self.weights, self.silu, self.shortcut, out.numpy())
        return out[..., :self.outputs].permute(0, 3, 1, 2)


def _filled(x: Tensor, axis: int) -> Tensor:
    """Zeros behind, up to a multiple of 16 along an axis, as the loops want it."""
    missing = -x.shape[axis] % FULL
    if missing == 0:
        return x
    return torch.cat((x, x.new_zeros(*x.shape[:axis], missing, *x.shape[axis + 1:])), dim=axis)


def _panels(matrix: Tensor) -> Tensor:
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


def in_bands(network: Callable[..., Tensor], *inputs: Tensor, reach: int, unit: int = 1,
             band: int = BAND) -> Tensor:
    """network(*inputs), in `packed` with bands of rows on several threads.

    inputs (B, C, H, W) of one height; reach: how many rows up and down the network looks in all; unit:
    2 where it halves the height. band: rows of each, about."""
    height = inputs[0].shape[2]
    count = min(_count(height, band), height // (reach + unit))
    if not packs(*inputs) or count < 2:
        return network(*inputs)
    ends = [height // unit * i // count * unit for i in range(count)] + [height]
    # All rows, once the first band tells how many there are and how wide.
    whole: list[Tensor] = []
    lock = threading.Lock()

    def compute(number: int) -> None:
        first, last = ends[number], ends[number + 1]
        cut = above, below = first > 0, last < height
        _CUT.set(cut)
        rows = slice(first - reach * above, last + reach * below)
        found = network(*(x[:, :, rows] for x in inputs)).permute(0, 2, 3, 1)
        # Rows of the result for each one of the input: 2, 1 or 1/2.
        to = [end * found.shape[1] // (last - first) for end in (first, last, height)]
        with lock:
            if not whole:
                whole.append(found.new_empty(len(found), to[2], *found.shape[2:]))
        # Each thread copies its own: together they do it in half of the time.
        whole[0][:, to[0]:to[1]] = found

    share(compute, range(count))
    return whole[0].permute(0, 3, 1, 2)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution: in `packed` one matrix product that leaves the picture channels last, where
    torch's convolution would copy it to and fro."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 1, bias=bias)
        self._product: MadeOfWeights[Product] = MadeOfWeights()

    def forward(self, x: Tensor) -> Tensor:
        if not packs(x):
            if trains_in_loops(x, self.weight):
                return trained_pointwise(x, self.weight, self.bias)
            return super().forward(x)
        product = self._product.get(self.parameters, lambda: Product(_matrix(self), self.bias))
        return picture_of(product(rows_of(x)), x)


class Downsampling(nn.Conv2d):
    """Each 2x2 square to one position by a 1x1 convolution of pixel_unshuffle(x, 2). In `packed` whole rows
    of channels move, and the weight is put in their order: that is less than moving every number of the
    picture."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(4 * inputs, outputs, 1)
        self._product: MadeOfWeights[Product] = MadeOfWeights()

    def forward(self, x: Tensor) -> Tensor:
        if not packs(x):
            x = trained_rows(x, 2) if in_float32_on_cpu(x) else F.pixel_unshuffle(x, 2)
            if trains_in_loops(x, self.weight):
                return trained_pointwise(x, self.weight, self.bias)
            return super().forward(x)
        batch, channels, height, width = x.shape
        rows = rows_of(x).view(batch, height // 2, 2, width // 2, 2, channels).transpose(2, 3)
        product = self._product.get(self.parameters, self._pack)
        return picture_of(product(rows.reshape(-1, 4 * channels)), x[:, :, ::2, ::2])

    def _pack(self) -> Product:
        matrix = _matrix(self).unflatten(0, (-1, 4)).transpose(0, 1).flatten(0, 1)
        return Product(matrix, self.bias)


class HalvingConvolution(nn.Conv2d):
    """A 3x3 convolution with a stride of 2, of pictures with even sides: in `packed` a matrix product
    of squares. Its reach is 1: in a band there is a row more above and below."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, stride=2, padding=1)
        self._product: MadeOfWeights[Product] = MadeOfWeights()

    def forward(self, x: Tensor) -> Tensor:
        if not packs(x):
            return super().forward(x)
        from dcvc.layers.packed_loops import squares_of_three

        (batch, channels, height, width), (above, below) = x.shape, _CUT.get()
        rows = (height - above - below) // 2
        squares = torch.empty(batch, rows, width // 2, 9, channels)
        # In a band, the row above is the first one; in the picture there is none, and zeros instead.
        for picture, out in zip(x.permute(0, 2, 3, 1).contiguous().numpy(), squares.numpy(), strict=True):
            squares_of_three(picture, 0 if above else -1, out)
        product = self._product.get(self.parameters, self._pack)
        out = product(squares.view(-1, 9 * channels))
        return out.reshape(batch, rows, width // 2, -1).permute(0, 3, 1, 2)

    def _pack(self) -> Product:
        return Product(self.weight.permute(2, 3, 1, 0).flatten(0, 2), self.bias)


class PixelShuffle(nn.PixelShuffle):
    """In `packed` the result lies channels last, as the blocks want it."""

    def forward(self, x: Tensor) -> Tensor:
        if not packs(x):
            return trained_squares(x, self.upscale_factor) if in_float32_on_cpu(x) else super().forward(x)
        (batch, _, height, width), side = x.shape, self.upscale_factor
        rows = x.permute(0, 2, 3, 1).reshape(batch, height, width, -1, side, side)
        rows = rows.permute(0, 1, 4, 2, 5, 3).reshape(batch, side * height, side * width, -1)
        return rows.permute(0, 3, 1, 2)


def upsampled(x: Tensor, matrix: Tensor) -> Tensor:
    """In `packed`: each position to a square of 2x2 by a matrix (4 outputs, inputs), whose rows are all
    channels of one place after the other. Whole rows of channels move, not every number by itself."""
    batch, _, height, width = x.shape
    rows = F.linear(rows_of(x), matrix).view(batch, height, width, 2, 2, -1)
    rows = rows.transpose(2, 3).reshape(batch, 2 * height, 2 * width, -1)
    return rows.permute(0, 3, 1, 2)


def unshuffle(x: Tensor, side: int) -> Tensor:
    """F.pixel_unshuffle: squares of side x side to one position. In `packed` the result lies channels
    last, as the blocks want it."""
    if not packs(x):
        return trained_patches(x, side) if in_float32_on_cpu(x) else F.pixel_unshuffle(x, side)
    batch, channels, height, width = x.shape
    rows = torch.empty(batch, height // side, width // side, channels * side**2)
    from dcvc.layers.packed_loops import unshuffle as loop

    x = x.contiguous()

    def move(band: tuple[int, int]) -> None:
        number, first = band
        loop(x[number].numpy(), side, first, min(first + BAND // 2, rows.shape[1]),
             rows[number].numpy())

    share(move, [(i, y) for i in range(batch) for y in range(0, rows.shape[1], BAND // 2)])
    return rows.permute(0, 3, 1, 2)


def shuffle(x: Tensor, side: int) -> Tensor:
    """F.pixel_shuffle, the inverse of `unshuffle`; the result lies plane by plane."""
    if not packs(x):
        return trained_planes(x, side) if in_float32_on_cpu(x) else F.pixel_shuffle(x, side)
    batch, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(batch, height, width, -1, side, side)
    return rows.permute(0, 3, 1, 4, 2, 5).reshape(batch, -1, height * side, width * side)
