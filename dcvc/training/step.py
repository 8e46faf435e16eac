"""One training step: clips -> I-frames -> P-frames -> gradients -> optimizer -> average of the
weights.

A step makes one update on the whole GOP where the stage is cascaded, otherwise one for each
P-frame. With two accumulated batches a, b and three frames, frame by frame:

    frame 1: gradients of a, b -> update     frame 2: gradients of a, b -> update

so k accumulated batches of n clips give the gradient of one batch of k*n clips. On several cores a
batch may be computed in shards at the same time (shards.py). A stage that trains
the I-frame codec too is cascaded, and its update has the I-frame in it.

A gradient that is not finite never reaches the weights: the fused optimizer is told by a flag on
the device (`found_inf`, the hook of loss scaling), so that nothing waits for the host within a
step.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from dcvc.device.memory import keep_memory
from dcvc.errors import InputError
from dcvc.interfaces import FrameCodec, PFrameCodec, State
from dcvc.schedule import Stage
from dcvc.training.adversary import AdversaryTraining
from dcvc.training.config import TrainConfig
from dcvc.training.ema import EMA
from dcvc.training.losses import GOPLoss
from dcvc.training.perception import Before, Perception
from dcvc.training.shards import gradients_at_once, in_shards, mean_by_size
from dcvc.training.variations import Variations, draw_variations

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class CodecPair(nn.Module):
    """Both codecs as one module, where both are trained."""

    def __init__(self, p_frame: nn.Module, intra: nn.Module) -> None:
        super().__init__()
        self.p_frame = p_frame
        self.intra = intra


def make_optimizer(parameters: list[nn.Parameter], learning_rate: float, device: torch.device,
                   kind: str = "adam") -> torch.optim.Optimizer:
    """Adam, or AdamW with torch's weight decay, in one kernel where torch has it for this
    device."""
    return OPTIMIZERS[kind](parameters, lr=learning_rate, fused=device.type in ("cpu", "cuda"))


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
    keep_memory()
    # The codec alone knows which of its parameters make up the part that the stage names.
    part = stage.p_frame_part
    trained = set(p_frame.part_parameters(part) if part else ())
    for name, parameter in p_frame.named_parameters():
        parameter.requires_grad_(name in trained and parameter.requires_grad)
    layout = _layout(p_frame, accelerator.device)
    p_frame.to(accelerator.device, memory_format=layout).train()
    # One module for the optimizer's and the average's view, whatever is trained.
    model = p_frame
    if stage.intra:
        _make_trainable(intra)
        model = CodecPair(p_frame, intra.to(memory_format=layout).train())
    perception = Perception(stage, config, accelerator.device) if stage.added else None
    loss = GOPLoss(p_frame, stage, config.lambda_value, intra=intra if stage.intra else None,
                   perception=perception, compiled=config.compile,
                   checkpointing=config.activation_checkpointing)
    # After the freezing: neither DDP nor the optimizer may see a parameter without gradients.
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = make_optimizer(parameters, stage.learning_rate, accelerator.device, stage.optimizer)
    loss, optimizer = accelerator.prepare(loss, optimizer)
    return TrainingStep(
        accelerator=accelerator, intra=intra, p_frame=p_frame, model=model, loss=loss,
        optimizer=optimizer, trained=parameters, stage=stage, config=config,
        perception=perception, adversary=_adversary_training(accelerator, perception, stage),
        ema=EMA(model, config.ema_decay) if config.use_ema else None)


def _adversary_training(accelerator: Accelerator, perception: Perception | None,
                        stage: Stage) -> AdversaryTraining | None:
    if perception is None or perception.adversary is None:
        return None
    parameters = list(perception.adversary.parameters())
    optimizer = make_optimizer(parameters, stage.learning_rate, accelerator.device)
    return AdversaryTraining(accelerator, perception.adversary, optimizer)


def _layout(p_frame: PFrameCodec, device: torch.device) -> torch.memory_format:
    """Channels last is fastest but where a codec says otherwise for the CPU."""
    if device.type == "cpu":
        return getattr(p_frame, "cpu_layout", torch.channels_last)
    return torch.channels_last


def _make_trainable(intra: FrameCodec) -> None:
    """Raises InputError for an I-frame codec that can only be loaded."""
    if not hasattr(intra, "make_trainable"):
        raise InputError(f"trains: found intra with the I-frame codec {intra.name}, which is "
                         "frozen; needed --i_frame_type light, or a stage that trains all alone")
    intra.make_trainable()


@dataclass(kw_only=True)
class TrainingStep:
    """`run(clips)` does all updates of one step on the prepared loss and optimizer.

    model: what is trained, `p_frame` or a CodecPair. loss: GOPLoss, wrapped for several processes.
    trained: the parameters with gradients. perception: what the stage adds to its distortion, or
    None; adversary: its discriminator's updates, or None. ema: of `model`, or None.
    """

    accelerator: Accelerator
    intra: FrameCodec
    p_frame: nn.Module
    model: nn.Module
    loss: nn.Module
    optimizer: Any
    trained: list[nn.Parameter]
    stage: Stage
    config: TrainConfig
    perception: Perception | None
    adversary: AdversaryTraining | None
    ema: EMA | None

    def run(self, clips: list[Tensor]) -> dict[str, Tensor]:
        """clips: one micro-batch `(B, T, 3, H, W)` in [0, 1] per accumulation. Returns means over
        the step's frames as 0-dim tensors, nothing waited for: loss, mse, psnr in dB, bpp and
        bpp_TERM in bits per pixel, term_TERM of what the stage adds to its distortion, grad_norm, and
        "skipped", the share of updates left out as not finite."""
        drawn = [draw_variations(self.stage, self.p_frame.rates, clip) for clip in clips]
        count = self._shards(min(map(len, clips)))
        shards = [shard for clip, varied in drawn for shard in in_shards(clip, varied, count)]
        clips, variations, sizes = zip(*shards, strict=True)
        states, befores = self._first_states(clips, variations)
        outputs, norms, skipped = [], [], []
        for frames in self._frames_of_each_update(clips[0].shape[1]):
            arguments = [
                (state, clip[:, frames], frames.start, variation, before) for
                state, clip, variation, before in zip(states, clips, variations, befores, strict=True)]
            done, norm, bad = self._update(arguments, sizes, count)
            # The next update must not send gradients back into frames that had theirs.
            states = [output["state"] for output in done]
            outputs += done
            norms.append(norm)
            skipped.append(bad)

        def mean(values: list[Tensor]) -> Tensor:
            return mean_by_size([value.detach() for value in values], sizes)

        mse = mean([output["mse"] for output in outputs])
        rates = {f"bpp_{term}": mean([output["bpp"][term] for output in outputs])
                 for term in outputs[0]["bpp"]}
        # The discriminator learns once an update, of all micro-batches together.
        terms = {f"term_{term}": mean([output["terms"][term] for output in outputs
                                       if term in output["terms"]])
                 for term in outputs[0]["terms"]}
        # Of I- and P-frames together, the sum is that of P-frames.
        summed = [rate for name, rate in rates.items() if name != "bpp_I"] or rates.values()
        return {"loss": mean([output["loss"] for output in outputs]), "mse": mse,
                "psnr": -10 * torch.log10(mse), "bpp": sum(summed), **rates, **terms,
                "grad_norm": mean(norms), "skipped": mean(skipped)}

    def _first_states(self, clips: Sequence[Tensor], variations: Sequence[Variations]
                      ) -> tuple[list[State | None], list[Before]]:
        """What the first P-frame of each clip is predicted from: the decoded I-frame; and both
        pictures of it. None where the loss codes the I-frame itself."""
        if self.stage.intra:
            return [None] * len(clips), [None] * len(clips)
        # A codec of one rate takes no quality.
        qualities = [None if variation.quality is None or self.intra.rates is None
                     else variation.quality[0] for variation in variations]
        # The I-frame codec is frozen: no gradients, and no activations kept for them.
        with torch.no_grad(), self.accelerator.autocast():
            coded = [self.intra.forward(clip[:, 0], quality).x_hat.float().clamp(0, 1)
                     for clip, quality in zip(clips, qualities, strict=True)]
            befores = [(clip[:, 0], x_hat) for clip, x_hat in zip(clips, coded, strict=True)]
            return [self.p_frame.start(x_hat) for x_hat in coded], befores

    def _frames_of_each_update(self, gop_size: int) -> list[slice]:
        """Frame 0 is the I-frame. GOP of 3 -> [1:2], [2:3]; cascaded -> [1:3]; with intra -> [0:3]."""
        if self.stage.cascaded or self.stage.intra:
            return [slice(0 if self.stage.intra else 1, gop_size)]
        return [slice(frame, frame + 1) for frame in range(1, gop_size)]

    def _shards(self, batch: int) -> int:
        """Of a batch: as many as there are threads where the codec trains in shards, else 1. An
        adversary's layers change with every look, and activations that are made again would draw other
        noise."""
        together = (self.accelerator.device.type != "cpu" or self.accelerator.num_processes > 1
                    or self.perception is not None or self.config.compile
                    or self.config.activation_checkpointing
                    or not getattr(self.p_frame, "trains_in_shards", False))
        return 1 if together else min(batch, torch.get_num_threads())

    def _update(self, micro_batches: list[tuple[Any, ...]], sizes: Sequence[int], at_once: int
                ) -> tuple[list[dict[str, Any]], Tensor, Tensor]:
        """One optimizer update on the mean gradient of the micro-batches, which are of these sizes, and of
        which so many are shards that are computed at once.

        Returns the micro-batches' outputs, the gradient's norm and 1 where the update was left out.
        """
        if at_once == 1:
            outputs = self._in_turn(micro_batches)
        else:
            weights, outputs = [size / sum(sizes) for size in sizes], []
            for first in range(0, len(sizes), at_once):
                group = slice(first, first + at_once)
                outputs += gradients_at_once(self.accelerator, self.loss, self.trained,
                                             micro_batches[group], weights[group])
        norm = self._clip()
        bad = (~torch.isfinite(norm)).float()
        # fp16's loss scaling meets overflow by itself: it leaves out that update and lowers the
        # scale.
        scaled = self.accelerator.scaler is not None
        if scaled or not self._left_out_by_host(bad):
            self.optimizer.step()
        if self.adversary is not None:
            # After the codec's own update, on the same frames: they take turns.
            self._let_adversary_learn(outputs, bad)
        # To None and not to 0: the next backward pass then writes instead of adding.
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema:
            self.ema.update(self.model)
        if scaled:
            # An overflow of the scaled gradient is no divergence, so only the losses count.
            losses = torch.stack([output["loss"].detach() for output in outputs])
            bad = (~torch.isfinite(losses).all()).float()
        return outputs, norm, bad

    def _in_turn(self, micro_batches: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
        """The gradients of micro-batches of one size, one after the other; processes synchronise once, at
        the last."""
        # DDP averages gradients between processes in each backward pass, unless it is told to wait.
        outputs = []
        for number, arguments in enumerate(micro_batches):
            waits = number + 1 < len(micro_batches)
            alone = self.accelerator.no_sync(self.loss) if waits else nullcontext()
            with alone, self.accelerator.autocast():
                output = self.loss(*arguments)
                # x0 keeps a finite loss as it is and turns the gradients of any other to NaN, on
                # every process: otherwise some would leave out the update and others would not.
                poisoned = output["loss"] * (1 + 0 * output["loss"].detach())
                self.accelerator.backward(poisoned / len(micro_batches))
            outputs.append(output)
        return outputs

    def _let_adversary_learn(self, outputs: list[dict[str, Any]], bad: Tensor) -> None:
        seen = [one for output in outputs for one in output["seen"]]
        rate = self.optimizer.param_groups[0]["lr"]
        outputs[0]["terms"]["adversary_loss"] = self.adversary.learn(seen, rate, bad)

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
