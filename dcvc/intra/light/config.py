"""Dimensions of the light I-frame codec, and its sizes."""

from dataclasses import dataclass, fields
from typing import Literal

from dcvc.errors import InputError

NAME = "light"
STREAM_ID = 3
QUALITIES = 64


@dataclass(frozen=True)
class LightIntraConfig:
    """Dimensions of one light I-frame codec. A checkpoint carries this. All depths are numbers of
    blocks.

    steps: y is coded in 2 steps, the scales of all known after the first pass, or in 4 steps that
    find their own.
    topology "published": the quality scales features. "transform": y and its entropy parameters
    alone; such a model starts as a transform codec (initial.py).
    exact_scales: the first pass, which makes the scales from z, is computed in exact arithmetic, so
    that any machine decodes the symbols of any other. Needs "transform" and "clip".
    """

    width: int = 128                    # C at 1/8
    latent_channels: int = 192          # y at 1/16, a multiple of 4
    hyper_channels: int = 64            # z at 1/64
    encoder_depth: int = 2              # blocks before the step to 1/16
    decoder_depth: int = 4              # blocks after the step back, the one in it counted
    hyper_depth: int = 0                # blocks from z's width to y's; 0: one plain layer
    fusion_depth: int = 1               # hyperprior -> scale, mean
    fusion_factor: int = 1              # width of the fusion over that of y
    spatial_depth: int = 1              # y so far -> means of the next step
    spatial_width: int = 128
    steps: Literal[2, 4] = 2
    activation: Literal["wsilu", "clip"] = "clip"
    half: bool = True                   # blocks of half inner width
    topology: Literal["published", "transform"] = "transform"
    exact_scales: bool = True
    quality_rows: int = 8               # rows of the quality vectors, spread over 0 ... 63
    z_rows: int = 8                     # distributions of z, likewise
    largest_scale: float = 256.0        # of the 128 scale classes
    skip_scale: float = 0.15            # y of smaller scales is not coded

    def __post_init__(self) -> None:
        def refuse(name: str, needed: str) -> None:
            found = getattr(self, name)
            raise InputError(f"LightIntraConfig.{name}: found {found}, needed {needed}")

        for field in fields(self):
            value = getattr(self, field.name)
            counts = isinstance(value, int) and not isinstance(value, bool)
            if counts and field.name != "hyper_depth" and value < 1:
                refuse(field.name, "at least 1")
        for name, least in (("encoder_depth", 1), ("decoder_depth", 2), ("hyper_depth", 0)):
            if getattr(self, name) < least:
                refuse(name, f"at least {least}")
        if self.latent_channels % 4:
            refuse("latent_channels", "a multiple of 4")
        if self.steps == 4 and self.topology != "published":
            refuse("steps", "2: 4 steps go with the published topology")
        if self.exact_scales and (self.topology, self.activation) != ("transform", "clip"):
            refuse("exact_scales", "False, but for topology transform with activation clip")


# "uf-intra" has the published dimensions of DCVC-UF's I-frame model (454 kMAC a pixel). The others
# are ours: 10 (m), 6 (s) and 30 (l).
SIZES: dict[str, LightIntraConfig] = {
    "m": LightIntraConfig(),
    "s": LightIntraConfig(width=96, latent_channels=128, hyper_channels=32, decoder_depth=3,
                          spatial_width=96),
    "l": LightIntraConfig(width=192, latent_channels=256, encoder_depth=4, decoder_depth=6,
                          hyper_depth=1, fusion_depth=2, spatial_depth=2, spatial_width=256),
    "uf-intra": LightIntraConfig(
        width=384, latent_channels=256, hyper_channels=128, encoder_depth=7, decoder_depth=14,
        hyper_depth=1, fusion_depth=3, fusion_factor=2, spatial_depth=3, spatial_width=512, steps=4,
        activation="wsilu", half=False,
        topology="published", exact_scales=False, quality_rows=QUALITIES, z_rows=QUALITIES,
        largest_scale=16.0),
}
