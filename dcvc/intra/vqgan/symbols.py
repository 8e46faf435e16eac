"""What the rate models code: a VQGAN's codes, or the digits that a large code consists of.

A table with an entry for each of 2^18 codes could neither be learned nor coded with. Where a code
has digits (LFQ, FSQ), neighbouring digits make a group of at most 256 values, and each group is
coded by itself, as the levels of a residual quantizer are:

    LFQ, 18 bits        digits 2 2 2 2 2 2 | 2 2 2 2 2 2 | 2 2 2 2 2 2      sizes 64, 64, 64
    FSQ 8,8,8,5,5,5     digits 8 8 | 8 5 | 5 5                              sizes 64, 40, 25

    code 5263 of the FSQ: 5263 = 15 + 64 * (2 + 40 * 2)   ->  symbols 15, 2, 2

The first digits are the lowest part of the code. Codes without digits are symbols themselves.
"""

import math
from dataclasses import dataclass

import numpy as np

from dcvc.intra.vqgan.dimensions import LARGEST_DIGIT, VQGANConfig


def digit_groups(digits: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Neighbouring digits together: as few groups as LARGEST_DIGIT allows, as even as possible."""

    def greedy(limit: int) -> list[tuple[int, ...]]:
        groups: list[tuple[int, ...]] = []
        for digit in digits:
            if groups and math.prod(groups[-1]) * digit <= limit:
                groups[-1] += (digit,)
            else:
                groups.append((digit,))
        return groups

    if not digits:
        return ()
    fewest = len(greedy(LARGEST_DIGIT))
    # The least limit that needs no group more: sizes of 64, 64, 64 and not 256, 256, 4.
    return tuple(next(groups for limit in range(max(digits), LARGEST_DIGIT + 1)
                      if len(groups := greedy(limit)) == fewest))


def digits_of(config: VQGANConfig) -> tuple[int, ...]:
    """How many values each channel has; none where codes have no digits."""
    if config.variant in ("LFQ", "BSQ"):
        return (2,) * config.embed_dim
    return config.fsq_levels if config.variant == "FSQ" else ()


def sizes_of(config: VQGANConfig) -> tuple[int, ...]:
    """How many values each symbol of a position has."""
    digits = digits_of(config)
    return tuple(map(math.prod, digit_groups(digits))) or (config.n_embed,) * config.levels


@dataclass(frozen=True)
class Symbols:
    """levels: D of the codes. sizes: how many values each of the P symbols of a position has."""

    levels: int
    sizes: tuple[int, ...]

    @property
    def whole(self) -> bool:
        """Whether a symbol is a code."""
        return len(self.sizes) == self.levels

    def split(self, codes: np.ndarray) -> np.ndarray:
        """Codes `(..., D, h, w)` -> symbols `(..., P, h, w)`, int64."""
        if self.whole:
            return codes
        rest, symbols = codes[..., 0, :, :], []
        for size in self.sizes:
            symbols.append(rest % size)
            rest = rest // size
        return np.stack(symbols, axis=-3)

    def join(self, symbols: np.ndarray) -> np.ndarray:
        """The inverse of `split`."""
        if self.whole:
            return symbols
        code = np.zeros_like(symbols[..., 0, :, :])
        for number in reversed(range(len(self.sizes))):
            code = code * self.sizes[number] + symbols[..., number, :, :]
        return code[..., None, :, :]

    def per_code(self, bits: np.ndarray) -> np.ndarray:
        """Bits of symbols `(..., P, h, w)` -> of codes `(..., D, h, w)`."""
        return bits if self.whole else bits.sum(axis=-3, keepdims=True)
