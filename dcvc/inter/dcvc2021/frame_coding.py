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
happens at ==> is given to it (latents.py, coding.py). The networks are those of model.py, or of
exact_model.py for exact streams. The state between frames is the last decoded picture; it is an
argument and a result, nothing is kept.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dcvc.errors import InputError
from dcvc.inter.dcvc2021.coding import DecoderLatents, EncoderLatents, LatentCoder
from dcvc.inter.dcvc2021.config import NAME, STREAM_ID, DCVCConfig
from dcvc.inter.dcvc2021.latents import Latents
from dcvc.inter.dcvc2021.recipes import CONTEXT_TERMS, MOTION_TERMS
from dcvc.interfaces import FrameOutput, Quality, check_quality, from_levels, to_levels
from dcvc.layers import crop, pad_to_multiple, warp

# z has one position for each 64x64 pixels: both sides of a frame are padded to multiples of this.
HYPER_STRIDE = 64
Network = Callable[[Tensor], Tensor]


class ReferencePicture(NamedTuple):
    """The state between two frames: the last decoded picture, RGB (B, 3, H, W) in [0, 1]."""

    picture: Tensor

    def detach(self) -> "ReferencePicture":
        return ReferencePicture(self.picture.detach())


class FrameCoding:
    """What a DCVC and its exact form have in common: all but how they compute.

    Frames are float RGB (B, 3, H, W) in [0, 1] of any size; padding to 64 happens inside.
    """

    name = NAME
    stream_id = STREAM_ID
    multiple = HYPER_STRIDE
    terms = MOTION_TERMS + CONTEXT_TERMS
    rates = None                                             # one rate a model
    refreshes = False                                        # nothing is carried but the picture

    # What `code` asks for: modules of a DCVC, exact copies of them in its exact form.
    config: DCVCConfig
    bitEstimator_z: nn.Module
    bitEstimator_z_mv: nn.Module
    auto_regressive: nn.Module
    auto_regressive_mv: nn.Module
    entropy_parameters: nn.Module
    entropy_parameters_mv: nn.Module
    opticFlow: Callable[[Tensor, Tensor], Tensor]
    feature_extract: Network
    context_refine: Network
    mvEncoder: Network
    mvDecoder_part1: Network
    mvDecoder_part2: Network
    contextualEncoder: Network
    contextualDecoder_part1: Network
    contextualDecoder_part2: Network
    priorEncoder: Network
    priorDecoder: Network
    mvpriorEncoder: Network
    mvpriorDecoder: Network
    temporalPriorEncoder: Network
    # (x, flow) -> x as dcvc.layers.warp moves it.
    warp = staticmethod(warp)

    def latent_coder(self) -> LatentCoder:
        """The coder of the present weights: integer tables and context models."""
        raise NotImplementedError

    def as_reference(self, picture: Tensor) -> Tensor:
        """The picture of a state as the networks take it, padded."""
        return pad_to_multiple(picture, self.multiple)

    @property
    def tables_crc(self) -> int:
        """CRC-32 of the integer tables, for the header of a stream."""
        return self.latent_coder().tables_crc

    def start(self, x_hat: Tensor) -> ReferencePicture:
        """The state after an I-frame: the decoded picture, (B, 3, H, W) in [0, 1]."""
        return ReferencePicture(x_hat)

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
        x_hat, _ = self.code(latents, self.as_reference(state.picture), None)
        latents.decoder.finish()
        picture = _in_256_levels(crop(x_hat, *state.picture.shape[-2:]))
        return picture, ReferencePicture(picture)

    @staticmethod
    def _check_frames(reference: Tensor, frame: Tensor) -> None:
        if reference.shape != frame.shape or frame.dim() != 4 or frame.shape[1] != 3:
            raise InputError(f"frames: found reference {tuple(reference.shape)} and current "
                             f"{tuple(frame.shape)}, needed two of the same shape (B, 3, H, W)")

    def _run(self, latents: Latents, reference: Tensor, frame: Tensor,
             contextual: bool = True) -> FrameOutput:
        """`code` for frames of any size."""
        self._check_frames(reference, frame)
        x_hat, prediction = self.code(latents, self.as_reference(reference),
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
        prediction = self.warp(reference, flow)
        if not contextual:
            return None, prediction
        moved = self.warp(self.feature_extract(reference), flow).to(reference.dtype)
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
