"""The rate-distortion loss of a stage, as one module: the one that Accelerate wraps.

    state, frames -> of each frame:  codec -> lambda * weight * D + bpp of the stage's rate terms
                  -> mean over the frames

D is the stage's distortion on pixels of unit range (distortion.py), for DCVC-2021 the MSE over RGB;
bpp counts unpadded pixels (Li, Li, Lu, NeurIPS 2021, eq. 9, with the rate terms of the stage).
lambda is therefore the community's {256, 512, 1024, 2048}, not multiplied by 255². A codec of many
qualities has a lambda for each sample, by the sample's quality.

For example lambda 1024, MSE 0.001 (30 dB) and 0.08 bpp in all: the loss is 1.024 + 0.08 = 1.104.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dcvc.interfaces import FrameCodec, FrameOutput, PFrameCodec, State, bits_per_pixel
from dcvc.schedule import Stage
from dcvc.training.distortion import distortion
from dcvc.training.variations import Variations

# loss, MSE over RGB, bits per pixel by term, state after the frame
FrameLoss = tuple[Tensor, Tensor, dict[str, Tensor], State]


class GOPLoss(nn.Module):
    """Codes `frames` one after another, each from the state that the last one left, and gives the
    stage's mean loss.

    One frame a call is the per-frame update with a detached state; all frames in one call is the
    cascaded GOP.
    """

    def __init__(self, p_frame: PFrameCodec, stage: Stage, lmbda: float, *,
                 intra: FrameCodec | None = None, compiled: bool = False,
                 checkpointing: bool = False) -> None:
        """intra: the I-frame codec, where the stage trains it. compiled: by torch.compile, one graph
        a frame for one static shape. checkpointing: of a GOP only the frames are kept, everything
        between is computed again for the gradients."""
        super().__init__()
        self.p_frame = p_frame
        self.intra = intra
        self.stage = stage
        self.lmbda = lmbda
        self.checkpointing = checkpointing
        # One graph a frame, not one a GOP: the frame's code is compiled once for all GOP sizes.
        self._code = self.frame_loss
        if compiled:
            self._code = torch.compile(self.frame_loss, fullgraph=True, dynamic=False)

    def forward(self, state: State | None, frames: Tensor, first: int = 1,
                variations: Variations | None = None) -> dict[str, Any]:
        """state before the first of frames `(B, T, 3, H, W)`, RGB in [0, 1] -> a dictionary of

        loss, mse: 0-dim means over the frames. bpp: term -> 0-dim mean bits per pixel.
        state: after the last frame, for the next call; it carries no gradients.

        first: position of the first frame in its clip. 0 is an I-frame, for which there is no state
        yet. variations: of the whole clip.
        """
        quality, refresh = variations or Variations()
        losses, mses, rates = [], [], []
        for position, frame in enumerate(frames.unbind(1), first):
            own = None if quality is None else quality[position]
            if position == 0:
                coded = self.i_frame_loss(frame, own)
            # Of a single frame everything is needed at once: keeping less would only cost time.
            elif self.checkpointing and frames.shape[1] > 1:
                coded = checkpoint(self._code, state, frame, own, position, position == refresh,
                                   use_reentrant=False)
            else:
                coded = self._code(state, frame, own, position, position == refresh)
            loss, mse, bpp, state = coded
            losses.append(loss)
            mses.append(mse)
            rates.append(bpp)
        # An I-frame has other terms than a P-frame: each is averaged over the frames that have it.
        terms = dict.fromkeys(term for rate in rates for term in rate)
        bpp = {term: torch.stack([rate[term] for rate in rates if term in rate]).mean()
               for term in terms}
        # A dictionary and not a dataclass: DistributedDataParallel looks for tensors only in
        # containers it knows.
        return {"loss": torch.stack(losses).mean(), "mse": torch.stack(mses).mean(), "bpp": bpp,
                "state": None if state is None else state.detach()}

    def frame_loss(self, state: State, frame: Tensor, quality: Tensor | None = None,
                   position: int = 1, refresh: bool = False) -> FrameLoss:
        """One P-frame. The state keeps its gradients."""
        # A loss on the prediction needs no more: the codec leaves out its contextual branch.
        options = {"refresh": True} if refresh else {}
        output, state = self.p_frame(state, frame, quality, until=self.stage.distortion, **options)
        judged = output.prediction if self.stage.distortion == "prediction" else output.x_hat
        bpp = {term: bits_per_pixel(bits, frame) for term, bits in output.bits.items()}
        counted = sum(bpp[term] for term in self.stage.rate_terms if term in bpp)
        return self._frame_loss(judged, frame, counted, quality, position, bpp, state)

    def i_frame_loss(self, frame: Tensor, quality: Tensor | None) -> FrameLoss:
        """The I-frame of a stage that trains its codec; all its rates count, as one term, "I"."""
        # Not clamped: a clamp would stop the gradient where the picture is too bright.
        output: FrameOutput = self.intra(frame, quality)
        bpp = bits_per_pixel(sum(output.bits.values()), frame)
        state = self.p_frame.start(output.x_hat) if self.stage.p_frame_part else None
        return self._frame_loss(output.x_hat, frame, bpp, quality, 0, {"I": bpp}, state)

    def _frame_loss(self, judged: Tensor, frame: Tensor, counted: Tensor, quality: Tensor | None,
                    position: int, bpp: dict[str, Tensor], state: State | None) -> FrameLoss:
        mse = nn.functional.mse_loss(judged.float(), frame.float())
        weight = self.stage.weight(position)
        if quality is None and self.stage.metric == "rgb":
            return self.lmbda * weight * mse + counted, mse, bpp, state
        # Every sample has its own lambda, so the product comes before the mean.
        lmbda = self.lmbda
        if quality is not None:
            lmbda = self.p_frame.rates.lambdas(quality, self.stage.lambdas)
        judged = distortion(self.stage.metric, frame, judged)
        return (lmbda * weight * judged).mean() + counted, mse.detach(), bpp, state


def stage_objective(stage: Stage, lmbda: float, mse: float, bpp: dict[str, float]) -> float:
    """The same loss from measured means: what "best" is judged by in validation. A codec of many
    qualities is judged by MSE at each, whatever it is trained on."""
    return lmbda * mse + sum(bpp[term] for term in stage.rate_terms if term in bpp)
