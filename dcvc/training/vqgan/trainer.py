"""Training of a VQGAN on frames of videos.

    frames (B, 3, H, W) -> encoder -> z -> nearest codes (running averages) -> decoder -> x_hat
    loss = |x - x_hat| + mse_weight (x - x_hat)^2 + perceptual + commitment [+ adversary after its start]

`train_vqgan` writes OUT/vqgan.json and OUT/vqgan.pt, which --vqgan_config and --vqgan_checkpoint take,
OUT/latest.pt to resume from, OUT/config.json with every setting, metrics.jsonl and TensorBoard's scalars and pictures.
What a step does depends on weights, optimizer, seed and step number only.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration
from torch import Tensor

from dcvc.config import from_dict, to_dict
from dcvc.data import VideoGOPDataset
from dcvc.data.step_sampler import StepSampler, step_loader
from dcvc.errors import InputError, MissingError, TrainingError
from dcvc.files import save_tensors, write_text
from dcvc.intra.vqgan.config import VQGANConfig, config_to_values
from dcvc.intra.vqgan.model import VQGAN
from dcvc.training.interruption import StopSignal
from dcvc.training.run_log import RunLog
from dcvc.training.vqgan.codebook_trainer import CodebookTrainer, perplexity
from dcvc.training.vqgan.losses import PatchDiscriminator, Perceptual, PerceptualLoss, hinge_loss
from dcvc.weights import read_file


@dataclass(frozen=True)
class VQGANTrainingConfig:
    """model: what is trained; steps of `batch_size` crops of `crop_size`; learning_rate falls to 2 % along a cosine.

    quantize_from: the step at which codes come in; a plain autoencoder before it settles the latents that the
    codebook is then put on, which in short runs is worth several dB.
    lpips_weights: files for perceptual "lpips"; ema_decay: of the codebook; gan_weight 0: no adversary, else it starts
    at step gan_start.
    """

    model: VQGANConfig = field(default_factory=lambda: PRESETS["small"])
    steps: int = 20_000
    batch_size: int = 8
    crop_size: int = 128
    learning_rate: float = 1e-3
    ema_decay: float = 0.97
    quantize_from: int = 0
    commitment: float = 0.25
    mse_weight: float = 10.0
    perceptual: Perceptual = "none"
    lpips_weights: tuple[str, ...] = ()
    perceptual_weight: float = 0.5
    gan_weight: float = 0.0
    gan_start: int = 10_000
    grad_clip_max_norm: float = 1.0
    seed: int = 0
    num_workers: int = 0
    save_every: int = 500
    log_every: int = 20

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "save_every", "log_every"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name}: found {getattr(self, name)}, needed at least 1")
        if self.crop_size < self.model.factor or self.crop_size % self.model.factor:
            raise InputError(f"--crop_size: found {self.crop_size}, needed a multiple of f = {self.model.factor}")


PRESETS: dict[str, VQGANConfig] = {
    # Trains within minutes on two CPU cores; 0.5 bpp.
    "demo": VQGANConfig("EMAVQ", 256, 8, ch=32, ch_mult=(1, 1, 2), num_res_blocks=1, attn_resolutions=(),
                        z_channels=32),
    "small": VQGANConfig("EMAVQ", 512, 16, ch=32, ch_mult=(1, 1, 2, 2, 4), num_res_blocks=1, attn_resolutions=(),
                         z_channels=64, norm_groups=8),
    "base": VQGANConfig("EMAVQ", 1024, 256),
}
VQGAN_PRESETS: dict[str, VQGANTrainingConfig] = {
    "demo": VQGANTrainingConfig(model=PRESETS["demo"], steps=600, batch_size=4, crop_size=64, learning_rate=2e-3,
                                quantize_from=200, save_every=600),
    "small": VQGANTrainingConfig(model=PRESETS["small"]),
    "base": VQGANTrainingConfig(model=PRESETS["base"], learning_rate=1e-4, crop_size=256),
}


@dataclass(frozen=True)
class TrainedVQGAN:
    """config, checkpoint: what --vqgan_config and --vqgan_checkpoint take. numbers: the last logged means."""

    config: Path
    checkpoint: Path
    numbers: dict[str, float]


class VQGANTrainer:
    """The state of one training run; `step(frames)` does one update and returns its numbers."""

    def __init__(self, config: VQGANTrainingConfig, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.config, self.device, self.done = config, device, 0
        self.model = VQGAN(config.model).to(device, memory_format=torch.channels_last)
        self.codebook = CodebookTrainer(self.model, config.ema_decay)
        self.perceptual = PerceptualLoss(config.perceptual, config.lpips_weights).to(device)
        self.optimizer = torch.optim.Adam([p for p in self.model.parameters() if p.requires_grad], betas=(0.9, 0.99))
        self.adversary = self.adversary_optimizer = None
        if config.gan_weight > 0:
            self.adversary = PatchDiscriminator().to(device)
            self.adversary_optimizer = torch.optim.Adam(self.adversary.parameters(), betas=(0.5, 0.9))
        self.counts = torch.zeros(config.model.n_embed, device=device)

    def learning_rate(self) -> float:
        config = self.config
        warm = min(1.0, (self.done + 1) / min(50, config.steps))
        return config.learning_rate * warm * (0.51 + 0.49 * math.cos(math.pi * self.done / config.steps))

    def step(self, frames: Tensor) -> dict[str, float]:
        """frames (B, 3, H, W) in [0, 1]. Raises TrainingError when the loss is not finite."""
        self.model.train()
        generator = torch.Generator().manual_seed((self.config.seed << 32) + self.done)
        for optimizer in filter(None, (self.optimizer, self.adversary_optimizer)):
            optimizer.param_groups[0]["lr"] = self.learning_rate()
        x = frames.to(self.device).contiguous(memory_format=torch.channels_last)
        z = self.model.prequant(x * 2 - 1)
        if self.done == self.config.quantize_from:
            self.codebook.start(z.detach(), generator)
        quantizes = self.done >= self.config.quantize_from
        quantized, commitment, codes = self.codebook.quantize(z, update=quantizes, generator=generator)
        if not quantizes:
            quantized, commitment = z, z.new_zeros(())
        x_hat = self.model.decode_latent(quantized) * 0.5 + 0.5
        mse = F.mse_loss(x_hat, x)
        loss = F.l1_loss(x_hat, x) + self.config.mse_weight * mse + self.config.commitment * commitment
        loss = loss + self.config.perceptual_weight * self.perceptual(x_hat, x)
        fights = self.adversary is not None and self.done >= self.config.gan_start
        if fights:
            loss = loss - self.config.gan_weight * self.adversary(x_hat).mean()
        if not bool(torch.isfinite(loss)):
            raise TrainingError(f"VQGAN training: loss is {loss.item()} at step {self.done}; the last checkpoint is "
                                "kept; try a lower --learning_rate")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip_max_norm)
        self.optimizer.step()
        numbers = {"loss": loss.item(), "psnr": -10 * math.log10(max(mse.item(), 1e-10)), "lr": self.learning_rate()}
        if fights:
            numbers["adversary"] = self._train_adversary(x, x_hat.detach())
        self.counts.mul_(0.98).add_(torch.bincount(codes.flatten(), minlength=len(self.counts)))
        numbers["perplexity"] = perplexity(self.counts)
        numbers["codes_used"] = float((self.counts > 0.5).sum())
        self.done += 1
        return numbers

    def _train_adversary(self, x: Tensor, x_hat: Tensor) -> float:
        loss = hinge_loss(self.adversary(x), self.adversary(x_hat))
        self.adversary_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.adversary_optimizer.step()
        return loss.item()

    @torch.no_grad()
    def reconstruct(self, frames: Tensor) -> Tensor:
        self.model.eval()
        return self.model.decode(self.model.encode(frames.to(self.device) * 2 - 1)).mul(0.5).add(0.5).clamp(0, 1)

    # ---- files

    def _training_parts(self) -> dict[str, Any]:
        parts = {"optimizer": self.optimizer, "adversary": self.adversary,
                 "adversary_optimizer": self.adversary_optimizer}
        return {name: part for name, part in parts.items() if part is not None}

    def save(self, out_dir: Path) -> None:
        """latest.pt to resume from, then vqgan.json and vqgan.pt to use."""
        values = config_to_values(self.config.model)
        weights = {key: value.detach().cpu().contiguous() for key, value in self.model.state_dict().items()}
        content = {"step": self.done, "model": weights, "config": values}
        state = {name: part.state_dict() for name, part in self._training_parts().items()}
        save_tensors(out_dir / "latest.pt", {**content, "training": {
            **state, "counts": self.counts.cpu(), "settings": to_dict(self.config)}})
        write_text(out_dir / "vqgan.json", json.dumps(values, indent=1) + "\n")
        save_tensors(out_dir / "vqgan.pt", content)

    def restore(self, path: Path) -> None:
        """Go on from a latest.pt. Raises InputError when it was made with another model."""
        content, stored = _read_latest(path)
        training = content["training"]
        if stored.model != self.config.model:
            raise InputError(f"{path}: trained model {stored.model}, asked for {self.config.model}; resume with the "
                             "same model or choose another --checkpoint_dir")
        self.model.load_state_dict(content["model"])
        for name, part in self._training_parts().items():
            if name in training:
                part.load_state_dict(training[name])
        self.counts.copy_(training["counts"])
        self.done = int(content["step"])


def _read_latest(path: Path) -> tuple[dict[str, Any], VQGANTrainingConfig]:
    content = read_file(path)
    training = content.get("training")
    if not isinstance(training, dict):
        raise InputError(f"{path}: holds no state of training, needed the latest.pt of a train-vqgan run")
    return content, from_dict(VQGANTrainingConfig, training["settings"], str(path))


def stored_config(out_dir: Path) -> VQGANTrainingConfig:
    """The settings that the run in this folder was made with. Raises MissingError where there is none."""
    return _read_latest(prepare_folder(Path(out_dir), resume=True))[1]


def prepare_folder(out_dir: Path, resume: bool) -> Path | None:
    """The file to resume from, None for a new run. Raises InputError where a new run would overwrite another."""
    latest = out_dir / "latest.pt"
    if resume:
        if not latest.is_file():
            raise MissingError(f"--resume: no {latest}; leave --resume out to begin")
        return latest
    if latest.exists() or (out_dir / "vqgan.pt").exists():
        raise InputError(f"{out_dir}: already holds a VQGAN; --resume continues, another --checkpoint_dir begins anew")
    return None


def train_vqgan(config: VQGANTrainingConfig, videos: VideoGOPDataset | str | Path | Sequence[str | Path],
                out_dir: str | Path, *, seed: int | None = None, device: str = "auto", resume: bool = False,
                quiet: bool = False) -> TrainedVQGAN:
    """Train on single frames of `videos` (a data set, or folders of videos) and write OUT/vqgan.{json,pt}.

    seed: instead of the config's. numbers: loss, psnr, perplexity, codes_used, steps. SIGTERM and SIGINT save first,
    then end it with TrainingError. Raises InputError, MissingError, ReadError, TrainingError.
    """
    out_dir = Path(out_dir)
    config = config if seed is None else dataclasses.replace(config, seed=seed)
    latest = prepare_folder(out_dir, resume)
    dataset = videos if isinstance(videos, VideoGOPDataset) else VideoGOPDataset(
        videos, gop_size=1, crop_size=config.crop_size, seed=config.seed)
    accelerator = Accelerator(
        cpu=device == "cpu", log_with="tensorboard",
        project_config=ProjectConfiguration(project_dir=str(out_dir), logging_dir=str(out_dir)))
    trainer = VQGANTrainer(config, accelerator.device)
    if latest:
        trainer.restore(latest)
        if trainer.done == config.steps:                     # stopped between its last files
            trainer.save(out_dir)
    write_text(out_dir / "config.json", json.dumps(to_dict(config), indent=1) + "\n")
    sampler = StepSampler(len(dataset), config.batch_size, config.seed, first_step=trainer.done, last_step=config.steps)
    loader = step_loader(dataset, sampler, config.num_workers, pin_memory=trainer.device.type == "cuda")
    log = RunLog(accelerator, out_dir, config.steps, trainer.done, "vqgan", quiet)
    try:
        with StopSignal() as stop:
            numbers = _train_steps(trainer, loader, log, out_dir, stop)
    finally:
        log.close()
    return TrainedVQGAN(out_dir / "vqgan.json", out_dir / "vqgan.pt", {**numbers, "steps": float(trainer.done)})


def _train_steps(trainer: VQGANTrainer, loader: Iterable[Tensor], log: RunLog, out_dir: Path,
                 stop: StopSignal) -> dict[str, float]:
    """All steps that are left; returns the last logged means."""
    config = trainer.config
    recent: list[dict[str, float]] = []
    summary: dict[str, float] = {}
    for clip in loader:
        recent.append(trainer.step(clip[:, 0]))
        last = trainer.done == config.steps
        log.step({name: recent[-1][name] for name in ("psnr", "perplexity")})
        if trainer.done % config.log_every == 0 or last:
            summary = {name: sum(row[name] for row in recent) / len(recent) for name in recent[-1]
                       if all(name in row for row in recent)}
            log.scalars("train", summary, trainer.done)
            recent = []
        if trainer.done % config.save_every == 0 or last or stop.name:
            log.picture("frames", [clip[0, 0], trainer.reconstruct(clip[:1, 0])[0]], trainer.done)
            trainer.save(out_dir)
        if stop.name and not last:
            raise TrainingError(f"VQGAN training: stopped by {stop.name} after step {trainer.done} of {config.steps}; "
                                "saved, --resume continues")
    return summary
