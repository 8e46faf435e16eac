"""One training step: clips -> I-frames -> P-frames -> gradients -> optimizer -> average of the
weights.

A step makes one update on the whole GOP where the stage is cascaded, otherwise one for each
P-frame. With two accumulated batches a, b and three frames, frame by frame:

    frame 1: gradients of a, b -> update     frame 2: gradients of a, b -> update

so k accumulated batches of n clips give the gradient of one batch of k*n clips.

A gradient that is not finite never reaches the weights: the fused optimizer is told by a flag on
the device (`found_inf`, the hook of loss scaling), so that nothing waits for the host within a
step.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from dcvc.interfaces import FrameCodec, PFrameCodec, State
from dcvc.schedule import Stage
from dcvc.training.config import TrainConfig
from dcvc.training.ema import EMA
from dcvc.training.losses import GOPLoss


def make_optimizer(parameters: list[nn.Parameter], learning_rate: float,
                   device: torch.device) -> torch.optim.Adam:
    """Adam in one kernel where torch has it for this device."""
    return torch.optim.Adam(parameters, lr=learning_rate, fused=device.type in ("cpu", "cuda"))


def as_clip(batch: Tensor, device: torch.device) -> Tensor:
    """A batch from the loader, uint8 or float, on the device as float32 in [0, 1]."""
    batch = batch.to(device, non_blocking=True)
    return batch.float().div_(255) if batch.dtype == torch.uint8 else batch


def prepare_step(accelerator: Accelerator, intra: FrameCodec, p_frame: PFrameCodec, stage: Stage,
                 config: TrainConfig) -> "TrainingStep":
    """Freeze what the stage does not train, wrap the loss for the device and the processes, make
    the optimizer.

    Frozen parameters never enter DDP or the optimizer, and a frozen part keeps no activations.
    """
    # The codec alone knows which of its parameters make up the part that the stage names.
    trained = set(p_frame.part_parameters(stage.trains))
    for name, parameter in p_frame.named_parameters():
        parameter.requires_grad_(name in trained and parameter.requires_grad)
    p_frame.to(accelerator.device, memory_format=torch.channels_last).train()
    loss = GOPLoss(p_frame, stage, config.lambda_value, compiled=config.compile,
                   checkpointing=config.activation_checkpointing)
    # After the freezing: neither DDP nor the optimizer may see a parameter without gradients.
    parameters = [parameter for parameter in p_frame.parameters() if parameter.requires_grad]
    optimizer = make_optimizer(parameters, stage.learning_rate, accelerator.device)
    loss, optimizer = accelerator.prepare(loss, optimizer)
    return TrainingStep(
        accelerator=accelerator, intra=intra, p_frame=p_frame, loss=loss, optimizer=optimizer,
        trained=parameters, stage=stage, config=config,
        ema=EMA(p_frame, config.ema_decay) if config.use_ema else None)


@dataclass(kw_only=True)
class TrainingStep:
    """`run(clips)` does all updates of one step on the prepared loss and optimizer.

    loss: GOPLoss of `p_frame`, wrapped for several processes. trained: the parameters with
    gradients. ema: of `p_frame`, or None.
    """

    accelerator: Accelerator
    intra: FrameCodec
    p_frame: nn.Module
    loss: nn.Module
    optimizer: Any
    trained: list[nn.Parameter]
    stage: Stage
    config: TrainConfig
    ema: EMA | None

    def run(self, clips: list[Tensor]) -> dict[str, Tensor]:
        """clips: one micro-batch `(B, T, 3, H, W)` in [0, 1] per accumulation. Returns means over
        the step's frames as 0-dim tensors, nothing waited for: loss, mse, psnr in dB, bpp and
        bpp_TERM in bits per pixel, grad_norm, and "skipped", the share of updates left out as not
        finite."""
        states = self._first_states(clips)
        outputs, norms, skipped = [], [], []
        for frames in self._frames_of_each_update(clips[0].shape[1]):
            pairs = [(state, clip[:, frames]) for state, clip in zip(states, clips, strict=True)]
            done, norm, bad = self._update(pairs)
            # The next update must not send gradients back into frames that had theirs.
            states = [output["state"].detach() for output in done]
            outputs += done
            norms.append(norm)
            skipped.append(bad)

        def mean(values: list[Tensor]) -> Tensor:
            return torch.stack([value.detach() for value in values]).mean()

        mse = mean([output["mse"] for output in outputs])
        rates = {f"bpp_{term}": mean([output["bpp"][term] for output in outputs])
                 for term in outputs[0]["bpp"]}
        return {"loss": mean([output["loss"] for output in outputs]), "mse": mse,
                "psnr": -10 * torch.log10(mse), "bpp": sum(rates.values()), **rates,
                "grad_norm": mean(norms), "skipped": mean(skipped)}

    def _first_states(self, clips: list[Tensor]) -> list[State]:
        """What the first P-frame of each clip is predicted from: the decoded I-frame."""
        # The I-frame codec is frozen: no gradients, and no activations kept for them.
        with torch.no_grad(), self.accelerator.autocast():
            return [self.p_frame.start(self.intra.forward(clip[:, 0]).x_hat.float().clamp(0, 1))
                    for clip in clips]

    def _frames_of_each_update(self, gop_size: int) -> list[slice]:
        """Frame 0 is the I-frame. GOP of 3 -> [1:2], [2:3]; cascaded -> [1:3]."""
        if self.stage.cascaded:
            return [slice(1, gop_size)]
        return [slice(frame, frame + 1) for frame in range(1, gop_size)]

    def _update(self, micro_batches: list[tuple[State, Tensor]]
                ) -> tuple[list[dict[str, Any]], Tensor, Tensor]:
        """One optimizer update on the mean gradient of the micro-batches; processes synchronise
        once, at the last.

        Returns the micro-batches' outputs, the gradient's norm and 1 where the update was left out.
        """
        # DDP averages gradients between processes in each backward pass, unless it is told to wait.
        outputs = []
        for number, (state, frames) in enumerate(micro_batches):
            waits = number + 1 < len(micro_batches)
            alone = self.accelerator.no_sync(self.loss) if waits else nullcontext()
            with alone, self.accelerator.autocast():
                output = self.loss(state, frames)
                # x0 keeps a finite loss as it is and turns the gradients of any other to NaN, on
                # every process: otherwise some would leave out the update and others would not.
                poisoned = output["loss"] * (1 + 0 * output["loss"].detach())
                self.accelerator.backward(poisoned / len(micro_batches))
            outputs.append(output)
        norm = self._clip()
        bad = (~torch.isfinite(norm)).float()
        # fp16's loss scaling meets overflow by itself: it leaves out that update and lowers the
        # scale.
        scaled = self.accelerator.scaler is not None
        if scaled or not self._left_out_by_host(bad):
            self.optimizer.step()
        # To None and not to 0: the next backward pass then writes instead of adding.
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema:
            self.ema.update(self.p_frame)
        if scaled:
            # An overflow of the scaled gradient is no divergence, so only the losses count.
            losses = torch.stack([output["loss"].detach() for output in outputs])
            bad = (~torch.isfinite(losses).all()).float()
        return outputs, norm, bad

    def _clip(self) -> Tensor:
        """The gradient's norm before it was clipped."""
        limit = self.config.grad_clip_max_norm or float("inf")
        return self.accelerator.clip_grad_norm_(self.trained, limit)

    def _left_out_by_host(self, bad: Tensor) -> bool:
        """Tell a fused optimizer on the device whether to leave its weights alone; elsewhere the
        host must ask, and wait for the answer."""
        inner = self.optimizer.optimizer
        if inner.param_groups[0]["fused"]:
            inner.found_inf = bad
            return False
        return bool(bad)
