"""The P-frame codec DCVC-2021 as a torch module: its networks, and how they are trained.

What it computes of a frame, and how that becomes bytes, is drawn in frame_coding.py.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dcvc.entropy.conditional import MaskedConv2d, parameter_network
from dcvc.entropy.factorized import build_factorized
from dcvc.errors import InputError
from dcvc.inter.dcvc2021 import transforms
from dcvc.inter.dcvc2021.coding import LatentCoder
from dcvc.inter.dcvc2021.config import DCVCConfig
from dcvc.inter.dcvc2021.frame_coding import FrameCoding, ReferencePicture
from dcvc.inter.dcvc2021.initialise import initialise
from dcvc.inter.dcvc2021.latents import EstimatedLatents, StreamLatents, TrainingLatents
from dcvc.inter.dcvc2021.motion import SpyNet
from dcvc.interfaces import FrameOutput, Quality, Until, check_quality
from dcvc.layers import ResidualBlock

# The first words of the weights that a stage trains as "motion"; all others are "contextual".
MOTION_PARTS = ("opticFlow", "mvEncoder", "mvDecoder_part1", "mvDecoder_part2", "mvpriorEncoder",
                "mvpriorDecoder", "auto_regressive_mv", "entropy_parameters_mv",
                "bitEstimator_z_mv")


class DCVC(nn.Module, FrameCoding):
    """The P-frame codec (a dcvc.interfaces.PFrameCodec).

    Frames are float RGB (B, 3, H, W) in [0, 1] of any size; padding to 64 happens inside. Entry
    names and shapes at the default configuration are those of the published checkpoints.
    """

    parts = ("motion", "contextual", "all")
    # It takes three times as long, so streams are exact only where that is asked for.
    exact_on_request = True

    def __init__(self, config: DCVCConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DCVCConfig()
        n, m = config.channels, config.latent_channels
        v, hyper = config.motion_channels, config.hyper_channels
        # The order of these lines is that of the random numbers which the weights begin with.
        self.bitEstimator_z = build_factorized(config.factorized, hyper)
        self.bitEstimator_z_mv = build_factorized(config.factorized, hyper)
        self.feature_extract = nn.Sequential(nn.Conv2d(3, n, 3, padding=1), ResidualBlock(n))
        self.context_refine = nn.Sequential(ResidualBlock(n), nn.Conv2d(n, n, 3, padding=1))
        self.mvEncoder = transforms.motion_encoder(v)
        self.mvDecoder_part1 = transforms.motion_decoder(v)
        self.mvDecoder_part2 = transforms.motion_refinement(config.refine_channels)
        self.contextualEncoder = transforms.contextual_encoder(n, m)
        self.contextualDecoder_part1 = transforms.contextual_decoder(n, m)
        self.contextualDecoder_part2 = transforms.reconstruction_head(n)
        self.priorEncoder = transforms.hyper_encoder(m, hyper)
        self.priorDecoder = transforms.hyper_decoder(hyper, m, m, m)
        self.mvpriorEncoder = transforms.hyper_encoder(v, hyper)
        self.mvpriorDecoder = transforms.hyper_decoder(hyper, hyper, hyper * 3 // 2, 2 * v)
        self.entropy_parameters = parameter_network(4 * m, (10 * m // 3, 8 * m // 3), 2 * m)
        self.auto_regressive = MaskedConv2d(m, 2 * m)
        self.auto_regressive_mv = MaskedConv2d(v, 2 * v)
        self.entropy_parameters_mv = parameter_network(4 * v, (10 * v // 3, 8 * v // 3), 2 * v)
        self.temporalPriorEncoder = transforms.temporal_prior(n, m)
        self.opticFlow = SpyNet(config.flow_channels)
        # See `latent_coder`.
        self._coder: LatentCoder | None = None
        self._coder_weights: tuple[list[Tensor], list[tuple]] = ([], [])
        initialise(self)

    def part_parameters(self, part: str) -> list[str]:
        """Names of the parameters of "motion" (flow, its latents, their entropy model),
        "contextual" or "all". Raises InputError for another word."""
        if part not in self.parts:
            raise InputError(f"part: found '{part}', needed one of {', '.join(self.parts)}")
        names = [name for name, _ in self.named_parameters()]
        if part == "all":
            return names
        return [name for name in names
                if (name.split(".")[0] in MOTION_PARTS) == (part == "motion")]

    def forward(self, state: ReferencePicture, frame: Tensor, quality: Quality = None, *,
                until: Until = "reconstruction") -> tuple[FrameOutput, ReferencePicture]:
        """The differentiable path: additive noise for the rates (in train mode), straight-through
        rounding for the reconstruction. x_hat is not clamped. until "prediction" runs the motion
        branch alone: x_hat is None.

        Raises InputError when the frames differ in shape or are not (B, 3, H, W), or for a quality.
        """
        check_quality(self.name, self.rates, quality)
        latents = TrainingLatents(self.config, noise=self.training)
        output = self._run(latents, state.picture, frame, contextual=until == "reconstruction")
        # While motion is trained alone, the prediction serves as the reference of the next frame.
        picture = output.prediction if output.x_hat is None else output.x_hat
        return output, ReferencePicture(picture.float().clamp(0, 1))

    @torch.no_grad()
    def reconstruct(self, state: ReferencePicture, frame: Tensor, quality: Quality = None, *,
                    until: Until = "reconstruction",
                    mode: str = "stream") -> tuple[FrameOutput, ReferencePicture]:
        """What a decoder shows, clamped to [0, 1], without gradients.

        mode "stream": the reconstruction and the bits of a stream, which is not written.
        mode "estimate": the published test code's numbers. Both are described in latents.py.
        until "prediction": the motion branch alone, as `forward` runs it.
        """
        if mode not in ("stream", "estimate"):
            raise InputError(f"mode: found '{mode}', needed stream or estimate")
        if until == "prediction":
            return self.forward(state, frame, quality, until=until)
        check_quality(self.name, self.rates, quality)
        # Both round, so the rates are those of symbols and not of noise.
        latents = (StreamLatents if mode == "stream" else EstimatedLatents)(self.config)
        output = self._run(latents, state.picture, frame)
        for picture in (output.x_hat, output.prediction):
            picture.clamp_(0, 1)
        return output, ReferencePicture(output.x_hat.float())

    def latent_coder(self) -> LatentCoder:
        """The coder of the present weights: integer tables and context models.

        Making one takes about a tenth of a second, and every frame asks for it. So it is kept until
        one of the weights it was made of has changed: it lies elsewhere (the model was moved or
        cast) or has another version (torch counts the changes in place of every tensor; only those
        through `weight.data` go uncounted, and nothing here makes any in a P-frame codec).
        """
        parts = (self.bitEstimator_z_mv, self.bitEstimator_z,
                 self.auto_regressive_mv, self.entropy_parameters_mv,
                 self.auto_regressive, self.entropy_parameters)
        # Buffers count too: the bottleneck's medians and the mask are among them.
        weights = [weight for part in parts for weight in (*part.parameters(), *part.buffers())]
        present = [(weight.data_ptr(), weight.device, weight._version) for weight in weights]
        if self._coder is None or self._coder_weights[1] != present:
            self._coder = LatentCoder(
                self.config, {"mv_z": self.bitEstimator_z_mv, "z": self.bitEstimator_z},
                {"mv_y": (self.auto_regressive_mv, self.entropy_parameters_mv),
                 "y": (self.auto_regressive, self.entropy_parameters)})
            # The tensors are held as well: were they freed, new weights could lie where they lay.
            self._coder_weights = [weight.detach() for weight in weights], present
        return self._coder

    def exact_form(self, ranges: Mapping[str, Any]) -> FrameCoding:
        """This codec by arithmetic that never rounds (exact_model.py), with the weights of now. No ranges are
        needed. Raises InputError naming the layer whose weights are too large for it."""
        from dcvc.inter.dcvc2021.exact_model import ExactDCVC

        return ExactDCVC(self)

    def __getstate__(self) -> dict[str, Any]:
        """A copy makes its own coder, whose tables live outside of Python."""
        return {**self.__dict__, "_coder": None, "_coder_weights": ([], [])}
