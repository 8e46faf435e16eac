"""One step of a VQGAN's training.

    frames (B, 3, H, W) -> encoder -> z -> nearest codes (running averages) -> decoder -> x_hat
    loss = |x - x_hat| + mse_weight (x - x_hat)^2 + perceptual + commitment
           [+ adversary after its start]

What a step does depends on weights, optimizer, seed and the step's number only.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dcvc.intra.vqgan.model import VQGAN
from dcvc.training.state import TrainingState
from dcvc.training.vqgan.codebook_trainer import CodebookTrainer, CodeUse
from dcvc.training.vqgan.config import VQGANTrainingConfig
from dcvc.training.vqgan.losses import PatchDiscriminator, PerceptualLoss, hinge_loss

WARM_UP_STEPS = 50


class VQGANStep:
    """`run(frames)` does one update and returns its numbers; `state` holds everything it
    changes."""

    def __init__(self, config: VQGANTrainingConfig, device: torch.device) -> None:
        # Of the networks' first weights; a step draws from generators of its own.
        torch.manual_seed(config.seed)
        self.config = config
        self.device = device
        self.model = VQGAN(config.model).to(device, memory_format=torch.channels_last)
        self.codebook = CodebookTrainer(self.model, config.ema_decay)
        self.perceptual = PerceptualLoss(config.perceptual, config.lpips_weights).to(device)
        # The codebooks have no gradients: running averages move them.
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
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
        x_hat, commitment, codes = self._code(x)
        mse = F.mse_loss(x_hat, x)
        fights = self.adversary is not None and self.state.step >= self.config.gan_start
        loss = self._loss(x, x_hat, mse, commitment, fights)
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
        """x in [0, 1] -> x_hat, commitment loss, codes. Moves the codebooks once codes have come
        in."""
        # The networks of published files see frames in [-1, 1].
        z = self.model.prequant(x * 2 - 1)
        quantizes = self.state.step >= self.config.quantize_from
        generator = torch.Generator().manual_seed((self.config.seed << 32) + self.state.step)
        # Not only at the very step `quantize_from`: that one may have been left out.
        if quantizes and self.codebook.is_new():
            self.codebook.start(z.detach(), generator)
        quantized, commitment, codes = self.codebook.quantize(
            z, update=quantizes, generator=generator)
        if not quantizes:
            quantized, commitment = z, z.new_zeros(())
        return self.model.decode_latent(quantized) * 0.5 + 0.5, commitment, codes

    def _loss(self, x: Tensor, x_hat: Tensor, mse: Tensor, commitment: Tensor,
              fights: bool) -> Tensor:
        config = self.config
        loss = F.l1_loss(x_hat, x) + config.mse_weight * mse + config.commitment * commitment
        loss = loss + config.perceptual_weight * self.perceptual(x_hat, x)
        # The codec wants its frames to be taken for real, that is, a high score.
        if fights:
            loss = loss - config.gan_weight * self.adversary(x_hat).mean()
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
        decoded = self.model.decode(self.model.encode(frames.to(self.device) * 2 - 1))
        return decoded.mul(0.5).add(0.5).clamp(0, 1)
