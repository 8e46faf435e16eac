"""Dimensions and likelihoods of DCVC-2021, and its sizes."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from dcvc.errors import InputError

NAME = "dcvc2021"
STREAM_ID = 1


@dataclass(frozen=True)
class DCVCConfig:
    """What a DCVC is built from (Li, Li, Lu, NeurIPS 2021); a checkpoint carries this."""

    channels: int = 64                                       # N: features and context
    latent_channels: int = 96                                # M: y
    motion_channels: int = 128                               # V: y_mv
    hyper_channels: int = 64                                 # z and z_mv
    flow_channels: tuple[int, int, int, int] = (32, 64, 32, 16)
    refine_channels: int = 64                                # motion refinement
    distribution: Literal["laplace", "gaussian"] = "laplace"
    # The published 4-step distribution, or CompressAI's EntropyBottleneck.
    factorized: Literal["cdf4", "bottleneck"] = "cdf4"
    # Which half of the parameter network's outputs comes first.
    parameter_order: Literal["mean_scale", "scale_mean"] = "mean_scale"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(number, int) and number < 1 for number in numbers):
                raise InputError(f"DCVCConfig.{field.name}: found {value}, needed at least 1")


# "full" has the published widths. The others keep the topology, for short trainings and for tests.
SIZES: dict[str, DCVCConfig] = {
    "full": DCVCConfig(),
    "small": DCVCConfig(channels=32, latent_channels=48, motion_channels=48, hyper_channels=32,
                        flow_channels=(16, 32, 16, 8), refine_channels=32),
    "tiny": DCVCConfig(channels=16, latent_channels=32, motion_channels=32, hyper_channels=16,
                       flow_channels=(8, 16, 8, 8), refine_channels=16),
}
