"""A block of the light codecs without gradients on a CPU: the same sums in fewer passes over memory.

Matrix products take less than half of the time where every addition, clip and sum of a block is a
pass through memory of its own. Here a picture lies channels last, so that it is a matrix with a row
for each position; a 1x1 convolution is one matrix product, which adds to what is there already:

    x = rows + shift                                 shift: the biases of both residual branches
    x += depthwise(act(x W0 + b0)) W1                without an addition, without a bias
    x += fold(act(x W2 + b2)) W3                     likewise

What shift adds too early is taken out of b0 and b2. The fold adds channels 4c ... 4c + 3; the rows of
W2 are put in another order, all channels 4c first, then all 4c + 1, ..., so that it adds halves:

    a0 b0 a1 b1 | a2 b2 a3 b3   ->   a0+a2 b0+b2 | a1+a3 b1+b3   ->   a b

Last bits differ from the plain form. So that encoder and decoder have the same ones, this is not
chosen block by block: a codec's `compress`, `decompress` and `reconstruct` run in `packed()`, and all
else, training above all, goes the plain way.
"""

import functools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# x sigmoid(4 x) is a fourth of silu(4 x): factors like this one go into the weights around.
GAINS = {"wsilu": 4.0, "clip": 1.0}
IN_PLACE = {"wsilu": F.silu, "clip": F.hardswish}


_PACKED = ContextVar("packed", default=False)


@functools.cache
def _keep_memory() -> None:
    """Once a process: let it keep the memory that tensors leave.

    glibc gives freed blocks back to the system if they are larger than any that was freed before, up
    to 32 MiB (mallopt(3), M_MMAP_THRESHOLD), and new ones come page by page, each with a fault: up to
    a fifth of a frame's time. So one that is larger than the others is freed. It is never touched."""
    torch.empty(31 << 20, dtype=torch.uint8)


@contextmanager
def packed() -> Iterator[None]:
    """Inside, or in a function that has this as its decorator: no gradients, and packed blocks."""
    _keep_memory()
    before = _PACKED.set(True)
    try:
        with torch.no_grad():
            yield
    finally:
        _PACKED.reset(before)


def packs(x: Tensor) -> bool:
    """Whether layers with the input x shall take their packed form, which only CPUs profit from."""
    return (_PACKED.get() and x.device.type == "cpu" and x.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu"))


def weights_version(weights: Iterable[Tensor]) -> tuple[Any, ...]:
    """Another value as soon as a weight changes: torch counts the changes of every tensor, and a moved
    model has other tensors. What is made of weights can be kept beside it until then."""
    return tuple((value.data_ptr(), value.device, value._version) for value in weights)


def rows_of(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B H W, C); a view where x lies channels last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def picture_of(rows: Tensor, like: Tensor) -> Tensor:
    """The inverse of `rows_of`, channels last; B, H and W as `like` has them."""
    return rows.view(len(like), *like.shape[2:], -1).permute(0, 3, 1, 2)


def _matrix(layer: nn.Conv2d, gain: float = 1.0) -> Tensor:
    """The weight of a 1x1 convolution as a matrix that rows are multiplied with."""
    return (layer.weight.detach().flatten(1) * gain).t().contiguous()


class PackedBlock:
    """The weights of a DepthConvBlock for channels-last rows.

    Call: float32 (B, inputs, H, W) in any layout -> (B, outputs, H, W), channels last.
    """

    def __init__(self, adaptor: nn.Conv2d | None, dc: nn.Sequential, ffn: nn.Sequential,
                 shortcut: bool) -> None:
        (first, act, depthwise, second), (wide, _, last) = dc, ffn
        gain, self.shortcut = GAINS[act.kind], shortcut
        self.activation, self.inner = IN_PLACE[act.kind], len(depthwise.weight)
        # With a shortcut x comes in twice, and so does its shift.
        shift = (second.bias + last.bias) / (2 if shortcut else 1)
        self.adaptor = None if adaptor is None else _matrix(adaptor)
        self.shift = shift if adaptor is None else shift + adaptor.bias
        self.first, self.second, self.last = _matrix(first, gain), _matrix(second), _matrix(last, 1 / gain)
        self.first_bias = first.bias * gain - shift @ self.first
        self.depthwise = (depthwise.weight / gain).contiguous(memory_format=torch.channels_last)
        self.depthwise_bias, self.padding = depthwise.bias, depthwise.padding
        order = torch.arange(4 * self.inner).view(-1, 4).t().flatten()
        self.wide = _matrix(wide, gain)[:, order].contiguous()
        self.wide_bias = wide.bias[order] * gain + (second.bias - shift) @ self.wide

    def __call__(self, x: Tensor) -> Tensor:
        picture, rows = x, rows_of(x)
        # A fresh matrix in either case, which what follows may add to.
        x = rows + self.shift if self.adaptor is None else torch.addmm(self.shift, rows, self.adaptor)
        inner = self.activation(torch.addmm(self.first_bias, x, self.first), inplace=True)
        inner = rows_of(F.conv2d(picture_of(inner, picture), self.depthwise, self.depthwise_bias,
                                 padding=self.padding, groups=self.inner))
        out = torch.addmm(x, inner, self.second) if self.shortcut else x.addmm_(inner, self.second)
        inner = self.activation(torch.addmm(self.wide_bias, out, self.wide), inplace=True)
        for size in (2 * self.inner, self.inner):
            inner = inner[:, :size].add_(inner[:, size:])
        out.addmm_(inner, self.last)
        return picture_of(out.add_(x) if self.shortcut else out, picture)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution: in `packed` one matrix product that leaves the picture channels last, where
    torch's convolution would copy it to and fro."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if not packs(x):
            return super().forward(x)
        return picture_of(F.linear(rows_of(x), self.weight.flatten(1), self.bias), x)


def downsampled(x: Tensor, layer: Pointwise) -> Tensor:
    """layer(pixel_unshuffle(x, 2)). In `packed` whole rows of channels move, and the weight is put in
    their order: that is less than moving every number of the picture."""
    if not packs(x):
        return layer(F.pixel_unshuffle(x, 2))
    batch, channels, height, width = x.shape
    rows = rows_of(x).view(batch, height // 2, 2, width // 2, 2, channels)
    weight = layer.weight.view(-1, channels, 2, 2).permute(0, 2, 3, 1).flatten(1)
    rows = F.linear(rows.transpose(2, 3).reshape(-1, 4 * channels), weight, layer.bias)
    return picture_of(rows, x[:, :, ::2, ::2])


def unshuffle(x: Tensor, side: int) -> Tensor:
    """F.pixel_unshuffle: squares of side x side to one position. In `packed` the result lies channels
    last, as the blocks want it, and comes in a third of the time."""
    if not packs(x):
        return F.pixel_unshuffle(x, side)
    batch, channels, height, width = x.shape
    squares = x.reshape(batch, channels, height // side, side, width // side, side)
    rows = squares.permute(0, 2, 4, 1, 3, 5).reshape(batch, height // side, width // side, -1)
    return rows.permute(0, 3, 1, 2)


def shuffle(x: Tensor, side: int) -> Tensor:
    """F.pixel_shuffle, the inverse of `unshuffle`; the result lies plane by plane."""
    if not packs(x):
        return F.pixel_shuffle(x, side)
    batch, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(batch, height, width, -1, side, side)
    return rows.permute(0, 3, 1, 4, 2, 5).reshape(batch, -1, height * side, width * side)
