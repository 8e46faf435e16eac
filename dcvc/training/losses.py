"""The rate-distortion loss of a stage, as one module: it is what Accelerate wraps, so every forward is its forward.

    reference, frames -> for each frame:  P-frame codec -> lambda * MSE + bpp of the stage's rate terms -> mean

MSE is over RGB in [0, 1]; bpp counts unpadded pixels (Li, Li, Lu, NeurIPS 2021, eq. 9, with the rate terms of the
stage). lambda is therefore the community's {256, 512, 1024, 2048}, not multiplied by 255².
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dcvc.inter import DCVC
from dcvc.interfaces import bits_per_pixel
from dcvc.schedule import Stage


@dataclass(frozen=True)
class GOPLossOutput:
    """loss, mse: 0-dim means over the frames. bpp: term -> 0-dim mean bits per pixel. x_hat: last frame's
    reconstruction, in [0, 1], the next reference; it carries gradients only inside a cascaded GOP."""

    loss: Tensor
    mse: Tensor
    bpp: dict[str, Tensor]
    x_hat: Tensor


class GOPLoss(nn.Module):
    """Codes `frames` one after another, each from the last reconstruction, and gives the stage's mean loss.

    One frame a call is the per-frame update with a detached reference; all frames in one call is the cascaded GOP.
    """

    def __init__(self, p_frame: DCVC, stage: Stage, lmbda: float, *, compiled: bool = False,
                 checkpointing: bool = False) -> None:
        """compiled: by torch.compile, one graph a frame for one static shape. checkpointing: of a GOP only the frames
        are kept, everything between is computed again for the gradients."""
        super().__init__()
        self.p_frame, self.stage, self.lmbda, self.checkpointing = p_frame, stage, lmbda, checkpointing
        self._code = torch.compile(self.frame_loss, fullgraph=True, dynamic=False) if compiled else self.frame_loss

    def forward(self, reference: Tensor, frames: Tensor) -> dict[str, Tensor | dict[str, Tensor]]:
        """reference `(B, 3, H, W)`, frames `(B, T, 3, H, W)`, both RGB in [0, 1] -> fields of GOPLossOutput."""
        losses, mses, rates = [], [], []
        for frame in frames.unbind(1):
            if self.checkpointing and frames.shape[1] > 1:
                loss, mse, bpp, reference = checkpoint(self._code, reference, frame, use_reentrant=False)
            else:
                loss, mse, bpp, reference = self._code(reference, frame)
            losses.append(loss)
            mses.append(mse)
            rates.append(bpp)
        bpp = {term: torch.stack([rate[term] for rate in rates]).mean() for term in rates[0]}
        # A dictionary and not a dataclass: DistributedDataParallel looks for tensors only in containers it knows.
        return {"loss": torch.stack(losses).mean(), "mse": torch.stack(mses).mean(), "bpp": bpp, "x_hat": reference}

    def frame_loss(self, reference: Tensor, frame: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor], Tensor]:
        contextual = self.stage.distortion == "reconstruction"
        output = self.p_frame(reference, frame, contextual=contextual)
        shown = output.x_hat if contextual else output.prediction
        mse = torch.nn.functional.mse_loss(shown.float(), frame.float())
        bpp = {term: bits_per_pixel(bits, frame) for term, bits in output.bits.items()}
        loss = self.lmbda * mse + sum(bpp[term] for term in self.stage.rate_terms)
        return loss, mse, bpp, shown.float().clamp(0, 1)


def stage_objective(stage: Stage, lmbda: float, mse: float, bpp: dict[str, float]) -> float:
    """The same loss from measured means: what "best" is judged by in validation."""
    return lmbda * mse + sum(bpp[term] for term in stage.rate_terms)
