"""VMAF of luma planes, by the package vmaf-torch: the model v0.6.1 of Netflix, in float arithmetic.

    original, decoded -> ADM (1 number), VIF (4) of each frame \\
    original          -> motion against the frame before        >  support vector machine -> 0 ... 100
                         and the one after, the smaller of both /

The score of a frame needs the next frame's motion, so scores come at the end; until then six numbers
a frame are kept, and one plane. Samples of more than 8 bits are divided down to the scale of 255.
Netflix's own program computes with whole numbers and differs by up to 0.03 (vmaf-torch's README).
"""

import torch
from torch import Tensor


class Vmaf:
    """`add` every frame in its order, then `mean`. Needs frames of 16 pixels a side or more."""

    def __init__(self) -> None:
        from vmaf_torch import VMAF  # late: an extra of this package, which may not be there

        # Clipped to 0 ... 100, as Netflix's program does.
        self._network = VMAF(clip_score=True)
        self._before: Tensor | None = None
        self._motion: list[Tensor] = []
        self._features: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def add(self, decoded: Tensor, original: Tensor, largest: int) -> None:
        """Planes of Y `(H, W)` with samples up to `largest`."""
        x_hat, x = (plane[None, None].float() * (255 / largest) for plane in (decoded, original))
        pair = x if self._before is None else torch.cat((self._before, x))
        self._motion.append(self._network.compute_motion(pair)[-1:])
        self._features.append((self._network.compute_adm_score(x, x_hat),
                               self._network.compute_vif_features(x, x_hat)))
        self._before = x

    @torch.no_grad()
    def mean(self) -> float:
        """Of all frames' scores."""
        motion = torch.cat(self._motion)
        # A frame counts as calm where it is like one of its neighbours; the last has one only.
        calmer = torch.minimum(motion, torch.cat((motion[1:], motion[-1:])))
        adm, vif = (torch.cat(each) for each in zip(*self._features, strict=True))
        return float(self._network.predict(adm, calmer, vif).double().mean())
