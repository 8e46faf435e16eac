"""What a stage adds to its distortion: measures of what people see, flicker, an adversary.

    D = metric + sum of weight * term          the stage's `metric` and `added`; lambda times D counts

    ms-ssim, ycbcr, …   any metric of distortion.py
    stsim               1 - STSIM: textures as strong and as rough as the original's (no weights)
    lpips, dists        distances of a classifier's features (with the user's weights)
    flicker             squared change of the error along the motion, which is searched on the
                        originals: an error that stays on its object costs nothing
    adversary           - score of a patch discriminator that sees the decoded frame before, too
    features            mean absolute difference of what that discriminator sees on its way

The last two are moving targets: a codec that follows them alone paints whatever the discriminator
does not know yet. So their share of the gradient in each decoded frame is bounded,

    |a| / (|a| + |d|) <= adversary_share       a: theirs; d: that of everything else in D

by making a smaller where need be; the share is logged. They count once the discriminator has had
`adversary_start` updates, and never in a validation, which needs numbers that mean the same
tomorrow.

Gradients are taken in the decoded frame and passed on to the codec as they are. So the terms are
computed once, outside of compiled or recomputed code, and the discriminator gets no gradients from
the codec's loss.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcvc.errors import InputError
from dcvc.evaluation.dists import load_dists
from dcvc.evaluation.flicker import moved, search
from dcvc.evaluation.lpips import load_lpips
from dcvc.evaluation.stsim import stsim
from dcvc.schedule import ADVERSARIAL, Stage
from dcvc.training.adversary import ConditionalAdversary
from dcvc.training.config import TrainConfig
from dcvc.training.distortion import METRICS, distortion

# An original and what a decoder shows of it, the frame before the one that is judged.
Before = tuple[Tensor, Tensor] | None


@dataclass(frozen=True)
class Judgement:
    """Of one frame. value: what the added terms cost, 0-dim, the adversarial ones left out; gradient:
    of all of them in the decoded frame; terms: their means, for the log."""

    value: Tensor
    gradient: Tensor
    terms: dict[str, Tensor]

    def reach(self, x_hat: Tensor) -> Tensor:
        """`value`, with `gradient` as its gradient in x_hat."""
        return self.value + ((x_hat - x_hat.detach()).float() * self.gradient).sum()


class Perception:
    """The added terms of a stage. Not a module: what it holds is no part of the codec, and must not
    be trained, averaged or wrapped with it.

    Raises InputError where a term needs weights that were not given."""

    def __init__(self, stage: Stage, config: TrainConfig, device: torch.device | str) -> None:
        self.stage, self.config = stage, config
        self.weights = dict(stage.added)
        self._measures: dict[str, Callable[[Tensor, Tensor], Tensor]] = {}
        for name in self.weights:
            if name == "stsim":
                self._measures[name] = lambda x, x_hat: 1 - stsim(x, x_hat)
            elif name in METRICS:
                self._measures[name] = METRICS[name]
            elif name in ("lpips", "dists"):
                self._measures[name] = _network(name, config, device)
        self.adversary: ConditionalAdversary | None = None
        if set(ADVERSARIAL) & set(self.weights):
            self.adversary = ConditionalAdversary().to(device)

    def judge(self, frame: Tensor, x_hat: Tensor, before: Before, scale: Tensor | float
              ) -> Judgement:
        """frame, x_hat `(B, 3, H, W)`; scale: lambda times the frame's weight, of each sample or of
        all."""
        device = frame.device.type
        with torch.enable_grad(), torch.autocast(device, enabled=False):
            frame, decoded = frame.float(), x_hat.detach().float().requires_grad_()
            values = self.measure(frame, decoded, before)
            added = sum((self.weights[name] * value for name, value in values.items()),
                        start=decoded.new_zeros(len(decoded)))
            value = (scale * added).mean()
            gradient = _gradient(value, decoded)
            terms = {name: one.detach().mean() for name, one in values.items()}
            if self.adversary is not None and before is not None:
                rest = (scale * distortion(self.stage.metric, frame, decoded)).mean()
                rest = gradient + _gradient(rest, decoded)
                theirs, shown = self._adversarial(frame, decoded, before[1], scale)
                bounded, share = self._bounded(theirs, rest)
                gradient, terms = gradient + bounded, {**terms, **shown, "adversary_share": share}
        return Judgement(value.detach(), gradient, terms)

    def measure(self, x: Tensor, x_hat: Tensor, before: Before) -> dict[str, Tensor]:
        """Terms that need no adversary -> `(B,)`; flicker is 0 where nothing comes before."""
        values = {name: measure(x, x_hat) for name, measure in self._measures.items()}
        if "flicker" in self.weights:
            values["flicker"] = x.new_zeros(len(x)) if before is None else flicker(x, x_hat, before)
        return values

    def follow(self) -> Callable[[Tensor, Tensor], dict[str, float]]:
        """For one sequence in a validation: called with each frame and what a decoder shows, both
        `(1, 3, H, W)`; "metric" is the stage's own."""
        before: Before = None

        def measured(x: Tensor, x_hat: Tensor) -> dict[str, float]:
            nonlocal before
            values = {"metric": distortion(self.stage.metric, x, x_hat),
                      **self.measure(x, x_hat, before)}
            before = (x, x_hat)
            return {name: float(value) for name, value in values.items()}

        return measured

    def sum(self, measured: dict[str, float]) -> float:
        """D of the means that `follow` gave."""
        return measured["metric"] + sum(self.weights[name] * value
                                        for name, value in measured.items() if name != "metric")

    def _adversarial(self, frame: Tensor, decoded: Tensor, reference: Tensor, scale: Tensor | float
                     ) -> tuple[Tensor, dict[str, Tensor]]:
        """The gradient in `decoded` of the adversarial terms, not bounded yet; what to log."""
        *seen, score = self.adversary.features(decoded, reference)
        with torch.no_grad():
            *wanted, _ = self.adversary.features(frame, reference)
        distance = sum((one - other).abs().mean((1, 2, 3))
                       for one, other in zip(seen, wanted, strict=True)) / len(seen)
        own = {"adversary": -score.mean((1, 2, 3)), "features": distance}
        total = sum(self.weights.get(name, 0.0) * own[name] for name in ADVERSARIAL)
        shown = {name: own[name].detach().mean() for name in ADVERSARIAL if name in self.weights}
        gradient = _gradient((scale * total).mean(), decoded)
        # Until then it is watched only. A product and no branch: nothing waits for the device.
        counts = self.adversary.updates >= self.stage.adversary_start
        return gradient * counts, shown

    def _bounded(self, theirs: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        """`theirs` within its share of each sample's gradient; the mean share."""
        bound = self.stage.adversary_share
        a, d = (one.square().sum((1, 2, 3)).sqrt() for one in (theirs, rest))
        # The largest factor with f a <= bound (f a + d).
        factor = (bound / (1 - bound) * d / a.clamp_min(1e-20)).clamp_max(1.0)
        a = factor * a
        return theirs * factor[:, None, None, None], (a / (a + d).clamp_min(1e-20)).mean()


def flicker(x: Tensor, x_hat: Tensor, before: tuple[Tensor, Tensor]) -> Tensor:
    """Mean square of e_t - M e_(t-1) `(B,)`, e the error; M moves along the originals
    (dcvc/evaluation/flicker.py, which counts its absolute value). The frame before is taken as it
    is: the gradient reaches this one alone."""
    x_before, shown = before
    found = []
    for now, then, error, error_before in zip(x, x_before, x_hat - x, shown - x_before, strict=True):
        # In levels, as the search of the measure has them; on the CPU, where its indices are made.
        motion = search(255 * now.detach().cpu().mean(0), 255 * then.cpu().mean(0))
        found.append((error - moved(error_before, motion)).square().mean())
    return torch.stack(found)


def _gradient(value: Tensor, x: Tensor) -> Tensor:
    """Zero where the value does not depend on x."""
    if not value.requires_grad:
        return torch.zeros_like(x)
    return torch.autograd.grad(value, x, allow_unused=True, materialize_grads=True)[0]


def _network(name: str, config: TrainConfig,
             device: torch.device | str) -> Callable[[Tensor, Tensor], Tensor]:
    files = getattr(config, f"{name}_weights")
    if not files:
        raise InputError(f"added: found {name} without weights, needed --{name}_weights FILE [FILE] "
                         "(none come with this kit); stsim needs none")
    net: nn.Module = {"lpips": load_lpips, "dists": load_dists}[name](files, device)
    return lambda x, x_hat: net.distances(x_hat, x)
