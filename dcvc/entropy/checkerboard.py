"""Coding of y in two or four steps on a checkerboard.

The latent is split into sets of places. The first set is predicted from the hyperprior, each later
one also from the sets before it. Within a set nothing depends on anything else, so a whole picture
takes two (four) network passes, where an autoregressive model takes one a position or a diagonal
(wavefront.py).

    two steps:   0 1 0 1        four steps:   0 3 0 3
                 1 0 1 0                      2 1 2 1
                 0 1 0 1                      0 3 0 3

This is the step of each place for the first half (quarter) of the channels; the others take turns.
So at each place every step codes one half (quarter) of the channels.

What is coded is the integer r = round(y - mean), by a table for its scale. The mean shifts nothing
but r, so tables have mean zero, and only the number of a table and which places are left out must
be the same in the decoder:

    scale <= skip     not coded, r = 0: nearly sure to be zero, and much of the work
    otherwise         by the table of its class (scale_classes.py)

Where all scales are known after the first pass, y of a picture is one call of the coder.

Scales come from networks. Where these are exact (exact.py) any machine finds the same classes.
Otherwise both sides must compute alike: the same machine, library and number of threads.
"""

import functools
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from dcvc.entropy.by_quality import RATE_MIN, FactorizedByQuality
from dcvc.entropy.coder import SymbolDecoder, SymbolEncoder
from dcvc.entropy.conditional import likelihood
from dcvc.entropy.noise import uniform_noise
from dcvc.entropy.scale_classes import LOWEST
from dcvc.layers import lower_bound, round_straight_through

# Which of the four places of a 2x2 square (a b over c d) a quarter of the channels takes at each
# step.
FOUR_STEPS = ("abcd", "dcba", "cdab", "badc")
TWO_STEPS = (("ad", "bc"), ("bc", "ad"))

# number of the step, y_hat so far (zero where not yet coded) -> scale, or None for the scale of
# before, and mean
Predict = Callable[[int, Tensor], tuple[Tensor | None, Tensor]]


class VectorCoder(Protocol):
    """A model of integer vectors (B, 2, h, w), given those of the frame before or None."""

    def bits(self, vectors: Tensor, previous: Tensor | None) -> Tensor: ...

    def stream_bits(self, vectors: Tensor, previous: Tensor | None) -> Tensor: ...

    def push(self, vectors: Tensor, previous: Tensor | None, encoder: SymbolEncoder) -> Tensor: ...

    def pop(self, shape: tuple[int, ...], previous: Tensor | None,
            decoder: SymbolDecoder) -> tuple[Tensor, float]: ...


