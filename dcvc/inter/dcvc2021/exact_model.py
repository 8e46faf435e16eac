"""DCVC-2021 by arithmetic that never rounds: the same picture on every machine. The data flow is the one of
frame_coding.py; the networks that a decoder has compute as block_float.py says, and the context models as ever.

What only an encoder computes stays in float32: the optical flow, y and z of both kinds. A decoder reads them.
All that both know is exact, for the scales of y hang on the context, and the context on the last picture.
"""

import copy
from collections.abc import Callable

from torch import Tensor, nn

from dcvc.device.workers import single
from dcvc.entropy.conditional import MaskedConv2d
from dcvc.entropy.fixed_point import check_weights
from dcvc.inter.dcvc2021.coding import LatentCoder
from dcvc.inter.dcvc2021.frame_coding import FrameCoding
from dcvc.layers.exact_copies import ExactCopies, exact_warp
from dcvc.layers.exact_levels import levels_to_double
from dcvc.layers.exact_linear import SumBound


class ExactDCVC(FrameCoding):
    """A DCVC (model.py) as it codes exact streams, with the weights that it had when this was made. x_hat has 256
    levels. Raises InputError naming the layer whose weights are too large."""

    warp = staticmethod(exact_warp)
    # Torch computes with one thread, in an encoder's float networks too, and threads share bands. So payloads do not
    # hang on their number. Groups of pictures at the same time would do, but for the memory: each needs gigabytes.
    codes_in_lanes = False
    compress, decompress = single()(FrameCoding.compress), single()(FrameCoding.decompress)

    def __init__(self, model: nn.Module) -> None:
        self.config, self._copies = model.config, ExactCopies()

        def copied(name: str) -> Callable[[Tensor], Tensor]:
            return self._copies.of(name, getattr(model, name))

        # An encoder's own.
        self.opticFlow, self.mvEncoder = _of_floats(model.opticFlow), _of_floats(model.mvEncoder)
        self.contextualEncoder = _of_floats(model.contextualEncoder)
        self.priorEncoder, self.mvpriorEncoder = _of_floats(model.priorEncoder), _of_floats(model.mvpriorEncoder)
        # What both sides compute. The order is that of the CRC, and so a part of the stream format.
        self.mvpriorDecoder = copied("mvpriorDecoder")
        self.mvDecoder_part1, self.mvDecoder_part2 = copied("mvDecoder_part1"), copied("mvDecoder_part2")
        self.feature_extract, self.context_refine = copied("feature_extract"), copied("context_refine")
        self.priorDecoder, self.temporalPriorEncoder = copied("priorDecoder"), copied("temporalPriorEncoder")
        self.contextualDecoder_part1 = copied("contextualDecoder_part1")
        self.contextualDecoder_part2 = copied("contextualDecoder_part2")
        # Exact in streams that are not, too.
        self.auto_regressive, self.entropy_parameters = model.auto_regressive, model.entropy_parameters
        self.auto_regressive_mv, self.entropy_parameters_mv = model.auto_regressive_mv, model.entropy_parameters_mv
        for name in ("auto_regressive", "auto_regressive_mv", "entropy_parameters", "entropy_parameters_mv"):
            _check(name, getattr(model, name))
        self.bitEstimator_z, self.bitEstimator_z_mv = model.bitEstimator_z, model.bitEstimator_z_mv
        # In float64 from the weights on: its last bits matter to one table in many thousands.
        z_mv, z = (copy.deepcopy(part).double() for part in (self.bitEstimator_z_mv, self.bitEstimator_z))
        self._coder = LatentCoder(self.config, {"mv_z": z_mv, "z": z},
                                  {"mv_y": (self.auto_regressive_mv, self.entropy_parameters_mv),
                                   "y": (self.auto_regressive, self.entropy_parameters)})
        self._crc = self._coder.tables_crc ^ self._copies.crc

    @property
    def tables_crc(self) -> int:
        # Integers made of weights decide as tables do.
        return self._crc

    @property
    def bounds(self) -> list[SumBound]:
        """Of each layer, what its sums need of the bits that there are."""
        return self._copies.bounds

    def latent_coder(self) -> LatentCoder:
        return self._coder

    def as_reference(self, picture: Tensor) -> Tensor:
        return levels_to_double(super().as_reference(picture))


def _of_floats(network: nn.Module) -> Callable[..., Tensor]:
    # What reaches it is float64 where it comes from the exact side.
    def run(*inputs: Tensor) -> Tensor:
        return network(*(x.float() for x in inputs))

    return run


def _check(name: str, network: nn.Module) -> None:
    """Raises InputError naming the layer that the context model's arithmetic is too narrow for."""
    # What its mask hides is not computed with.
    if isinstance(network, MaskedConv2d):
        check_weights(name, network.weight * network.mask, network.bias)
        return
    for number, layer in network.named_children():
        if isinstance(layer, nn.Conv2d):
            check_weights(f"{name}.{number}", layer.weight, layer.bias)
