"""Training of codebooks: running averages (van den Oord et al., 2017, appendix A), dead codes started anew."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dcvc.errors import InputError
from dcvc.intra.vqgan.model import VQGAN
from dcvc.intra.vqgan.quantizers import EMACodebook, nearest_codes

DEAD_BELOW = 0.02                                            # of the mean use: such a code is started anew
SMOOTHING = 1e-5


class CodebookTrainer:
    """Quantizes a batch of latents for training and moves the codebooks towards them.

    `quantize(z)` gives the quantized latent with the gradient of the identity, the commitment loss and the codes.
    The codebooks of EMAVQ, of the residual and of the product quantizer are trained; Gumbel and L2-normalised ones
    are loaded only.
    """

    def __init__(self, model: VQGAN, decay: float) -> None:
        self.variant, self.decay, self.quantizer = model.config.variant, decay, model.quantize
        if self.variant not in ("EMAVQ", "RVQ", "PQEMAVQ"):
            raise InputError(f"model_variant: found {self.variant}, needed EMAVQ (also residual) or PQEMAVQ to train")

    def quantize(self, z: Tensor, update: bool,
                 generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """z (B, E, h, w) -> quantized (B, E, h, w), commitment loss (0-dim), codes (B, D, h, w)."""
        with torch.no_grad():
            codes = self.quantizer.indices(z.detach())
            if update:
                for book, vectors, chosen in self._assignments(z.detach(), codes):
                    self._move(book, vectors, chosen, generator)
            quantized = self.quantizer.lookup(codes)
        return z + (quantized - z).detach(), F.mse_loss(z, quantized), codes

    def start(self, z: Tensor, generator: torch.Generator) -> None:
        """Put the codes on latents of the first batch: random codes far from all latents would mostly be dead."""
        with torch.no_grad():
            for book, vectors, _ in self._assignments(z, self.quantizer.indices(z)):
                scale = torch.rand(len(book.weight), 1, generator=generator)
                shrink = scale.to(z) if self.variant == "RVQ" else 1.0
                self._place(book, torch.arange(len(book.weight), device=z.device), vectors, generator, shrink)
                if self.variant != "RVQ":
                    self._settle(book, vectors)

    @staticmethod
    def _settle(book: EMACodebook, vectors: Tensor, rounds: int = 10) -> None:
        """k-means from the placed codes; one that nothing chooses stays where it is."""
        for _ in range(rounds):
            chosen = nearest_codes(vectors, book.weight)
            count = torch.bincount(chosen, minlength=len(book.weight)).to(vectors)
            total = torch.zeros_like(book.weight).index_add_(0, chosen, vectors)
            book.weight.data.copy_(torch.where(count[:, None] > 0, total / count.clamp_min(1)[:, None], book.weight))
        book.cluster_size.copy_(count.clamp_min(1e-3))
        book.embed_avg.copy_(book.weight * book.cluster_size[:, None])

    def _assignments(self, z: Tensor, codes: Tensor) -> list[tuple[EMACodebook, Tensor, Tensor]]:
        """(codebook, vectors (n, e), codes (n,)) of each codebook."""
        rows = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        flat = codes.permute(1, 0, 2, 3).flatten(1)
        if self.variant == "PQEMAVQ":
            slices = rows.chunk(len(self.quantizer.codebooks), dim=1)
            return list(zip(self.quantizer.codebooks, slices, flat, strict=True))
        residuals = [rows]
        for level in flat[:-1]:
            residuals.append(residuals[-1] - self.quantizer.embedding.weight[level])
        return [(self.quantizer.embedding, torch.cat(residuals), flat.flatten())]

    def _move(self, book: EMACodebook, vectors: Tensor, chosen: Tensor, generator: torch.Generator | None) -> None:
        count = torch.bincount(chosen, minlength=len(book.weight)).to(vectors)
        total = torch.zeros_like(book.embed_avg).index_add_(0, chosen, vectors)
        book.cluster_size.lerp_(count, 1 - self.decay)
        book.embed_avg.lerp_(total, 1 - self.decay)
        mass = book.cluster_size.sum()
        size = (book.cluster_size + SMOOTHING) / (mass + SMOOTHING * len(count)) * mass
        book.weight.data.copy_(book.embed_avg / size[:, None])
        dead = torch.nonzero(book.cluster_size < DEAD_BELOW * book.cluster_size.mean())[:, 0]
        if len(dead):
            self._place(book, dead, vectors, generator)

    @staticmethod
    def _place(book: EMACodebook, which: Tensor, vectors: Tensor, generator: torch.Generator | None,
               scale: Tensor | float = 1.0) -> None:
        drawn = torch.randint(len(vectors), (len(which),), generator=generator).to(vectors.device)
        # A little noise: two codes on the same vector would never part.
        noise = torch.randn(len(which), vectors.shape[1], generator=generator).to(vectors) * vectors.std() * 0.02
        book.weight.data[which] = vectors[drawn] * scale + noise
        book.cluster_size[which] = book.cluster_size.mean().clamp_min(1e-3)
        book.embed_avg[which] = book.weight.data[which] * book.cluster_size[which, None]


def perplexity(counts: Tensor) -> float:
    """exp of the entropy of codes seen `counts` (K,) times: how many codes are used, evenly counted."""
    share = counts.double() / counts.sum().clamp_min(1)
    return float(torch.exp(-(share * torch.log(share.clamp_min(1e-12))).sum()))