@functools.lru_cache(maxsize=32)
def step_masks(steps: int, shape: tuple[int, int, int], device: torch.device) -> tuple[Tensor, ...]:
    """The places of each step, bool `shape` = (C, H, W); every place belongs to one step."""
    channels, height, width = shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    # Which of a, b, c, d each place is: 0, 1, 2, 3.
    cell = 2 * (rows % 2) + columns % 2
    masks = []
    for groups in FOUR_STEPS if steps == 4 else TWO_STEPS:
        parts = [torch.isin(cell, torch.tensor(["abcd".index(letter) for letter in group]))
                 for group in groups]
        masks.append(torch.stack(parts).repeat_interleave(channels // len(parts), dim=0).to(device))
    return tuple(masks)


def gaussian_bits(residual: Tensor, scale: Tensor) -> Tensor:
    """Bits of each residual (y - mean) in an integer bin, same shape; 19.93 at most, as published.

    Raw scales may be any number: they are bounded at 0.11, trainable from below. Float32 under
    autocast."""
    with torch.autocast(residual.device.type, enabled=False):
        scale = lower_bound(scale.float(), LOWEST)
        # A plain clamp as published: a symbol that is out of all reach has no gradient.
        p = likelihood("gaussian", residual.float(), scale).clamp_min(1e-9)
        return lower_bound(-torch.log2(lower_bound(p, RATE_MIN)), 0.0)


class Latents:
    """What happens to the latents between analysis and synthesis.

    In eval mode the rates are those of the rounded values; in training noise takes the place of
    rounding in the rates, and rounding passes gradients straight through in what is decoded.

    bits: total bits of each latent, 0-dim float32. symbols, scales: of each latent coded so far,
    without gradients. exact: whether scales must be the same on every machine.
    """

    exact = False

    def __init__(self, noise: bool = False) -> None:
        self.noise = noise
        self.bits: dict[str, Tensor] = {}
        self.symbols: dict[str, Tensor] = {}
        self.scales: dict[str, Tensor] = {}

    def factorized(self, name: str, model: FactorizedByQuality, z: Tensor | None, row: Tensor,
                   shape: tuple[int, ...]) -> Tensor:
        """z (B, C, h, w), or None in a decoder, the rows of its samples and its shape -> z_hat."""
        z = z.float().contiguous()
        z_hat = round_straight_through(z)
        self.bits[name] = model.bits(self.noisy(name, z) if self.noise else z_hat, row)
        return z_hat

    def vectors(self, name: str, model: VectorCoder, vectors: Tensor | None,
                previous: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        """Motion vectors (B, 2, h, w), or None in a decoder, and those of the frame before."""
        # They are integers that were searched: no noise, and no gradient but the model's own.
        self.bits[name] = model.bits(vectors, previous)
        return vectors

    def conditional(self, name: str, y: Tensor | None, scale: Tensor, mean: Tensor,
                    predict: Predict, steps: int = 2, one_pass: bool = True) -> Tensor:
        """y (B, C, h, w), or None in a decoder; scale and mean of the first step -> y_hat.

        one_pass: the scales of the first step are those of all. Otherwise each step finds its own,
        and is a call of the coder."""
        if one_pass and self._in_loops(scale):
            return self._conditional_in_loops(name, y, scale, mean, predict, steps)
        # Plane by plane as a decoder's symbols are: the networks' last bits go with how their input
        # lies in memory.
        y = None if y is None else y.float().contiguous()
        scale, mean = scale.float().contiguous(), mean.float().contiguous()
        masks = step_masks(steps, tuple(scale.shape[1:]), scale.device)
        everywhere = torch.ones_like(masks[0])
        y_hat = residuals = symbols = scales = 0
        known = self.read(name, scale, everywhere) if one_pass else None
        for step, mask in enumerate(masks):
            if step:
                new, mean = predict(step, y_hat)
                scale = scale if new is None else new.float().contiguous()
                mean = mean.float().contiguous()
            if not one_pass:
                known = self.read(name, scale, mask)
            # Zero beyond the step's own places, so that sums over the steps put them together.
            residual = None if y is None else (y - mean) * mask
            # A decoder in one pass has popped all symbols already, and takes those of this step.
            symbol = self.quantise(residual, scale) if known is None else known * mask
            if not one_pass:
                self.write(name, symbol, scale, mask)
            y_hat = y_hat + symbol + mean * mask
            symbols, scales = symbols + symbol, scales + scale * mask
            residuals = residuals + (symbol if residual is None else residual)
        if one_pass:
            self.write(name, symbols, scales, everywhere)
        self.symbols[name], self.scales[name] = symbols.detach(), scales.detach()
        self.count(name, residuals, symbols, scales)
        return y_hat

    def _in_loops(self, scale: Tensor) -> bool:
        """Whether the compiled loops serve: for the symbols of one frame that are read or written."""
        return False

    def quantise(self, residual: Tensor, scale: Tensor) -> Tensor:
        return round_straight_through(residual)

    def noisy(self, name: str, x: Tensor) -> Tensor:
        """x with noise in the place of rounding."""
        return x + uniform_noise(x)

    def count(self, name: str, residual: Tensor, symbols: Tensor, scale: Tensor) -> None:
        value = self.noisy(name, residual) if self.noise else symbols
        self.bits[name] = gaussian_bits(value, scale).sum()

    def read(self, name: str, scale: Tensor, mask: Tensor) -> Tensor | None:
        """A decoder's symbols at the places of `mask` (C, H, W), zero elsewhere."""

    def write(self, name: str, symbols: Tensor, scale: Tensor, mask: Tensor) -> None:
        """What is done with the symbols of one call of the coder: an encoder pushes them."""

    def read_ahead(self, name: str, scale: Tensor) -> None:
        """The scales of all symbols are known: a decoder may read them before their means are."""

    def begin(self) -> None:
        """What can be written already is written now; `complete` must not be called meanwhile."""

    def complete(self) -> None:
        """All symbols of the frame are known."""
