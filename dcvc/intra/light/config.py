"""Dimensions of the light I-frame codec, and its sizes."""

from dataclasses import dataclass, fields
from typing import Literal

from dcvc.errors import InputError

NAME = "light"
STREAM_ID = 3
QUALITIES = 64


@dataclass(frozen=True)
class LightIntraConfig:
    """Dimensions of one light I-frame codec. A checkpoint carries this. All depths are numbers of blocks."""

    width: int = 128                                         # C at 1/8
    latent_channels: int = 192                               # y at 1/16; a multiple of 4
    hyper_channels: int = 64                                 # z at 1/64
    encoder_depth: int = 3                                   # blocks before the step to 1/16
    decoder_depth: int = 5                                   # blocks after the step back, the first one in it
    fusion_depth: int = 2                                    # hyperprior -> scale, mean
    fusion_factor: int = 1                                   # width of the fusion over that of y
    spatial_depth: int = 2
    # 2: scales of the whole latent in one pass, later means. 4: each step finds its own scales and means.
    steps: Literal[2, 4] = 2
    activation: Literal["wsilu", "clip"] = "clip"
    half: bool = True                                        # blocks of half inner width
    # As in LightConfig. "published": the quality scales features. "transform": y and its entropy parameters alone.
    topology: Literal["published", "transform"] = "transform"
    quality_rows: int = 8
    z_rows: int = 8
    largest_scale: float = 256.0
    skip_scale: float = 0.15

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise InputError(f"LightIntraConfig.{field.name}: found {value}, needed at least 1")
        if self.latent_channels % 4:
            raise InputError(f"LightIntraConfig.latent_channels: found {self.latent_channels}, needed a multiple of 4")
        if self.steps == 4 and self.topology != "published":
            raise InputError("LightIntraConfig.steps: found 4, which the published topology alone has")


# "uf-intra" has the published dimensions of DCVC-UF's I-frame model (454 kMAC a pixel); the others are ours.
SIZES: dict[str, LightIntraConfig] = {
    "m": LightIntraConfig(),
    "s": LightIntraConfig(width=96, latent_channels=128, hyper_channels=32, decoder_depth=4),
    "l": LightIntraConfig(width=192, latent_channels=256, encoder_depth=4, decoder_depth=6),
    "uf-intra": LightIntraConfig(
        width=384, latent_channels=256, hyper_channels=128, encoder_depth=7, decoder_depth=14, fusion_depth=3,
        fusion_factor=2, spatial_depth=3, steps=4, activation="wsilu", half=False, topology="published",
        quality_rows=QUALITIES, z_rows=QUALITIES, largest_scale=16.0),
}
