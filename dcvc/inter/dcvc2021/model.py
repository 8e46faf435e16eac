"""DCVC (Li, Li, Lu, "Deep Contextual Video Compression", NeurIPS 2021): the P-frame codec.

    current, reference -> SpyNet -> flow -> mvEncoder -> y_mv -> mvpriorEncoder -> z_mv
    y_mv_hat -> mvDecoder_part1 -> flow_hat, + mvDecoder_part2(flow_hat, reference) -> refined flow
    reference -> feature_extract -> warp -> context_refine -> context
    current, context -> contextualEncoder -> y -> priorEncoder -> z
    y_hat -> contextualDecoder_part1, context -> contextualDecoder_part2 -> x_hat

One data flow (`code`) serves training, both reconstructions, the encoder and the decoder; what happens to the four
latents between analysis and synthesis is a `Latents` strategy (dcvc.inter.dcvc2021.latents). The reference frame is an
argument and the reconstruction a result: the model has no state.
"""

import math

import torch
from torch import Tensor, nn

from dcvc.config import DCVCConfig
from dcvc.entropy.conditional import MaskedConv2d, parameter_network
from dcvc.entropy.factorized import build_factorized
from dcvc.errors import InputError
from dcvc.inter.dcvc2021.latents import EstimatedLatents, Latents, StreamLatents, TrainingLatents
from dcvc.inter.dcvc2021.motion import SpyNet
from dcvc.interfaces import FrameOutput
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


class DCVC(nn.Module):
    """The P-frame codec. Frames are float RGB (B, 3, H, W) in [0, 1] of any size; padding to 64 happens inside.

    Entry names and shapes at the default configuration are those of the published checkpoints.
    """

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
        if part not in ("motion", "contextual", "all"):
            raise InputError(f"part: found '{part}', needed one of motion, contextual, all")
        names = [name for name, _ in self.named_parameters()]
        return [name for name in names if part == "all" or (name.split(".")[0] in MOTION_PARTS) == (part == "motion")]

    def forward(self, reference: Tensor, current: Tensor, contextual: bool = True) -> FrameOutput:
        """The differentiable path: additive noise for the rates (in train mode), straight-through rounding for the
        reconstruction. x_hat is not clamped. `contextual=False` runs the motion branch alone: x_hat is None.

        Raises InputError when the frames differ in shape or are not (B, 3, H, W).
        """
        return self._run(TrainingLatents(self, noise=self.training), reference, current, contextual)

    @torch.no_grad()
    def reconstruct(self, reference: Tensor, current: Tensor, mode: str = "stream") -> FrameOutput:
        """What a decoder shows, clamped to [0, 1], without gradients.

        mode "stream": y_hat = round(y - mean) + mean along the wavefront, the bits of the symbols actually coded.
        mode "estimate": the published test code's numbers: y_hat = round(y), bits clamp(-log2(p + 1e-5), 0, 50).
        """
        if mode not in ("stream", "estimate"):
            raise InputError(f"mode: found '{mode}', needed stream or estimate")
        latents = StreamLatents(self) if mode == "stream" else EstimatedLatents(self)
        output = self._run(latents, reference, current, True)
        return FrameOutput(output.x_hat.clamp_(0, 1), output.bits, output.prediction.clamp_(0, 1))

    def _run(self, latents: Latents, reference: Tensor, current: Tensor, contextual: bool) -> FrameOutput:
        if reference.shape != current.shape or current.dim() != 4 or current.shape[1] != 3:
            raise InputError(f"frames: found reference {tuple(reference.shape)} and current {tuple(current.shape)}, "
                             "needed two of the same shape (B, 3, H, W)")
        height, width = current.shape[-2:]
        x_hat, prediction = self.code(latents, pad_to_multiple(reference, HYPER_STRIDE),
                                      pad_to_multiple(current, HYPER_STRIDE), contextual)
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
