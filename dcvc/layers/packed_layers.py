"""Layers of the light codecs beside their blocks, with a form for `packed` (packed.py): 1x1 convolutions, and
changes of resolution. `of` is a layer's form for arrays (B, H, W, C), see chains.py."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcvc.device.workers import share
from dcvc.layers.made_of_weights import MadeOfWeights
from dcvc.layers.packed import (
    _CUT,
    BAND,
    SMALL_BAND,
    Cut,
    Product,
    _matrix,
    full,
    matrix_panels,
    packs,
    seen,
    shown,
)
from dcvc.layers.trained import (
    in_float32_on_cpu,
    trained_patches,
    trained_planes,
    trained_pointwise,
    trained_rows,
    trained_squares,
    trains_in_loops,
)


class _ChainedConvolution(nn.Conv2d):
    """A convolution as a layer of a chain."""

    reach, unit = 0, 1

    @property
    def outputs(self) -> int:
        return self.out_channels

    @property
    def watched(self) -> bool:
        return bool(self._forward_hooks or self._forward_pre_hooks)


class Pointwise(_ChainedConvolution):
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
        return shown(self.of([seen(x)], _CUT.get()))

    def of(self, parts: list[np.ndarray], cut: Cut, out: np.ndarray | None = None) -> np.ndarray:
        product = self._product.get(self.parameters, lambda: Product(_matrix(self), self.bias))
        return product.of(parts[0], out=out)


class Downsampling(_ChainedConvolution):
    """Each 2x2 square to one position by a 1x1 convolution of pixel_unshuffle(x, 2). In `packed` whole rows
    of channels move, and the weight is put in their order: that is less than moving every number of the
    picture."""

    unit = 2

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(4 * inputs, outputs, 1)
        self._product: MadeOfWeights[Product] = MadeOfWeights()

    def forward(self, x: Tensor) -> Tensor:
        if not packs(x):
            x = trained_rows(x, 2) if in_float32_on_cpu(x) else F.pixel_unshuffle(x, 2)
            if trains_in_loops(x, self.weight):
                return trained_pointwise(x, self.weight, self.bias)
            return super().forward(x)
        return shown(self.of([seen(x)], _CUT.get()))

    def of(self, parts: list[np.ndarray], cut: Cut, out: np.ndarray | None = None) -> np.ndarray:
        batch, height, width, channels = parts[0].shape
        squares = parts[0].reshape(batch, height // 2, 2, width // 2, 2, channels).swapaxes(2, 3)
        product = self._product.get(self.parameters, self._pack)
        return product.of(squares.reshape(batch, height // 2, width // 2, 4 * channels), out=out)

    def _pack(self) -> Product:
        matrix = _matrix(self).unflatten(0, (-1, 4)).transpose(0, 1).flatten(0, 1)
        return Product(matrix, self.bias)


class HalvingConvolution(_ChainedConvolution):
    """A 3x3 convolution with a stride of 2, of pictures with even sides: in `packed` a matrix product
    of squares. Its reach is 1: in a band there is a row more above and below."""

    reach, unit = 1, 2

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, stride=2, padding=1)
        self._product: MadeOfWeights[Product] = MadeOfWeights()

    def forward(self, x: Tensor) -> Tensor:
        if not packs(x):
            return super().forward(x)
        return shown(self.of([seen(x)], _CUT.get()))

    def of(self, parts: list[np.ndarray], cut: Cut, out: np.ndarray | None = None,
           gain: np.ndarray | None = None) -> np.ndarray:
        """gain (1 or B, C): what the picture is multiplied with first."""
        from dcvc.layers.packed_loops import squares_of_three

        (batch, height, width, channels), (above, below) = parts[0].shape, cut
        gain = np.ones((1, channels), np.float32) if gain is None else gain
        squares = np.empty((batch, (height - above - below) // 2, width // 2, 9 * channels), np.float32)
        # In a band, the row above is the first one; in the picture there is none, and zeros instead.
        for n, picture in enumerate(np.ascontiguousarray(parts[0])):
            squares_of_three(picture, 0 if above else -1, gain[min(n, len(gain) - 1)], squares[n])
        return self._product.get(self.parameters, self._pack).of(squares, out=out)

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


class Upsampling:
    """Rows at half the size -> what a matrix (inputs, 4 outputs) makes of each for a square of 2x2; the matrix
    has all channels of one place after the other."""

    def __init__(self, matrix: Tensor) -> None:
        from dcvc.layers.packed_loops import product_of_squares

        self.run = product_of_squares
        # A row of squares is two rows of the result, of which each position of the input makes two positions.
        self.panels = torch.stack([matrix_panels(half) for half in matrix.chunk(2, dim=1)]).numpy()

    def added(self, x: Tensor, known: Tensor) -> Tensor:
        """known (1, outputs, 2 h, 2 w), channels last, which it changes, and what x (1, inputs, h, w) adds."""
        rows, out = full(seen(x)[0]), seen(known)[0]
        height, width = rows.shape[:2]
        lines = out.reshape(2 * height, width, -1)
        bands = range(0, height, SMALL_BAND)
        share(lambda first: self.run(rows[first:first + SMALL_BAND], self.panels,
                                     lines[2 * first:2 * (first + SMALL_BAND)]), bands)
        return known


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
