"""Codes without a table: every channel of the latent is rounded to a few values, its digit.

    variant   values of a channel                       digit               source
    LFQ       -1, 1                                     1 where z > 0       Yu et al., 2024
    BSQ       -1/sqrt(E), 1/sqrt(E)                     the same            Zhao et al., 2024
    FSQ       L evenly spaced ones, 1/floor(L/2) apart  see below           Mentzer et al., 2024

The code is the number with those digits, the first channel's the lowest. LFQ by example, E = 3:

    z = [0.3, -2, 0.1]   digits 1, 0, 1   code 1 + 0 * 2 + 1 * 4 = 5   looked up [1, -1, 1]

FSQ bounds z by a tanh that is a little wider than the values, and rounds:

    half = 1.001 (L - 1) / 2, off = 1/2 for an even L and else 0
    q = round(tanh(z + atanh(off / half)) * half - off)        -floor(L/2) ... L - 1 - floor(L/2)
    L = 5, z = 0.4: half 2.002, tanh(0.4) * 2.002 = 0.76, q = 1, digit 3, looked up 1/2
"""

import math

import torch
from torch import Tensor

from dcvc.intra.vqgan.codebooks import Grid, Quantizer
from dcvc.intra.vqgan.dimensions import VQGANConfig
from dcvc.intra.vqgan.symbols import digit_groups, digits_of


class DigitQuantizer(Quantizer):
    """digits: how many values each channel has. A subclass says which, by its two methods."""

    def __init__(self, digits: tuple[int, ...]) -> None:
        super().__init__()
        self.digits = digits

    def digits_of(self, z: Tensor) -> Tensor:
        """`(B, E, h, w)` -> the digit of each channel, int64 of the same shape."""
        raise NotImplementedError

    def value_of(self, digit: Tensor, sizes: Tensor) -> Tensor:
        """Digits of channels that have `sizes` values -> float32 of the same shape."""
        raise NotImplementedError

    def tables(self) -> list[Tensor]:
        """Of each group of digits the vectors that its values stand for."""
        tables = []
        for group in digit_groups(self.digits):
            symbols = torch.arange(math.prod(group))[:, None]
            places = torch.tensor([math.prod(group[:k]) for k in range(len(group))])
            sizes = torch.tensor(group)
            tables.append(self.value_of(symbols // places % sizes, sizes))
        return tables

    def indices(self, z: Tensor) -> Tensor:
        digits, code = self.digits_of(z), torch.zeros_like(z[:, :1], dtype=torch.int64)
        # From the last channel, the highest place, down.
        for channel in reversed(range(len(self.digits))):
            code = code * self.digits[channel] + digits[:, channel:channel + 1]
        return code

    def lookup(self, indices: Tensor, grid: Grid = None) -> Tensor:
        rest, digits = indices[:, 0], []
        for size in self.digits:
            digits.append(rest % size)
            rest = rest // size
        return self.value_of(torch.stack(digits, dim=1), self._per_channel(indices.device))

    def _per_channel(self, device: torch.device) -> Tensor:
        return torch.tensor(self.digits, device=device)[:, None, None]


class BinaryQuantizer(DigitQuantizer):
    """LFQ and BSQ: one bit a channel."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__(digits_of(config))
        # On the sphere of BSQ all vectors have length 1.
        self.scale = config.embed_dim**-0.5 if config.variant == "BSQ" else 1.0

    def digits_of(self, z: Tensor) -> Tensor:
        return (z > 0).to(torch.int64)

    def value_of(self, digit: Tensor, sizes: Tensor) -> Tensor:
        return (2 * digit - 1).to(torch.float32) * self.scale


class FiniteScalarQuantizer(DigitQuantizer):
    """FSQ."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__(digits_of(config))

    def digits_of(self, z: Tensor) -> Tensor:
        # round() takes the even of two whole numbers that are as near, as the original does.
        rounded = torch.round(self._wide(z)).to(torch.int64)
        return rounded + self._per_channel(z.device) // 2

    def _wide(self, z: Tensor) -> Tensor:
        """What is rounded to q."""
        halves = [1.001 * (size - 1) / 2 for size in self.digits]
        offsets = [0.0 if size % 2 else 0.5 for size in self.digits]
        shifts = [math.atanh(off / half) for off, half in zip(offsets, halves, strict=True)]
        half, off, shift = (torch.tensor(values, dtype=z.dtype, device=z.device)[:, None, None]
                            for values in (halves, offsets, shifts))
        return torch.tanh(z + shift) * half - off

    def bounded(self, z: Tensor) -> Tensor:
        """z `(B, E, h, w)` in the range of the values and before it is rounded to them, for
        training."""
        return self._wide(z) / (self._per_channel(z.device) // 2)

    def value_of(self, digit: Tensor, sizes: Tensor) -> Tensor:
        middle = sizes // 2
        return (digit - middle).to(torch.float32) / middle.to(torch.float32)
