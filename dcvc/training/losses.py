"""The rate-distortion loss of a stage, as one module: the one that Accelerate wraps.

    state, frames -> of each frame:  codec -> lambda * weight * D + bpp of the stage's rate terms
                  -> mean over the frames

D is the stage's distortion on pixels of unit range (distortion.py), for DCVC-2021 the MSE over RGB,
and what it adds to that (perception.py);
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
from dcvc.training.perception import Before, Perception
from dcvc.training.variations import Variations

# loss, MSE over RGB, bits per pixel by term, state after the frame, what is judged of it
FrameLoss = tuple[Tensor, Tensor, dict[str, Tensor], State, Tensor]


class GOPLoss(nn.Module):
    """Codes `frames` one after another, each from the state that the last one left, and gives the
    stage's mean loss.

    One frame a call is the per-frame update with a detached state; all frames in one call is the
    cascaded GOP.
    """

    def __init__(self, p_frame: PFrameCodec, stage: Stage, lmbda: float, *,
                 intra: FrameCodec | None = None, perception: Perception | None = None,
                 compiled: bool = False, checkpointing: bool = False) -> None:
        """intra: the I-frame codec, where the stage trains it. perception: what the stage adds to its
        distortion. compiled: by torch.compile, one graph a frame for one static shape.
        checkpointing: of a GOP only the frames are kept, everything between is computed again for
        the gradients."""
        super().__init__()
        self.p_frame = p_frame
        self.intra = intra
        # No module: see there.
        self.perception = perception
        self.stage = stage
        self.lmbda = lmbda
        self.checkpointing = checkpointing
        # One graph a frame, not one a GOP: the frame's code is compiled once for all GOP sizes.
        self._code = self.frame_loss
        if compiled:
            self._code = torch.compile(self.frame_loss, fullgraph=True, dynamic=False)

    def forward(self, state: State | None, frames: Tensor, first: int = 1,
                variations: Variations | None = None, before: Before = None) -> dict[str, Any]:
        """state before the first of frames `(B, T, 3, H, W)`, RGB in [0, 1] -> a dictionary of

        loss, mse: 0-dim means over the frames. bpp: term -> 0-dim mean bits per pixel.
        state: after the last frame, for the next call; it carries no gradients.
        terms: name -> 0-dim mean of what the stage adds to its distortion. seen: (original, decoded,
        reference) of each P-frame that an adversary has judged, for it to learn from.

        first: position of the first frame in its clip. 0 is an I-frame, for which there is no state
        yet. variations: of the whole clip. before: the frame before the first one, and what a
        decoder shows of it; for added terms alone.
        """
        quality, refresh = variations or Variations()
        losses, mses, rates, terms, seen = [], [], [], [], []
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
            loss, mse, bpp, state, *shown = coded
            if self.perception is not None:
                judgement = self.perception.judge(
                    frame, shown[0], before, self._lambda(own) * self.stage.weight(position))
                loss = loss + judgement.reach(shown[0])
                terms.append(judgement.terms)
                x_hat = shown[0].detach().float()
                if self.perception.adversary is not None and before is not None:
                    seen.append((frame.float(), x_hat, before[1]))
                before = (frame.float(), x_hat)
            losses.append(loss)
            mses.append(mse)
            rates.append(bpp)
        # An I-frame has other terms than a P-frame: each is averaged over the frames that have it.
        # A dictionary and not a dataclass: DistributedDataParallel looks for tensors only in
        # containers it knows.
        return {"loss": torch.stack(losses).mean(), "mse": torch.stack(mses).mean(),
                "bpp": _means(rates), "state": None if state is None else state.detach(),
                "terms": _means(terms), "seen": seen}

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
            return self.lmbda * weight * mse + counted, mse, bpp, state, judged
        # Every sample has its own lambda, so the product comes before the mean.
        error = distortion(self.stage.metric, frame, judged)
        loss = (self._lambda(quality) * weight * error).mean() + counted
        return loss, mse.detach(), bpp, state, judged

    def _lambda(self, quality: Tensor | None) -> Tensor | float:
        """Of each sample, or of all."""
        if quality is None:
            return self.lmbda
        return self.p_frame.rates.lambdas(quality, self.stage.lambdas)


def _means(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Name -> mean over the frames that have it."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: torch.stack([row[name] for row in rows if name in row]).mean() for name in names}


def stage_objective(stage: Stage, lmbda: float, mse: float, bpp: dict[str, float]) -> float:
    """The same loss from measured means: what "best" is judged by in validation. A codec of many
    qualities is judged by MSE at each, whatever it is trained on."""
    return lmbda * mse + sum(bpp[term] for term in stage.rate_terms if term in bpp)
