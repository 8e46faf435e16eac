"""Training of codebooks by running averages (van den Oord et al., 2017, appendix A).

    latents z  ──nearest code──>  which latents chose code k:  n_k of them, with sum s_k
    N_k <- d N_k + (1 - d) n_k          (cluster_size)
    S_k <- d S_k + (1 - d) s_k          (embed_avg)
    code k <- S_k / N_k                 so a code follows the mean of the latents that choose it

A code that nothing chooses keeps its place for ever: it is dead. It is put on a latent of the
present batch, where something will choose it. The encoder learns through the quantizer as if that
were the identity.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dcvc.errors import InputError
from dcvc.intra.vqgan.model import VQGAN
from dcvc.intra.vqgan.quantizers import EMACodebook, nearest_codes

DEAD_BELOW = 0.02                        # of the mean use: such a code is started anew
SMOOTHING = 1e-5                         # keeps S_k / N_k finite for a code that is hardly used
SMALLEST_SIZE = 1e-3                     # of a code that has just been placed, for the same reason


class CodebookTrainer:
    """Quantizes a batch of latents for training and moves the codebooks towards them.

    The codebooks of EMAVQ, of the residual and of the product quantizer are trained;
    the others by gradients (dcvc.training.vqgan.quantizer_trainer). Raises InputError for those.
    commitment: weight of the distance between latents and codes. placed: the codes are where they
    should be, as those of a file are.
    """

    def __init__(self, model: VQGAN, decay: float, commitment: float = 1.0,
                 placed: bool = False) -> None:
        self.variant = model.config.variant
        self.decay, self.commitment, self.placed = decay, commitment, placed
        self.quantizer = model.quantize
        if self.variant not in ("EMAVQ", "RVQ", "PQEMAVQ"):
            raise InputError(f"model_variant: found {self.variant}, needed EMAVQ (also residual) or "
                             "PQEMAVQ to train")

    def books(self) -> list[EMACodebook]:
        product = self.variant == "PQEMAVQ"
        return list(self.quantizer.codebooks) if product else [self.quantizer.embedding]

    def quantize(self, z: Tensor, update: bool,
                 generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """z (B, E, h, w) -> quantized (B, E, h, w) with the gradient of the identity, commitment
        loss (0-dim, weighted), codes (B, D, h, w). update: move the codebooks first."""
        with torch.no_grad():
            # The codes are those of before the move; what they stand for is that of after it.
            codes = self.quantizer.indices(z.detach())
            if update:
                for book, vectors, chosen in self._assignments(z.detach(), codes):
                    self._move(book, vectors, chosen, generator)
            quantized = self.quantizer.lookup(codes)
        # Its value is `quantized`, its gradient goes to z: the straight-through estimator.
        loss = self.commitment * F.mse_loss(z, quantized)
        return z + (quantized - z).detach(), loss, codes

    @torch.no_grad()
    def start(self, z: Tensor, generator: torch.Generator) -> None:
        """Put the codes on latents of a batch: random codes far from all latents would mostly be
        dead."""
        for book, vectors, _ in self._assignments(z, self.quantizer.indices(z)):
            everyone = torch.arange(len(book.weight), device=z.device)
            scale = torch.rand(len(book.weight), 1, generator=generator)
            # Later levels of a residual quantizer see ever smaller vectors: codes of all lengths.
            shrink = scale.to(z) if self.variant == "RVQ" else 1.0
            self._place(book, everyone, vectors, generator, shrink)
            if self.variant != "RVQ":
                self._settle(book, vectors)

    def is_new(self) -> bool:
        """Whether no batch has moved the codebooks yet: every code still counts as chosen once."""
        return not self.placed and all(bool((book.cluster_size == 1).all()) for book in self.books())

    def copy(self) -> dict[str, Tensor]:
        """The codebooks as they are, for `restore`."""
        return {name: value.clone() for name, value in self.quantizer.state_dict().items()}

    def restore(self, copy: dict[str, Tensor]) -> None:
        self.quantizer.load_state_dict(copy)

    @staticmethod
    def _settle(book: EMACodebook, vectors: Tensor, rounds: int = 10) -> None:
        """k-means from the placed codes; one that nothing chooses stays where it is."""
        # On a single batch k-means hardly moves any more after ten rounds.
        for _ in range(rounds):
            chosen = nearest_codes(vectors, book.weight)
            count = torch.bincount(chosen, minlength=len(book.weight)).to(vectors)
            total = torch.zeros_like(book.weight).index_add_(0, chosen, vectors)
            mean = total / count.clamp_min(1)[:, None]
            book.weight.data.copy_(torch.where(count[:, None] > 0, mean, book.weight))
        book.cluster_size.copy_(count.clamp_min(SMALLEST_SIZE))
        book.embed_avg.copy_(book.weight * book.cluster_size[:, None])

    def _assignments(self, z: Tensor, codes: Tensor) -> list[tuple[EMACodebook, Tensor, Tensor]]:
        """(codebook, vectors (n, e), codes (n,)) of each codebook."""
        rows = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        flat = codes.permute(1, 0, 2, 3).flatten(1)
        # Each table of a product quantizer sees its own slice of the channels.
        if self.variant == "PQEMAVQ":
            slices = rows.chunk(len(self.quantizer.codebooks), dim=1)
            return list(zip(self.quantizer.codebooks, slices, flat, strict=True))
        # One table serves all levels: level 2 quantizes what level 1 left over, and so on.
        residuals = [rows]
        for level in flat[:-1]:
            residuals.append(residuals[-1] - self.quantizer.embedding.weight[level])
        return [(self.quantizer.embedding, torch.cat(residuals), flat.flatten())]

    def _move(self, book: EMACodebook, vectors: Tensor, chosen: Tensor,
              generator: torch.Generator | None) -> None:
        """One step of the running averages drawn at the top of this file."""
        count = torch.bincount(chosen, minlength=len(book.weight)).to(vectors)
        total = torch.zeros_like(book.embed_avg).index_add_(0, chosen, vectors)
        book.cluster_size.lerp_(count, 1 - self.decay)
        book.embed_avg.lerp_(total, 1 - self.decay)
        # Laplace smoothing; the sizes still add up to the same mass.
        mass = book.cluster_size.sum()
        size = (book.cluster_size + SMOOTHING) / (mass + SMOOTHING * len(count)) * mass
        book.weight.data.copy_(book.embed_avg / size[:, None])
        # After the averages: a code is dead by what it was used for lately, this batch included.
        dead = torch.nonzero(book.cluster_size < DEAD_BELOW * book.cluster_size.mean())[:, 0]
        if len(dead):
            self._place(book, dead, vectors, generator)

    @staticmethod
    def _place(book: EMACodebook, which: Tensor, vectors: Tensor,
               generator: torch.Generator | None, scale: Tensor | float = 1.0) -> None:
        """Put the codes `which` on vectors drawn at random. They count as used like the mean code,
        or the next step would find them dead again."""
        drawn = torch.randint(len(vectors), (len(which),), generator=generator).to(vectors.device)
        # A little noise: two codes on the same vector would never part.
        noise = torch.randn(len(which), vectors.shape[1], generator=generator).to(vectors)
        book.weight.data[which] = vectors[drawn] * scale + noise * vectors.std() * 0.02
        book.cluster_size[which] = book.cluster_size.mean().clamp_min(SMALLEST_SIZE)
        book.embed_avg[which] = book.weight.data[which] * book.cluster_size[which, None]


class CodeUse:
    """How often each of K codes was chosen lately: a count that forgets 2 % a step."""

    def __init__(self, codes: int, device: torch.device | str) -> None:
        self.counts = torch.zeros(codes, device=device)

    def add(self, codes: Tensor) -> None:
        """codes: int64, of any shape."""
        chosen = torch.bincount(codes.flatten(), minlength=len(self.counts))
        self.counts.mul_(0.98).add_(chosen)

    def perplexity(self) -> float:
        """exp of the entropy: K when all codes are used evenly, 1 when one is used alone."""
        # In double: a sum of many small shares, of which some are nearly 0.
        share = self.counts.double() / self.counts.sum().clamp_min(1)
        return float(torch.exp(-(share * torch.log(share.clamp_min(1e-12))).sum()))

    def used(self) -> float:
        """Codes chosen within about the last 35 steps: 0.98^35 is 0.5."""
        return float((self.counts > 0.5).sum())

    # A tensor and not a table of tensors, as in the files written before this class was.
    def state_dict(self) -> Tensor:
        return self.counts.cpu()

    def load_state_dict(self, counts: Tensor) -> None:
        self.counts.copy_(counts)
