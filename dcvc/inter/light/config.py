"""Dimensions of the light P-frame codec, and its sizes."""

from dataclasses import dataclass, fields
from typing import Literal

from dcvc.errors import InputError

NAME = "light"
STREAM_ID = 2
MULTIPLE = 16                      # what sides are padded to
# What an encoder adds to the quality that is asked for; measured by benchmarks/quality_steps.py.
STEPS = (12.0, -4.0, 0.0, -4.0, 4.0)
TERMS = ("mv", "z", "y")           # "mv" with block motion alone
QUALITIES = 64


@dataclass(frozen=True)
class LightConfig:
    """Dimensions of one light P-frame codec. A checkpoint carries this. All kernels are those of
    depthwise convolutions; all depths are numbers of blocks.

    topology "published": qualities scale the encoder's trunk, the feature that is carried and the
    temporal prior. "transform": they scale what is added to the prediction, and the entropy
    parameters; such a model starts as a transform codec (initial.py).
    exact_scales: scales come from z and from the symbols of the frame before alone, in exact
    arithmetic, so that any machine decodes the symbols of any other. Needs "transform" and "clip".
    motion: "block" predicts pixels from the last picture by vectors that the encoder searches. Needs
    "transform".
    """

    width: int = 128                    # C: memory, context and feature at 1/8
    latent_channels: int = 128          # y at 1/16, an even number
    hyper_channels: int = 64            # z at 1/64
    adaptor_i_depth: int = 1            # picture -> memory: first P-frame and refresh only
    adaptor_m_depth: int = 1            # memory and last feature -> memory
    extractor_depth: int = 1            # memory -> context
    encoder_depth: int = 1
    decoder_depth: int = 2
    head_depth: int = 1                 # feature -> picture
    hyper_depth: int = 0                # blocks from z's width to y's; 0: one plain layer
    fusion_depth: int = 1               # hyperprior and temporal prior -> step, (scale,) mean
    fusion_width: int = 128
    spatial_depth: int = 1              # first half of y -> means of the second half
    spatial_width: int = 128
    scale_depth: int = 1                # where scales are exact: what the trace adds to them
    scale_width: int = 64
    adaptor_m_kernel: int = 5           # these two look for motion
    extractor_kernel: int = 5
    kernel: int = 3                     # everywhere else at 1/8
    activation: Literal["wsilu", "clip"] = "clip"
    half: bool = True                   # blocks of half inner width
    topology: Literal["published", "transform"] = "transform"
    exact_scales: bool = True
    quality_rows: int = 8               # rows of the quality vectors, spread over 0 ... 63
    z_rows: int = 8                     # distributions of z, likewise
    largest_scale: float = 256.0        # of the 128 scale classes
    skip_scale: float = 0.15            # y of smaller scales is not coded
    motion: Literal["none", "block"] = "block"

    def __post_init__(self) -> None:
        def refuse(name: str, needed: str) -> None:
            found = getattr(self, name)
            raise InputError(f"LightConfig.{name}: found {found}, needed {needed}")

        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name == "hyper_depth" else 1
            if isinstance(value, int) and not isinstance(value, bool) and value < least:
                refuse(field.name, f"at least {least}")
        # Each of the two steps takes one half of the channels at each place.
        if self.latent_channels % 2:
            refuse("latent_channels", "an even number")
        # An even kernel would shift the picture by half a position.
        for name in ("kernel", "adaptor_m_kernel", "extractor_kernel"):
            if getattr(self, name) % 2 == 0:
                refuse(name, "an odd number")
        # Exact arithmetic has no exponential, and needs the quality outside of the networks.
        if self.exact_scales and (self.topology, self.activation) != ("transform", "clip"):
            refuse("exact_scales", "False, but for topology transform with activation clip")
        if self.motion == "block" and self.topology == "published":
            refuse("motion", "none with the published topology")


# "uf-ld" has the published dimensions of DCVC-UF's low-delay model: 86 kMAC a pixel. The others
# are ours: 11 (m), 6 (s) and 47 (l). The first one is the default.
SIZES: dict[str, LightConfig] = {
    "m": LightConfig(),
    "s": LightConfig(width=96, latent_channels=96, hyper_channels=32, decoder_depth=1,
                     fusion_width=96, spatial_width=96, scale_width=48),
    "l": LightConfig(width=192, adaptor_i_depth=3, adaptor_m_depth=3, extractor_depth=4,
                     encoder_depth=3, decoder_depth=3, head_depth=3, hyper_depth=1,
                     fusion_depth=2, fusion_width=320, spatial_depth=2, spatial_width=256,
                     scale_depth=2, scale_width=128),
    "uf-ld": LightConfig(
        width=256, hyper_channels=128, adaptor_i_depth=4, adaptor_m_depth=4, extractor_depth=5,
        encoder_depth=3, decoder_depth=3, head_depth=3, hyper_depth=1, fusion_depth=3,
        fusion_width=384, spatial_depth=2, spatial_width=256,
        adaptor_m_kernel=3, extractor_kernel=3, activation="wsilu", topology="published",
        motion="none", exact_scales=False, quality_rows=QUALITIES, z_rows=QUALITIES,
        largest_scale=16.0),
}
