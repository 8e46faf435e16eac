"""The rate-distortion loss of a stage, as one module: the one that Accelerate wraps.

    state, frames -> of each frame:  P-frame codec -> lambda * MSE + bpp of the stage's rate terms
                  -> mean over the frames

MSE is over RGB in [0, 1]; bpp counts unpadded pixels (Li, Li, Lu, NeurIPS 2021, eq. 9, with the
rate terms of the stage). lambda is therefore the community's {256, 512, 1024, 2048}, not multiplied
by 255².

For example lambda 1024, MSE 0.001 (30 dB) and 0.08 bpp in all: the loss is 1.024 + 0.08 = 1.104.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dcvc.interfaces import PFrameCodec, State, bits_per_pixel
from dcvc.schedule import Stage


class GOPLoss(nn.Module):
    """Codes `frames` one after another, each from the state that the last one left, and gives the
    stage's mean loss.

    One frame a call is the per-frame update with a detached state; all frames in one call is the
    cascaded GOP.
    """

    def __init__(self, p_frame: PFrameCodec, stage: Stage, lmbda: float, *, compiled: bool = False,
                 checkpointing: bool = False) -> None:
        """compiled: by torch.compile, one graph a frame for one static shape. checkpointing: of a
        GOP only the frames are kept, everything between is computed again for the gradients."""
        super().__init__()
        self.p_frame = p_frame
        self.stage = stage
        self.lmbda = lmbda
        self.checkpointing = checkpointing
        # One graph a frame, not one a GOP: the frame's code is compiled once for all GOP sizes.
        self._code = self.frame_loss
        if compiled:
            self._code = torch.compile(self.frame_loss, fullgraph=True, dynamic=False)

    def forward(self, state: State, frames: Tensor) -> dict[str, Any]:
        """state before the first of frames `(B, T, 3, H, W)`, RGB in [0, 1] -> a dictionary of

        loss, mse: 0-dim means over the frames. bpp: term -> 0-dim mean bits per pixel.
        state: after the last frame, for the next call; it carries no gradients.
        """
        losses, mses, rates = [], [], []
        for frame in frames.unbind(1):
            # Of a single frame everything is needed at once: keeping less would only cost time.
            if self.checkpointing and frames.shape[1] > 1:
                coded = checkpoint(self._code, state, frame, use_reentrant=False)
            else:
                coded = self._code(state, frame)
            loss, mse, bpp, state = coded
            losses.append(loss)
            mses.append(mse)
            rates.append(bpp)
        bpp = {term: torch.stack([rate[term] for rate in rates]).mean() for term in rates[0]}
        # A dictionary and not a dataclass: DistributedDataParallel looks for tensors only in
        # containers it knows.
        return {"loss": torch.stack(losses).mean(), "mse": torch.stack(mses).mean(), "bpp": bpp,
                "state": state.detach()}

    def frame_loss(self, state: State,
                   frame: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor], State]:
        """One frame's loss, its MSE, bits per pixel by term, and the state after it with its
        gradients."""
        # A loss on the prediction needs no more: the codec leaves out its contextual branch.
        output, state = self.p_frame(state, frame, until=self.stage.distortion)
        judged = output.prediction if self.stage.distortion == "prediction" else output.x_hat
        # In float32 also under autocast: bfloat16 keeps 8 bits, too few for small differences.
        mse = torch.nn.functional.mse_loss(judged.float(), frame.float())
        bpp = {term: bits_per_pixel(bits, frame) for term, bits in output.bits.items()}
        loss = self.lmbda * mse + sum(bpp[term] for term in self.stage.rate_terms)
        return loss, mse, bpp, state


def stage_objective(stage: Stage, lmbda: float, mse: float, bpp: dict[str, float]) -> float:
    """The same loss from measured means: what "best" is judged by in validation."""
    return lmbda * mse + sum(bpp[term] for term in stage.rate_terms)
