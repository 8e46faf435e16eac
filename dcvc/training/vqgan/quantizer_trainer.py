"""How a quantizer is trained by gradients: what the decoder sees, which losses, for each of them.

z is the encoder's latent, q what the codes stand for, sg(…) stops the gradient, b is `commitment`.
The decoder sees q, and its gradient goes to z as if z were q (straight-through): z + sg(q - z).

    variant    decoder sees                       losses
    VQModel    z + sg(q - z)                      |q - sg(z)|^2 + b |z - sg(q)|^2
    IBQ        one-hot of the best score, with    |q' - z|^2 + |sg(q) - z|^2 + b |q - sg(z)|^2,
               the soft-max's gradient, times     and entropy (below); q' is what the decoder sees
               the table: every row learns
    LFQ BSQ    z + sg(q - z)                      b |z - sg(q)|^2, and entropy; BSQ: z of length 1
    FSQ        bounded z, rounded straight-       none
               through
    GumbelVQ   one-hot of a random draw by the    5e-4 KL(scores | uniform)
               scores, with the soft-max's
               gradient, times the table
    VAR        z + sg(q - z), q of all scales     mean over scales s of |q_s - sg(z)|^2
                                                  + b |z - sg(q_s)|^2, q_s the sum up to s

The running averages of EMAVQ, RVQ, PQEMAVQ are in dcvc.training.vqgan.codebook_trainer.

Entropy (Yu et al., 2024): each latent should be sure of its code, and all codes should be used:
mean of H(p) - H(mean of p), p the soft-max of scores / 0.01. For codes of bits p has independent
bits, so the first term is the sum of theirs; the second is taken over groups of bits, as coded.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dcvc.intra.vqgan.codebooks import code_map
from dcvc.intra.vqgan.model import VQGAN
from dcvc.intra.vqgan.symbols import digit_groups

# What the decoder sees `(B, E, h, w)`, the losses' sum, codes `(B, D, h, w)`.
Quantized = tuple[Tensor, Tensor, Tensor]
ENTROPY_TEMPERATURE = 0.01
# Where the published training of GumbelVQ ends, and its weight of the divergence.
GUMBEL_TEMPERATURE, GUMBEL_WEIGHT = 1 / 16, 5e-4
TINY = 1e-9


class GradientQuantizer:
    """Quantizes latents for training; the quantizer's own weights learn by the loss.

    commitment, entropy: weights of those losses. It has the methods of a CodebookTrainer, of which
    most have nothing to do here."""

    def __init__(self, model: VQGAN, commitment: float, entropy: float) -> None:
        self.quantizer = model.quantize
        self.config = model.config
        self.commitment, self.entropy = commitment, entropy
        self.kind: Callable[[Tensor, torch.Generator | None], Quantized] = {
            "VQModel": self._nearest, "IBQ": self._by_product, "LFQ": self._bits, "BSQ": self._bits,
            "FSQ": self._rounded, "GumbelVQ": self._drawn, "VAR": self._scales,
        }[self.config.variant]

    def quantize(self, z: Tensor, update: bool,
                 generator: torch.Generator | None = None) -> Quantized:
        """z `(B, E, h, w)` -> what the decoder sees, loss (0-dim), codes. update: nothing here."""
        return self.kind(z, generator)

    def start(self, z: Tensor, generator: torch.Generator) -> None:
        """Nothing: the codebook of a file is where it should be."""

    def is_new(self) -> bool:
        return False

    def copy(self) -> dict[str, Tensor]:
        """Nothing that a forward pass could have changed."""
        return {}

    def restore(self, copy: dict[str, Tensor]) -> None:
        """See `copy`."""

    def _nearest(self, z: Tensor, _: torch.Generator | None) -> Quantized:
        codes = self.quantizer.indices(z.detach())
        rows = self.quantizer.lookup(codes)
        # Where codes are chosen by direction, lengths are nothing to learn.
        z = F.normalize(z, dim=1) if self.config.l2_norm else z
        return _straight(z, rows), self._two_way(rows, z), codes

    def _two_way(self, rows: Tensor, z: Tensor) -> Tensor:
        return F.mse_loss(rows, z.detach()) + self.commitment * F.mse_loss(z, rows.detach())

    def _by_product(self, z: Tensor, _: torch.Generator | None) -> Quantized:
        table = self.quantizer.codebook()
        scores = torch.einsum("behw,ke->bhwk", z, table)
        codes = self.quantizer.indices(z.detach())
        # The value of the one row that is taken, and the gradient of a mixture of all rows: so the
        # rows that were not taken learn too, and none of a large table dies.
        hard = F.one_hot(codes[:, 0], len(table)).to(scores)
        soft = scores.softmax(-1)
        seen = ((hard - soft).detach() + soft) @ table
        seen = seen.permute(0, 3, 1, 2).contiguous()
        rows = code_map(table[codes[:, 0]], codes[:, 0])
        loss = (F.mse_loss(seen, z) + F.mse_loss(rows.detach(), z)
                + self.commitment * F.mse_loss(rows, z.detach()))
        if self.entropy:
            loss = loss + self.entropy * _entropy_loss(scores.flatten(0, 2) / ENTROPY_TEMPERATURE)
        return seen, loss, codes

    def _bits(self, z: Tensor, _: torch.Generator | None) -> Quantized:
        codes = self.quantizer.indices(z.detach())
        rows = self.quantizer.lookup(codes)
        # A sign does not depend on the length; on BSQ's sphere all lengths are 1.
        z = F.normalize(z, dim=1) if self.config.variant == "BSQ" else z
        loss = self.commitment * F.mse_loss(z, rows)
        if self.entropy:
            # The scores of a bit's two values are 2 z v and -2 z v: their difference is 4 z v.
            value = rows.abs().mean()
            chance = torch.sigmoid(4 * z * value / ENTROPY_TEMPERATURE)
            loss = loss + self.entropy * self._bit_entropy(chance)
        return _straight(z, rows), loss, codes

    def _bit_entropy(self, chance: Tensor) -> Tensor:
        """chance: of each bit to be 1, `(B, E, h, w)`."""
        chance = chance.movedim(1, -1).flatten(0, -2)
        single = -(chance * torch.log(chance + TINY)
                   + (1 - chance) * torch.log(1 - chance + TINY)).sum(-1).mean()
        # Of all 2^18 codes at once the mean could not be held. Bits of a group are taken together,
        # and the groups as if they had nothing to do with each other.
        together, first = 0.0, 0
        for group in digit_groups(self.quantizer.digits):
            probability = torch.ones_like(chance[:, :1])
            for bit in range(first, first + len(group)):
                # The first bit is the lowest place, so a new one goes in front.
                both = torch.stack([1 - chance[:, bit], chance[:, bit]], dim=-1)
                probability = (both[:, :, None] * probability[:, None, :]).flatten(1)
            together = together + _entropy(probability.mean(0))
            first += len(group)
        return single - together

    def _rounded(self, z: Tensor, _: torch.Generator | None) -> Quantized:
        codes = self.quantizer.indices(z.detach())
        bounded = self.quantizer.bounded(z)
        return _straight(bounded, self.quantizer.lookup(codes)), z.new_zeros(()), codes

    def _drawn(self, z: Tensor, generator: torch.Generator | None) -> Quantized:
        scores = self.quantizer.proj(z).movedim(1, -1)
        # Gumbel's noise makes the largest score a draw by the soft-max of them.
        uniform = torch.rand(scores.shape, generator=generator).clamp(TINY, 1 - 1e-6).to(scores)
        noisy = (scores - torch.log(-torch.log(uniform))) / GUMBEL_TEMPERATURE
        codes, soft = noisy.argmax(-1), noisy.softmax(-1)
        table = self.quantizer.embed.weight
        hard = F.one_hot(codes, len(table)).to(soft)
        seen = ((hard - soft).detach() + soft) @ table
        # Without noise: how far the scores themselves are from taking every code alike.
        sure = scores.softmax(-1)
        divergence = (sure * (torch.log_softmax(scores, -1) + math.log(len(table)))).sum(-1).mean()
        return seen.permute(0, 3, 1, 2).contiguous(), GUMBEL_WEIGHT * divergence, codes[:, None]

    def _scales(self, z: Tensor, _: torch.Generator | None) -> Quantized:
        codes = self.quantizer.indices(z.detach())
        total, loss = torch.zeros_like(z), z.new_zeros(())
        # With gradients this time, to the table and to the convolutions that smooth its rows.
        parts = self.quantizer.parts(codes, tuple(z.shape[-2:]))
        for part in parts:
            total = total + part
            loss = loss + self._two_way(total, z) / len(parts)
        return _straight(z, total), loss, codes


def _straight(z: Tensor, rows: Tensor) -> Tensor:
    """The value of rows, the gradient of z."""
    return z + (rows - z).detach()


def _entropy(probability: Tensor) -> Tensor:
    return -(probability * torch.log(probability + TINY)).sum()


def _entropy_loss(scores: Tensor) -> Tensor:
    """scores `(n, K)`: how unsure each row is of its code, less how evenly all are used."""
    probability = scores.softmax(-1)
    single = -(probability * scores.log_softmax(-1)).sum(-1).mean()
    return single - _entropy(probability.mean(0))
