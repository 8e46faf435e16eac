"""The updates of one training step: clips -> I-frames -> P-frames -> gradients -> optimizer -> EMA.

A gradient that is not finite never reaches the weights: the fused optimizer is told by a flag on the device
(`found_inf`, the hook of loss scaling), so that nothing waits for the host within a step.
"""

from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from dcvc.interfaces import FrameCodec, PFrameCodec, State
from dcvc.schedule import Stage
from dcvc.training.config import TrainConfig
from dcvc.training.ema import EMA
from dcvc.training.losses import GOPLoss


def make_optimizer(parameters: list[nn.Parameter], learning_rate: float, device: torch.device) -> torch.optim.Adam:
    """Adam in one kernel where torch has it for this device."""
    return torch.optim.Adam(parameters, lr=learning_rate, fused=device.type in ("cpu", "cuda"))


def as_clip(batch: Tensor, device: torch.device) -> Tensor:
    """A batch from the loader, uint8 or float, on the device as float32 in [0, 1]."""
    batch = batch.to(device, non_blocking=True)
    return batch.float().div_(255) if batch.dtype == torch.uint8 else batch


def prepare_updates(accelerator: Accelerator, intra: FrameCodec, p_frame: PFrameCodec, stage: Stage,
                    config: TrainConfig) -> "Updates":
    """Freeze what the stage does not train, wrap the loss for the device and the processes, make the optimizer.

    Frozen parameters never enter DDP or the optimizer, and the frozen motion branch keeps no activations.
    """
    trained = set(p_frame.part_parameters(stage.trains))
    for name, parameter in p_frame.named_parameters():
        parameter.requires_grad_(name in trained and parameter.requires_grad)
    p_frame.to(accelerator.device, memory_format=torch.channels_last).train()
    loss = GOPLoss(p_frame, stage, config.lambda_value, compiled=config.compile,
                   checkpointing=config.activation_checkpointing)
    parameters = [parameter for parameter in p_frame.parameters() if parameter.requires_grad]
    loss, optimizer = accelerator.prepare(loss, make_optimizer(parameters, stage.learning_rate, accelerator.device))
    ema = EMA(p_frame, config.ema_decay) if config.use_ema else None
    return Updates(accelerator, intra, p_frame, loss, optimizer, parameters, stage, config, ema)


class Updates:
    """`step(clips)` does all updates of one step on the prepared loss and optimizer.

    trained: the parameters with gradients. ema: of `p_frame`, or None.
    """

    def __init__(self, accelerator: Accelerator, intra: FrameCodec, p_frame: nn.Module, loss: nn.Module, optimizer: Any,
                 trained: list[nn.Parameter], stage: Stage, config: TrainConfig, ema: EMA | None) -> None:
        self.accelerator, self.intra, self.p_frame, self.loss = accelerator, intra, p_frame, loss
        self.optimizer, self.trained = optimizer, trained
        self.stage, self.config, self.ema = stage, config, ema

    def step(self, clips: list[Tensor]) -> dict[str, Tensor]:
        """clips: one micro-batch `(B, T, 3, H, W)` in [0, 1] per accumulation. Returns means over the step's frames
        as 0-dim tensors, nothing waited for; "skipped" is the share of updates left out as not finite."""
        with torch.no_grad(), self.accelerator.autocast():
            states = [self.p_frame.start(self.intra.forward(clip[:, 0]).x_hat.float().clamp(0, 1)) for clip in clips]
        count = clips[0].shape[1] - 1
        parts = [slice(1, count + 1)] if self.stage.cascaded else [slice(t, t + 1) for t in range(1, count + 1)]
        outputs, norms, skipped = [], [], []
        for part in parts:
            pairs = [(state, clip[:, part]) for state, clip in zip(states, clips, strict=True)]
            done, norm, bad = self._update(pairs)
            states = [output["state"].detach() for output in done]
            outputs += done
            norms.append(norm)
            skipped.append(bad)
        mean = {key: torch.stack([output[key].detach() for output in outputs]).mean() for key in ("loss", "mse")}
        rates = {f"bpp_{term}": torch.stack([output["bpp"][term].detach() for output in outputs]).mean()
                 for term in outputs[0]["bpp"]}
        return {**mean, "psnr": -10 * torch.log10(mean["mse"]), "bpp": sum(rates.values()), **rates,
                "grad_norm": torch.stack(norms).mean(), "skipped": torch.stack(skipped).mean()}

    def _update(self, micro_batches: list[tuple[State, Tensor]]) -> tuple[list[dict[str, Any]], Tensor, Tensor]:
        """One optimizer update on the mean gradient of the micro-batches; processes synchronise once, at the last.

        Returns the micro-batches' outputs, the gradient's norm and 1 where the update was left out, else 0.
        """
        outputs = []
        for number, (state, frames) in enumerate(micro_batches):
            waits = number + 1 < len(micro_batches)
            with self.accelerator.no_sync(self.loss) if waits else nullcontext(), self.accelerator.autocast():
                output = self.loss(state, frames)
                # x0 keeps a finite loss as it is and turns the gradients of any other to NaN, on every process.
                poisoned = output["loss"] * (1 + 0 * output["loss"].detach())
                self.accelerator.backward(poisoned / len(micro_batches))
            outputs.append(output)
        norm, bad = self._clip()
        # fp16's loss scaling meets overflow by itself: it leaves out that update and lowers the scale.
        scaled = self.accelerator.scaler is not None
        if scaled or not self._skip(bad):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema:
            self.ema.update(self.p_frame)
        if scaled:
            bad = (~torch.isfinite(torch.stack([output["loss"].detach() for output in outputs])).all()).float()
        return outputs, norm, bad

    def _clip(self) -> tuple[Tensor, Tensor]:
        limit = self.config.grad_clip_max_norm or float("inf")
        norm = self.accelerator.clip_grad_norm_(self.trained, limit)
        return norm, (~torch.isfinite(norm)).float()

    def _skip(self, bad: Tensor) -> bool:
        """Tell the fused optimizer on the device whether to leave its weights alone; elsewhere the host asks."""
        inner = self.optimizer.optimizer
        if inner.param_groups[0]["fused"]:
            inner.found_inf = bad
            return False
        return bool(bad)
