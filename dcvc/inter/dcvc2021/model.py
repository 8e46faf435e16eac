"""DCVC (Li, Li, Lu, "Deep Contextual Video Compression", NeurIPS 2021): the P-frame codec.

The frame is coded on condition of a context: features of the reference, moved to where the frame
shows them. No difference of pixels is ever formed. Names are those of the weights; ==> is where a
latent goes through the stream, so what stands before it is known to the encoder alone:

    motion      current, reference -> opticFlow -> flow
                flow -> mvEncoder -> y_mv -> mvpriorEncoder -> z_mv
                z_mv        ==> z_mv_hat -> mvpriorDecoder -> prior of y_mv
                y_mv, prior ==> y_mv_hat -> mvDecoder_part1 -> decoded flow
                decoded flow, reference -> mvDecoder_part2 -> + decoded flow -> refined flow
    prediction  reference -> warp by the refined flow
    context     reference -> feature_extract -> warp by it too -> context_refine -> context
    frame       current, context -> contextualEncoder -> y -> priorEncoder -> z
                z           ==> z_hat -> priorDecoder   ┐
                context     -> temporalPriorEncoder     ┴-> prior of y
                y, prior    ==> y_hat -> contextualDecoder_part1 -> features
                features, context -> contextualDecoder_part2 -> x_hat

    sizes       frames, flow, context, features H x W;  y, y_mv H/16 x W/16;  z, z_mv H/64 x W/64
    entropy     z by bitEstimator_z (z_mv by bitEstimator_z_mv): one distribution per channel
                y by entropy_parameters(prior, auto_regressive(y_hat before)), y_mv by the _mv ones

One function (`code`) is this whole flow, for training, evaluation, encoder and decoder; what
happens at ==> is given to it (latents.py, coding.py). The state between frames is the last decoded
picture; it is an argument and a result, the model keeps none.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dcvc.entropy.conditional import MaskedConv2d, parameter_network
from dcvc.entropy.factorized import build_factorized
from dcvc.errors import InputError
from dcvc.inter.dcvc2021 import transforms
from dcvc.inter.dcvc2021.coding import DecoderLatents, EncoderLatents, LatentCoder
from dcvc.inter.dcvc2021.config import NAME, STREAM_ID, DCVCConfig
from dcvc.inter.dcvc2021.initialise import initialise
from dcvc.inter.dcvc2021.latents import EstimatedLatents, Latents, StreamLatents, TrainingLatents
from dcvc.inter.dcvc2021.motion import SpyNet
from dcvc.inter.dcvc2021.recipes import CONTEXT_TERMS, MOTION_TERMS
from dcvc.interfaces import FrameOutput, Quality, Until, check_quality, from_levels, to_levels
from dcvc.layers import ResidualBlock, crop, pad_to_multiple, warp

# The first words of the weights that a stage trains as "motion"; all others are "contextual".
MOTION_PARTS = ("opticFlow", "mvEncoder", "mvDecoder_part1", "mvDecoder_part2", "mvpriorEncoder",
                "mvpriorDecoder", "auto_regressive_mv", "entropy_parameters_mv",
                "bitEstimator_z_mv")
# z has one position for each 64x64 pixels: both sides of a frame are padded to multiples of this.
HYPER_STRIDE = 64


class ReferencePicture(NamedTuple):
    """The state between two frames: the last decoded picture, RGB (B, 3, H, W) in [0, 1]."""

    picture: Tensor

    def detach(self) -> "ReferencePicture":
        return ReferencePicture(self.picture.detach())


class DCVC(nn.Module):
    """The P-frame codec (a dcvc.interfaces.PFrameCodec).

    Frames are float RGB (B, 3, H, W) in [0, 1] of any size; padding to 64 happens inside. Entry
    names and shapes at the default configuration are those of the published checkpoints.
    """

    name = NAME
    stream_id = STREAM_ID
    multiple = HYPER_STRIDE
    parts = ("motion", "contextual", "all")
    terms = MOTION_TERMS + CONTEXT_TERMS
    rates = None                                             # one rate a model
    refreshes = False                                        # nothing is carried but the picture

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

    def start(self, x_hat: Tensor) -> ReferencePicture:
        """The state after an I-frame: the decoded picture, (B, 3, H, W) in [0, 1]."""
        return ReferencePicture(x_hat)

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

    @property
    def tables_crc(self) -> int:
        """CRC-32 of the integer tables, for the header of a stream."""
        return self.latent_coder().tables_crc

    @torch.no_grad()
    def compress(self, state: ReferencePicture, frame: Tensor,
                 quality: Quality = None) -> tuple[bytes, FrameOutput, ReferencePicture]:
        """-> payload, x_hat (1, 3, H, W) of 256 levels as `decompress` gives it with bits per
        latent, next state. Raises InputError for anything but one frame of finite values."""
        check_quality(self.name, self.rates, quality)
        self._check_frames(state.picture, frame)
        if frame.shape[0] != 1:
            raise InputError(f"frame: found a batch of {frame.shape[0]}, "
                             "needed one frame (1, 3, H, W)")
        # NaN would be rounded to some symbol, and the stream would decode to something else.
        if not (torch.isfinite(frame).all() and torch.isfinite(state.picture).all()):
            raise InputError("frames: found a value that is not finite")
        latents = EncoderLatents(self.latent_coder())
        output = self._run(latents, state.picture, frame)
        # The estimated bits and the prediction stay as they are; the picture is the decoder's.
        output = replace(output, x_hat=_in_256_levels(output.x_hat))
        return latents.encoder.to_bytes(), output, ReferencePicture(output.x_hat)

    @torch.no_grad()
    def decompress(self, state: ReferencePicture, payload: bytes,
                   bits: dict[str, float] | None = None) -> tuple[Tensor, ReferencePicture]:
        """-> x_hat (1, 3, H, W) of 256 levels in [0, 1], next state; `bits`, where given, receives
        what each latent cost. Raises BitstreamError where the payload does not fit."""
        # The sizes of all latents follow from the reference's: a payload carries none.
        latents = DecoderLatents(self.latent_coder(), payload, bits)
        x_hat, _ = self.code(latents, pad_to_multiple(state.picture, self.multiple), None)
        latents.decoder.finish()
        picture = _in_256_levels(crop(x_hat, *state.picture.shape[-2:]))
        return picture, ReferencePicture(picture)

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

    def __getstate__(self) -> dict[str, Any]:
        """A copy makes its own coder, whose tables live outside of Python."""
        return {**self.__dict__, "_coder": None, "_coder_weights": ([], [])}

    @staticmethod
    def _check_frames(reference: Tensor, frame: Tensor) -> None:
        if reference.shape != frame.shape or frame.dim() != 4 or frame.shape[1] != 3:
            raise InputError(f"frames: found reference {tuple(reference.shape)} and current "
                             f"{tuple(frame.shape)}, needed two of the same shape (B, 3, H, W)")

    def _run(self, latents: Latents, reference: Tensor, frame: Tensor,
             contextual: bool = True) -> FrameOutput:
        """`code` for frames of any size."""
        self._check_frames(reference, frame)
        x_hat, prediction = self.code(latents, pad_to_multiple(reference, self.multiple),
                                      pad_to_multiple(frame, self.multiple), contextual)
        size = frame.shape[-2:]
        return FrameOutput(x_hat=None if x_hat is None else crop(x_hat, *size), bits=latents.bits,
                           prediction=crop(prediction, *size))

    def code(self, latents: Latents, reference: Tensor, current: Tensor | None,
             contextual: bool = True) -> tuple[Tensor | None, Tensor]:
        """The flow at the top of this file: padded frames -> (x_hat, prediction), both unclamped.

        A decoder passes current=None and latents that come from a stream.
        """
        flow = self._code_motion(latents, reference, current)
        prediction = warp(reference, flow)
        if not contextual:
            return None, prediction
        moved = warp(self.feature_extract(reference), flow).to(reference.dtype)
        context = self.context_refine(moved)
        # Tensors of the frame's size are what fills the memory: keep none that is not needed.
        del flow, moved
        # A decoder has no frame to analyse: y and z come from the stream.
        y = z = None
        if current is not None:
            y = self.contextualEncoder(torch.cat((current, context), dim=1))
            z = self.priorEncoder(y)
        z_hat = latents.factorized("z", self.bitEstimator_z, z, self._hyper_shape(reference))
        # The decoder knows the context before it reads y, so the context helps to predict y too.
        prior = torch.cat((self.temporalPriorEncoder(context), self.priorDecoder(z_hat)), dim=1)
        y_hat = latents.conditional("y", self.auto_regressive, self.entropy_parameters, y, prior)
        features = self.contextualDecoder_part1(y_hat)
        # What is joined must have one type, and under autocast they may differ.
        features = torch.cat((features, context.to(features.dtype)), dim=1)
        del context
        return self.contextualDecoder_part2(features), prediction

    def _code_motion(self, latents: Latents, reference: Tensor, current: Tensor | None) -> Tensor:
        """-> the refined flow, which encoder and decoder share."""
        y = z = None
        if current is not None:
            y = self.mvEncoder(self.opticFlow(current, reference))
            z = self.mvpriorEncoder(y)
        z_hat = latents.factorized("mv_z", self.bitEstimator_z_mv, z, self._hyper_shape(reference))
        prior = self.mvpriorDecoder(z_hat)
        y_hat = latents.conditional(
            "mv_y", self.auto_regressive_mv, self.entropy_parameters_mv, y, prior)
        # The reference shows where edges are, and motion changes at edges.
        flow = self.mvDecoder_part1(y_hat)
        return flow + self.mvDecoder_part2(torch.cat((flow, reference.to(flow.dtype)), dim=1))

    def _hyper_shape(self, frame: Tensor) -> tuple[int, int, int, int]:
        batch, _, height, width = frame.shape
        return batch, self.config.hyper_channels, height // HYPER_STRIDE, width // HYPER_STRIDE


def _in_256_levels(x_hat: Tensor) -> Tensor:
    """The picture as a screen shows it. Encoder and decoder refer to this one, not to the float
    one, so that tiny differences between two machines cannot build up over a GOP."""
    return from_levels(to_levels(x_hat))
