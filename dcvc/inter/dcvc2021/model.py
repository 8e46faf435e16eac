"""DCVC (Li, Li, Lu, "Deep Contextual Video Compression", NeurIPS 2021): the P-frame codec.

    current, reference -> SpyNet -> flow -> mvEncoder -> y_mv -> mvpriorEncoder -> z_mv
    y_mv_hat -> mvDecoder_part1 -> flow_hat, + mvDecoder_part2(flow_hat, reference) -> refined flow
    reference -> feature_extract -> warp -> context_refine -> context
    current, context -> contextualEncoder -> y -> priorEncoder -> z
    y_hat -> contextualDecoder_part1, context -> contextualDecoder_part2 -> x_hat

One data flow (`code`) serves training, both reconstructions, the encoder and the decoder; what happens to the four
latents between analysis and synthesis is a `Latents` strategy (latents.py, coding.py). The state between frames is the
last picture shown; it is an argument and a result, the model keeps none.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dcvc.entropy.conditional import MaskedConv2d, parameter_network
from dcvc.entropy.factorized import build_factorized
from dcvc.errors import InputError
from dcvc.inter.dcvc2021.coding import DecoderLatents, EncoderLatents, LatentCoder
from dcvc.inter.dcvc2021.config import NAME, STREAM_ID, DCVCConfig
from dcvc.inter.dcvc2021.latents import EstimatedLatents, Latents, StreamLatents, TrainingLatents
from dcvc.inter.dcvc2021.motion import SpyNet
from dcvc.inter.dcvc2021.recipes import CONTEXT_TERMS, MOTION_TERMS
from dcvc.interfaces import FrameOutput, Quality, Until, check_quality, from_levels, to_levels
from dcvc.layers import GDN, LeakyResidualBlock, ResidualBlock, crop, pad_to_multiple, subpel, warp

MOTION_PARTS = ("opticFlow", "mvEncoder", "mvDecoder_part1", "mvDecoder_part2", "mvpriorEncoder", "mvpriorDecoder",
                "auto_regressive_mv", "entropy_parameters_mv", "bitEstimator_z_mv")
HYPER_STRIDE = 64


def _hyper_encoder(latent: int, hyper: int) -> nn.Sequential:
    """H/16 -> H/64."""
    return nn.Sequential(
        nn.Conv2d(latent, hyper, 3, padding=1), nn.LeakyReLU(0.01, inplace=True),
        nn.Conv2d(hyper, hyper, 5, stride=2, padding=2), nn.LeakyReLU(0.01, inplace=True),
        nn.Conv2d(hyper, hyper, 5, stride=2, padding=2))


def _hyper_decoder(hyper: int, first: int, second: int, out: int) -> nn.Sequential:
    """H/64 -> H/16."""
    return nn.Sequential(
        nn.ConvTranspose2d(hyper, first, 5, stride=2, padding=2, output_padding=1), nn.LeakyReLU(0.01, inplace=True),
        nn.ConvTranspose2d(first, second, 5, stride=2, padding=2, output_padding=1), nn.LeakyReLU(0.01, inplace=True),
        nn.ConvTranspose2d(second, out, 3, padding=1))


def _motion_encoder(v: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(2, v, 3, stride=2, padding=1)]
    for _ in range(3):
        layers += [GDN(v), nn.Conv2d(v, v, 3, stride=2, padding=1)]
    return nn.Sequential(*layers)


def _motion_decoder(v: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for out in (v, v, v, 2):
        layers += [nn.ConvTranspose2d(v, out, 3, stride=2, padding=1, output_padding=1), GDN(v, inverse=True)]
    return nn.Sequential(*layers[:-1])


def _motion_refinement(width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(7):
        layers += [nn.Conv2d(5 if i == 0 else width, 2 if i == 6 else width, 3, padding=1),
                   nn.LeakyReLU(0.1, inplace=True)]
    return nn.Sequential(*layers[:-1])


def _contextual_encoder(n: int, m: int) -> nn.Sequential:
    def down(channels: int, out: int) -> nn.Conv2d:
        return nn.Conv2d(channels, out, 5, stride=2, padding=2)

    return nn.Sequential(down(n + 3, n), GDN(n), LeakyResidualBlock(n), down(n, n), GDN(n), LeakyResidualBlock(n),
                         down(n, n), GDN(n), down(n, m))


def _contextual_decoder(n: int, m: int) -> nn.Sequential:
    return nn.Sequential(subpel(m, n), GDN(n, inverse=True), subpel(n, n), GDN(n, inverse=True), LeakyResidualBlock(n),
                         subpel(n, n), GDN(n, inverse=True), LeakyResidualBlock(n), subpel(n, n))


def _temporal_prior(n: int, m: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for out in (n, n, n, m):
        layers += [nn.Conv2d(n, out, 5, stride=2, padding=2), GDN(n)]
    return nn.Sequential(*layers[:-1])


LATENT_GAIN = 4         # of y and mv_y before training, over latents of a deviation near one


class ReferencePicture(NamedTuple):
    """The state of DCVC-2021 between two frames: the last picture shown, float RGB (B, 3, H, W) in [0, 1]."""

    picture: Tensor

    def detach(self) -> "ReferencePicture":
        return ReferencePicture(self.picture.detach())


class DCVC(nn.Module):
    """The P-frame codec (a dcvc.interfaces.PFrameCodec).

    Frames are float RGB (B, 3, H, W) in [0, 1] of any size; padding to 64 happens inside. Entry names and shapes at
    the default configuration are those of the published checkpoints.
    """

    name = NAME
    stream_id = STREAM_ID
    multiple = HYPER_STRIDE
    parts = ("motion", "contextual", "all")
    terms = MOTION_TERMS + CONTEXT_TERMS
    rates = None                                             # one rate a model

    def __init__(self, config: DCVCConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DCVCConfig()
        n, m, v, hyper = config.channels, config.latent_channels, config.motion_channels, config.hyper_channels
        self.bitEstimator_z = build_factorized(config.factorized, hyper)
        self.bitEstimator_z_mv = build_factorized(config.factorized, hyper)
        self.feature_extract = nn.Sequential(nn.Conv2d(3, n, 3, padding=1), ResidualBlock(n))
        self.context_refine = nn.Sequential(ResidualBlock(n), nn.Conv2d(n, n, 3, padding=1))
        self.mvEncoder = _motion_encoder(v)
        self.mvDecoder_part1 = _motion_decoder(v)
        self.mvDecoder_part2 = _motion_refinement(config.refine_channels)
        self.contextualEncoder = _contextual_encoder(n, m)
        self.contextualDecoder_part1 = _contextual_decoder(n, m)
        self.contextualDecoder_part2 = nn.Sequential(
            nn.Conv2d(2 * n, n, 3, padding=1), ResidualBlock(n), ResidualBlock(n), nn.Conv2d(n, 3, 3, padding=1))
        self.priorEncoder = _hyper_encoder(m, hyper)
        self.priorDecoder = _hyper_decoder(hyper, m, m, m)
        self.mvpriorEncoder = _hyper_encoder(v, hyper)
        self.mvpriorDecoder = _hyper_decoder(hyper, hyper, hyper * 3 // 2, 2 * v)
        self.entropy_parameters = parameter_network(4 * m, (10 * m // 3, 8 * m // 3), 2 * m)
        self.auto_regressive = MaskedConv2d(m, 2 * m)
        self.auto_regressive_mv = MaskedConv2d(v, 2 * v)
        self.entropy_parameters_mv = parameter_network(4 * v, (10 * v // 3, 8 * v // 3), 2 * v)
        self.temporalPriorEncoder = _temporal_prior(n, m)
        self.opticFlow = SpyNet(config.flow_channels)
        self._coder: tuple[tuple, LatentCoder] | None = None
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Keep the variance through every convolution; start near zero flow and near-identity residual blocks."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                taps = module.kernel_size[0] * module.kernel_size[1]
                if isinstance(module, nn.ConvTranspose2d):
                    taps /= module.stride[0] * module.stride[1]
                nn.init.normal_(module.weight, std=math.sqrt(1.6 / (module.in_channels * taps)))
                nn.init.zeros_(module.bias)
        small = [block.conv2 for block in self.modules() if isinstance(block, ResidualBlock)]
        small += [block.conv[2] for block in self.modules() if isinstance(block, LeakyResidualBlock)]
        small += [level.conv5 for level in self.opticFlow.moduleBasic]
        small += [self.mvDecoder_part1[-1], self.mvDecoder_part2[-1], self.contextualDecoder_part2[-1]]
        small += [self.entropy_parameters[-1], self.entropy_parameters_mv[-1]]
        small += [self.auto_regressive, self.auto_regressive_mv]
        for module in small:
            module.weight.mul_(0.1)
        for decoder in (self.contextualDecoder_part1, self.mvDecoder_part1):
            for module in decoder.modules():         # inverse GDN amplifies; four in a row would explode
                if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                    module.weight.mul_(0.4)
        self._raise_latents(LATENT_GAIN)
        self._pass_reference()
        # The predicted scales begin near 1, where both likelihoods have useful gradients; begun at the latents' own
        # deviation, rates came out a quarter higher after short trainings.
        for network in (self.entropy_parameters, self.entropy_parameters_mv):
            half = network[-1].out_channels // 2
            scales = slice(half, None) if self.config.parameter_order == "mean_scale" else slice(half)
            network[-1].bias[scales] = 1.0

    def _raise_latents(self, gain: float) -> None:
        """Begin with y well above the step it is rounded to, all else equal. Random latents harm the prediction, so
        training first shrinks them; where all are rounded to zero, nothing would make them useful again."""
        for encoder, readers in ((self.contextualEncoder, (self.contextualDecoder_part1, self.priorEncoder)),
                                 (self.mvEncoder, (self.mvDecoder_part1, self.mvpriorEncoder))):
            encoder[-1].weight.mul_(gain)
            for reader in readers:
                next(m for m in reader.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))).weight.div_(gain)
        for context in (self.auto_regressive, self.auto_regressive_mv):
            context.weight.div_(gain)

    def _pass_reference(self) -> None:
        """Let channels 0-2 of the context carry RGB from the reference to x_hat: training starts from copying it."""
        n = self.config.channels
        straight = ((self.feature_extract[0], 0), (self.context_refine[1], 0), (self.contextualDecoder_part2[0], n),
                    (self.contextualDecoder_part2[-1], 0))
        for module, first in straight:
            if module is not self.contextualDecoder_part2[-1]:
                module.weight[:3] = 0
            for colour in range(3):
                module.weight[colour, first + colour] = 0
                module.weight[colour, first + colour, 1, 1] = 1
        for block in (self.feature_extract[1], self.context_refine[0], *self.contextualDecoder_part2[1:3]):
            block.conv2.weight[:3] *= 0.1

    def part_parameters(self, part: str) -> list[str]:
        """Names of the parameters of "motion" (flow, its latents, their entropy model), "contextual" or "all"."""
        if part not in self.parts:
            raise InputError(f"part: found '{part}', needed one of {', '.join(self.parts)}")
        names = [name for name, _ in self.named_parameters()]
        return [name for name in names if part == "all" or (name.split(".")[0] in MOTION_PARTS) == (part == "motion")]

    def start(self, x_hat: Tensor) -> ReferencePicture:
        """The state after an I-frame: the picture that was shown, (B, 3, H, W) in [0, 1]."""
        return ReferencePicture(x_hat)

    def forward(self, state: ReferencePicture, frame: Tensor, quality: Quality = None, *,
                until: Until = "reconstruction") -> tuple[FrameOutput, ReferencePicture]:
        """The differentiable path: additive noise for the rates (in train mode), straight-through rounding for the
        reconstruction. x_hat is not clamped. until "prediction" runs the motion branch alone: x_hat is None.

        Raises InputError when the frames differ in shape or are not (B, 3, H, W), or for a quality.
        """
        check_quality(self.name, self.rates, quality)
        latents = TrainingLatents(self.config, noise=self.training)
        output = self._run(latents, state.picture, frame, contextual=until == "reconstruction")
        shown = output.prediction if output.x_hat is None else output.x_hat
        return output, ReferencePicture(shown.float().clamp(0, 1))

    @torch.no_grad()
    def reconstruct(self, state: ReferencePicture, frame: Tensor, quality: Quality = None, *,
                    until: Until = "reconstruction", mode: str = "stream") -> tuple[FrameOutput, ReferencePicture]:
        """What a decoder shows, clamped to [0, 1], without gradients.

        mode "stream": y_hat = round(y - mean) + mean along the wavefront, the bits of the symbols actually coded.
        mode "estimate": the published test code's numbers: y_hat = round(y), bits clamp(-log2(p + 1e-5), 0, 50).
        until "prediction": the motion branch alone, as `forward` runs it.
        """
        if mode not in ("stream", "estimate"):
            raise InputError(f"mode: found '{mode}', needed stream or estimate")
        if until == "prediction":
            return self.forward(state, frame, quality, until=until)
        check_quality(self.name, self.rates, quality)
        latents = StreamLatents(self.config) if mode == "stream" else EstimatedLatents(self.config)
        output = self._run(latents, state.picture, frame, contextual=True)
        x_hat = output.x_hat.clamp_(0, 1)
        return FrameOutput(x_hat, output.bits, output.prediction.clamp_(0, 1)), ReferencePicture(x_hat.float())

    @property
    def tables_crc(self) -> int:
        return self.latent_coder().tables_crc

    @torch.no_grad()
    def compress(self, state: ReferencePicture, frame: Tensor,
                 quality: Quality = None) -> tuple[bytes, FrameOutput, ReferencePicture]:
        """-> payload, x_hat (1, 3, H, W) of 256 levels as `decompress` gives it with bits per latent, next state."""
        check_quality(self.name, self.rates, quality)
        reference = state.picture
        self._check_frames(reference, frame)
        if frame.shape[0] != 1:
            raise InputError(f"frame: found a batch of {frame.shape[0]}, needed one frame (1, 3, H, W)")
        if not (torch.isfinite(frame).all() and torch.isfinite(reference).all()):
            raise InputError("frames: found a value that is not finite")
        latents = EncoderLatents(self.latent_coder())
        x_hat, prediction = self.code(latents, pad_to_multiple(reference, self.multiple),
                                      pad_to_multiple(frame, self.multiple))
        shown = self._shown(x_hat, frame)
        output = FrameOutput(shown, latents.bits, crop(prediction, *frame.shape[-2:]))
        return latents.encoder.to_bytes(), output, ReferencePicture(shown)

    @torch.no_grad()
    def decompress(self, state: ReferencePicture, payload: bytes,
                   bits: dict[str, float] | None = None) -> tuple[Tensor, ReferencePicture]:
        """-> x_hat (1, 3, H, W) of 256 levels in [0, 1], next state; `bits`, where given, receives what each latent
        cost. Raises BitstreamError where the payload does not fit."""
        latents = DecoderLatents(self.latent_coder(), payload, bits)
        x_hat, _ = self.code(latents, pad_to_multiple(state.picture, self.multiple), None)
        latents.decoder.finish()
        shown = self._shown(x_hat, state.picture)
        return shown, ReferencePicture(shown)

    def _shown(self, x_hat: Tensor, frame: Tensor) -> Tensor:
        """Cropped to the frame's size and rounded to the 256 levels that are shown. Encoder and decoder refer to the
        rounded picture, so that tiny differences cannot build up over a GOP."""
        return from_levels(to_levels(crop(x_hat, *frame.shape[-2:])))

    def latent_coder(self) -> LatentCoder:
        """The coder of the present weights. Making one takes seconds, so it is kept until a weight changes: torch
        counts the changes of every tensor, and a moved model has other tensors."""
        weights = [*self.parameters(), *self.buffers()]
        now = tuple((value.data_ptr(), value.device, value._version) for value in weights)
        if self._coder is None or self._coder[0] != now:
            self._coder = now, LatentCoder(
                self.config, {"mv_z": self.bitEstimator_z_mv, "z": self.bitEstimator_z},
                {"mv_y": (self.auto_regressive_mv, self.entropy_parameters_mv),
                 "y": (self.auto_regressive, self.entropy_parameters)})
        return self._coder[1]

    def __getstate__(self) -> dict[str, Any]:
        """A copy makes its own coder, whose tables live outside of Python."""
        return {**self.__dict__, "_coder": None}

    @staticmethod
    def _check_frames(reference: Tensor, frame: Tensor) -> None:
        if reference.shape != frame.shape or frame.dim() != 4 or frame.shape[1] != 3:
            raise InputError(f"frames: found reference {tuple(reference.shape)} and current {tuple(frame.shape)}, "
                             "needed two of the same shape (B, 3, H, W)")

    def _run(self, latents: Latents, reference: Tensor, frame: Tensor, contextual: bool) -> FrameOutput:
        self._check_frames(reference, frame)
        height, width = frame.shape[-2:]
        x_hat, prediction = self.code(latents, pad_to_multiple(reference, self.multiple),
                                      pad_to_multiple(frame, self.multiple), contextual)
        return FrameOutput(None if x_hat is None else crop(x_hat, height, width), latents.bits,
                           crop(prediction, height, width))

    def code(self, latents: Latents, reference: Tensor, current: Tensor | None,
             contextual: bool = True) -> tuple[Tensor | None, Tensor]:
        """The recursion that encoder and decoder share: padded frames -> (x_hat, prediction), both unclamped.

        A decoder passes current=None and latents that come from a stream.
        """
        flow = self._code_motion(latents, reference, current)
        prediction = warp(reference, flow)
        if not contextual:
            return None, prediction
        context = self.context_refine(warp(self.feature_extract(reference), flow).to(reference.dtype))
        del flow
        y = z = None
        if current is not None:
            y = self.contextualEncoder(torch.cat((current, context), dim=1))
            z = self.priorEncoder(y)
        z_hat = latents.factorized("z", self.bitEstimator_z, z, self._hyper_shape(reference))
        prior = torch.cat((self.temporalPriorEncoder(context), self.priorDecoder(z_hat)), dim=1)
        y_hat = latents.conditional("y", self.auto_regressive, self.entropy_parameters, y, prior)
        features = self.contextualDecoder_part1(y_hat)
        features = torch.cat((features, context.to(features.dtype)), dim=1)
        del context
        return self.contextualDecoder_part2(features), prediction

    def _code_motion(self, latents: Latents, reference: Tensor, current: Tensor | None) -> Tensor:
        y = z = None
        if current is not None:
            y = self.mvEncoder(self.opticFlow(current, reference))
            z = self.mvpriorEncoder(y)
        z_hat = latents.factorized("mv_z", self.bitEstimator_z_mv, z, self._hyper_shape(reference))
        prior = self.mvpriorDecoder(z_hat)
        y_hat = latents.conditional("mv_y", self.auto_regressive_mv, self.entropy_parameters_mv, y, prior)
        flow = self.mvDecoder_part1(y_hat)
        return flow + self.mvDecoder_part2(torch.cat((flow, reference.to(flow.dtype)), dim=1))

    def _hyper_shape(self, frame: Tensor) -> tuple[int, int, int, int]:
        batch, _, height, width = frame.shape
        return batch, self.config.hyper_channels, height // HYPER_STRIDE, width // HYPER_STRIDE
