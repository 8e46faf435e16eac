"""One step of a VQGAN's training.

    frames (B, 3, H, W) -> encoder -> z -> nearest codes (running averages) -> decoder -> x_hat
    loss = |x - x_hat| + mse_weight (x - x_hat)^2 + perceptual + losses of the quantizer
           [+ adversary after its start]

Fine-tuning starts from a file's weights, whatever the quantizer is, and may leave parts of the model
as they are. With encoder and codebook frozen, the codes are exactly those that the file gives.

What a step does depends on weights, optimizer, seed and the step's number only.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dcvc.errors import InputError
from dcvc.intra.vqgan.model import VQGAN
from dcvc.training.adversary import PatchDiscriminator, hinge_loss
from dcvc.training.state import TrainingState
from dcvc.training.vqgan.codebook_trainer import CodebookTrainer, CodeUse
from dcvc.training.vqgan.config import PARTS, VQGANTrainingConfig
from dcvc.training.vqgan.losses import PerceptualLoss
from dcvc.training.vqgan.quantizer_trainer import GradientQuantizer
from dcvc.weights import load_weights

WARM_UP_STEPS = 50


class VQGANStep:
    """`run(frames)` does one update and returns its numbers; `state` holds everything it
    changes.

    weights: what fine-tuning starts from, under our names. Raises InputError for a quantizer that
    can only be fine-tuned, and where nothing is left to train."""

    def __init__(self, config: VQGANTrainingConfig, device: torch.device,
                 weights: dict[str, Tensor] | None = None) -> None:
        # Of the networks' first weights; a step draws from generators of its own.
        torch.manual_seed(config.seed)
        self.config = config
        self.device = device
        self.model = VQGAN(config.model)
        if weights is not None:
            load_weights(self.model, weights, config.start or "the weights to start from")
        self.model.to(device, memory_format=torch.channels_last)
        self.frozen = frozenset(config.freeze)
        self.codebook = self._quantizer_trainer()
        self.perceptual = PerceptualLoss(
            config.perceptual, config.lpips_weights, config.dists_weights).to(device)
        # The codebooks have no gradients: running averages move them.
        self.trained = self._freeze()
        self.optimizer = torch.optim.Adam(self.trained, betas=(0.9, 0.99))
        self.adversary: PatchDiscriminator | None = None
        self.adversary_optimizer: torch.optim.Adam | None = None
        self.code_use = CodeUse(config.model.n_embed, device)
        # By these names the parts lie in latest.pt.
        parts = {"counts": self.code_use}
        if config.gan_weight > 0:
            self.adversary = PatchDiscriminator().to(device)
            self.adversary_optimizer = torch.optim.Adam(
                self.adversary.parameters(), betas=(0.5, 0.9))
            parts |= {"adversary": self.adversary, "adversary_optimizer": self.adversary_optimizer}
        self.state = TrainingState(model=self.model, optimizer=self.optimizer, others=parts)

    def _quantizer_trainer(self) -> CodebookTrainer | GradientQuantizer:
        # From nothing only running averages are known to find good codebooks here.
        config, fine_tuned = self.config, self.config.start is not None
        if not fine_tuned or config.model.variant in ("EMAVQ", "RVQ", "PQEMAVQ"):
            return CodebookTrainer(self.model, config.ema_decay, config.commitment, fine_tuned)
        return GradientQuantizer(self.model, config.commitment, config.entropy)

    def _freeze(self) -> list[torch.nn.Parameter]:
        """Take gradients from what is not trained; what is trained."""
        # Frozen weights still pass gradients on: an encoder learns through a frozen decoder.
        frozen = tuple(prefix for part in self.frozen for prefix in PARTS[part])
        for name, parameter in self.model.named_parameters():
            if frozen and name.startswith(frozen):
                parameter.requires_grad_(False)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        if not trained:
            raise InputError(f"--freeze: found {', '.join(sorted(self.frozen))}, which leaves no "
                             f"weights of a {self.config.model.variant} to train")
        return trained

    def learning_rate(self) -> float:
        """Of the next step: a short rise, then a cosine down to 2 %. Lower after going back."""
        config, done = self.config, self.state.step
        rise = min(1.0, (done + 1) / min(WARM_UP_STEPS, config.steps))
        fall = 0.51 + 0.49 * math.cos(math.pi * done / config.steps)
        return config.learning_rate * rise * fall * config.rollback_factor**self.state.rollbacks

    def run(self, frames: Tensor) -> dict[str, float]:
        """frames (B, 3, H, W) in [0, 1]. Counts the step in `state`.

        Returns loss, grad_norm, lr, psnr in dB, perplexity and codes_used of the codebook, and the
        adversary's loss while there is one. Where loss or grad_norm is not finite, the step was
        left out, codebooks included, and there are no other numbers.
        """
        self.model.train()
        rate = self.learning_rate()
        self.state.learning_rate = rate
        # Some hundred kilobytes: cheaper than finding out beforehand whether all latents are
        # finite.
        codebooks_before = self.codebook.copy()
        x = frames.to(self.device).contiguous(memory_format=torch.channels_last)
        x_hat, quantizer_loss, codes = self._code(x)
        mse = F.mse_loss(x_hat, x)
        fights = self.adversary is not None and self.state.step >= self.config.gan_start
        loss = self._loss(x, x_hat, mse, fights) + quantizer_loss
        gradient_norm = self._update(loss)
        self.state.step += 1
        if not math.isfinite(gradient_norm):
            # The forward pass has moved the codebooks already, perhaps onto latents that are NaN.
            self.codebook.restore(codebooks_before)
            return {"loss": loss.item(), "grad_norm": gradient_norm}
        numbers = {"loss": loss.item(), "psnr": -10 * math.log10(max(mse.item(), 1e-10)), "lr": rate}
        # After the codec's own update, on the same frames: they take turns.
        if fights:
            numbers["adversary"] = self._train_adversary(x, x_hat.detach(), rate)
        self.code_use.add(codes)
        numbers["perplexity"] = self.code_use.perplexity()
        numbers["codes_used"] = self.code_use.used()
        numbers["grad_norm"] = gradient_norm
        return numbers

    def _code(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x in [0, 1] -> x_hat, losses of the quantizer, codes. Moves the codebooks once codes have
        come in."""
        # The networks of published files see frames in [-1, 1].
        if {"encoder", "codebook"} <= self.frozen:
            # As the codec does it: also of a quantizer that would draw at random in training.
            with torch.no_grad():
                z = self.model.prequant(x * 2 - 1)
                codes = self.model.quantize.indices(z)
                quantized = self.model.quantize.lookup(codes, tuple(z.shape[-2:]))
            return self.model.decode_latent(quantized) * 0.5 + 0.5, z.new_zeros(()), codes
        z = self.model.prequant(x * 2 - 1)
        quantizes = self.state.step >= self.config.quantize_from
        generator = torch.Generator().manual_seed((self.config.seed << 32) + self.state.step)
        # Not only at the very step `quantize_from`: that one may have been left out.
        if quantizes and self.codebook.is_new():
            self.codebook.start(z.detach(), generator)
        quantized, losses, codes = self.codebook.quantize(
            z, update=quantizes and "codebook" not in self.frozen, generator=generator)
        if not quantizes:
            quantized, losses = z, z.new_zeros(())
        return self.model.decode_latent(quantized) * 0.5 + 0.5, losses, codes

    def distortion(self, x: Tensor, x_hat: Tensor, mse: Tensor) -> Tensor:
        """What frames in [0, 1] are judged by, in training and on held-out frames."""
        loss = F.l1_loss(x_hat, x) + self.config.mse_weight * mse
        return loss + self.config.perceptual_weight * self.perceptual(x_hat, x)

    def _loss(self, x: Tensor, x_hat: Tensor, mse: Tensor, fights: bool) -> Tensor:
        loss = self.distortion(x, x_hat, mse)
        # The codec wants its frames to be taken for real, that is, a high score.
        if fights:
            loss = loss - self.config.gan_weight * self.adversary(x_hat).mean()
        return loss

    def _update(self, loss: Tensor) -> float:
        """The gradient's norm; an update whose loss or gradient is not finite is left out."""
        if not bool(torch.isfinite(loss)):
            return math.nan
        # The adversary gets gradients here as well; its own update clears them first.
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.trained, self.config.grad_clip_max_norm).item()
        if math.isfinite(norm):
            self.optimizer.step()
        return norm

    def _train_adversary(self, x: Tensor, x_hat: Tensor, rate: float) -> float:
        self.adversary_optimizer.param_groups[0]["lr"] = rate
        loss = hinge_loss(self.adversary(x), self.adversary(x_hat))
        self.adversary_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.adversary_optimizer.step()
        return loss.item()

    @torch.no_grad()
    def reconstruct(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, H, W) in [0, 1] as the codec shows them."""
        self.model.eval()
        return reconstruct(self.model, frames.to(self.device))[0]


@torch.no_grad()
def reconstruct(model: VQGAN, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Frames (B, 3, H, W) in [0, 1], sides multiples of f -> the same as coded, and the codes."""
    codes = model.encode(frames * 2 - 1)
    grid = frames.shape[-2] // model.config.factor, frames.shape[-1] // model.config.factor
    return model.decode(codes, grid).mul(0.5).add(0.5).clamp(0, 1), codes
