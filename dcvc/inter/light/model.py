"""The light P-frame codec: the low-delay model of DCVC-UF (2026) and smaller ones of the same kind.

    at 1/8 of the size, patches of 8x8 pixels:
      picture of the I-frame ------> adaptor_i ─┐
      memory, last feature --------> adaptor_m ─┴> memory -> extractor -> context
      frame, context -> encoder -> y (1/16) -> hyper_encoder -> z (1/64)
      z_hat -> hyper_decoder, memory -> temporal prior -> fusion -> step, scale, mean of y
      y_hat, context -> decoder -> feature -> recon_head -> x_hat
    next state: memory, feature

In the published model what moves is found by convolutions in the memory that is carried along. With
motion "block" the encoder searches (block_search.py), and the last picture, warped, joins in:

      frame, last picture -> search -> vectors, coded as "mv"
      last picture, vectors -> warp -> prediction -> patches: a further input of the adaptors
      x_hat = prediction + recon_head(feature - context)

so that what does not change costs nothing and loses nothing. y is coded in units of step. Entry
names are those of the published weights. Frames are RGB outside
and YCbCr (BT.709) less one half inside. One data flow (`code`) serves training, both
reconstructions, the encoder and the decoder; what happens to y and z between analysis and synthesis
is a `Latents` strategy (dcvc/entropy/checkerboard.py).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dcvc.device.workers import at_once, for_pixels
from dcvc.entropy.by_quality import FactorizedByQuality
from dcvc.entropy.checkerboard import Latents
from dcvc.entropy.exact import ExactNetworks
from dcvc.entropy.factors import FactorTables
from dcvc.entropy.stream_latents import CheckerboardTables
from dcvc.errors import InputError
from dcvc.inter.light.block_search import search
from dcvc.inter.light.block_warp import to_picture_grid, warp, warp_with_patches
from dcvc.inter.light.config import MULTIPLE, NAME, STEPS, STREAM_ID, TERMS, LightConfig
from dcvc.inter.light.initial import initialise
from dcvc.inter.light.latent_coding import QUALITY, LatentCoding, started_in_turn, starter
from dcvc.inter.light.motion_coder import MotionCoder
from dcvc.inter.light.networks import (
    PATCH,
    PATCH_CHANNELS,
    Decoder,
    Encoder,
    Head,
    TemporalPrior,
)
from dcvc.inter.light.picture import frame_of, padded_picture, painted
from dcvc.inter.light.state import LightState
from dcvc.inter.light.stream_coding import StreamCoding
from dcvc.interfaces import FrameOutput, Quality, RateRange, Until, check_quality
from dcvc.layers import (
    BehindPointwise,
    BlockStyle,
    Chain,
    Downsample,
    Pointwise,
    Upsample,
    blocks,
    crop,
    hyper_outputs,
    layers_in_bands,
    packs,
    pad_to_multiple,
    patch_blocks,
    rgb_to_ycbcr,
    shuffle,
    unshuffle,
    ycbcr_to_rgb,
)


def _one_packed(x: Tensor) -> bool:
    """Whether the compiled loops of picture.py serve."""
    return packs(x) and len(x) == 1


class LightPFrameModel(StreamCoding, LatentCoding):
    """The P-frame codec (a dcvc.interfaces.PFrameCodec) with qualities 0 (worst) to 63, fractions
    allowed; 32, the middle, where none is given.

    Frames are float RGB (B, 3, H, W) in [0, 1] of any size; padding to 16 happens inside.
    """

    name = NAME
    stream_id = STREAM_ID
    multiple = MULTIPLE
    parts = ("all",)
    rates = RateRange(0, QUALITY.highest, QUALITY.default, steps=STEPS)
    refreshes = True
    trains_in_shards = True
    # Between 1x1 convolutions of a few channels, channels last would cost a copy at every layer.
    cpu_layout = torch.contiguous_format

    def __init__(self, config: LightConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or LightConfig()
        if config.topology == "published":
            # The published model has a cycle of its own in its memory, by the weights of its loss.
            self.rates = RateRange(0, QUALITY.highest, QUALITY.default)
        c, n, hyper = config.width, config.latent_channels, config.hyper_channels
        style, kernel = BlockStyle(config.activation, config.half), config.kernel

        # Factors, one a channel, for each row of qualities. The published tables have a row for
        # each of 64 qualities. Fewer rows see more samples each; between them is interpolated.
        def vectors(channels: int) -> nn.Parameter:
            return nn.Parameter(torch.ones(config.quality_rows, channels))

        self.q_encoder, self.q_decoder, self.q_feature = vectors(c), vectors(c), vectors(c)
        if config.topology == "transform":
            self.q_prior, self.q_hyper = vectors(n), vectors(hyper)
        # The vectors are this module's only parameters of its own.
        self.factors = FactorTables(self, tuple(name for name, _ in self.named_parameters(recurse=False)))
        self.bit_estimator_z = FactorizedByQuality(config.z_rows, hyper)
        self.feature_adaptor_i = Chain(*patch_blocks(c, config.adaptor_i_depth, style, kernel))
        inputs = 2 * c
        # The prediction's pixels join what is known; their own embedding keeps the DCT's meaning.
        if self.moves:
            self.motion = MotionCoder()
            self.prediction_embedding = Pointwise(PATCH_CHANNELS, c)
            inputs = 3 * c
        self.feature_adaptor_m = Chain(
            *blocks(inputs, c, config.adaptor_m_depth, style, config.adaptor_m_kernel))
        if self.moves:
            self._first_of_moved = BehindPointwise(
                self.feature_adaptor_m.conv[0], self.prediction_embedding)
        self.feature_extractor = Chain(
            *blocks(c, c, config.extractor_depth, style, config.extractor_kernel))
        # Encoder and hyper encoder run on one side only; all else runs on both.
        self.encoder = Encoder(config, style)
        self.hyper_encoder = Chain(*blocks(n, hyper, 1, style), Downsample(hyper, hyper, style),
                                   Downsample(hyper, hyper, style))
        self.hyper_decoder = Chain(Upsample(hyper, hyper, style), Upsample(hyper, hyper, style),
                                   *hyper_outputs(hyper, n, config.hyper_depth, style))
        self.temporal_prior_encoder = TemporalPrior(c, style)
        # Exact scales have a network of their own; the fusion then finds steps and means alone.
        found, wide = 2 * n if config.exact_scales else 3 * n, config.fusion_width
        self.y_prior_fusion = Chain(*blocks(n + c, wide, config.fusion_depth, style),
                                    Pointwise(wide, found))
        if config.exact_scales:
            wide = config.scale_width
            self.scale_prior = Chain(*blocks(3 * n, wide, config.scale_depth, style),
                                     Pointwise(wide, n))
            self._exact = ExactNetworks(hyper=self.hyper_decoder, scale=self.scale_prior)
        wide = config.spatial_width
        self.y_spatial_prior = Chain(*blocks(4 * n, wide, config.spatial_depth, style),
                                     Pointwise(wide, n))
        self.decoder = Decoder(config, style)
        self.recon_head = Head(config, style)
        # Tables and exact networks live beside the modules and follow their weights.
        self.tables = CheckerboardTables(
            self.bit_estimator_z, config.largest_scale, config.skip_scale)
        if config.topology == "transform":
            initialise(self, QUALITY)

    @property
    def moves(self) -> bool:
        return self.config.motion == "block"

    @property
    def device(self) -> torch.device:
        return self.q_encoder.device

    @property
    def symbols_exact(self) -> bool:
        # Vectors are predicted from vectors; tables of y follow from scales, those of z from the quality.
        return self.config.exact_scales

    @property
    def terms(self) -> tuple[str, ...]:
        return TERMS if self.moves else TERMS[1:]

    @property
    def exact_on_request(self) -> bool:
        # Without ranges, by float64 alone, which takes four times as long.
        return self.config.topology == "published"

    def exact_form(self, ranges: Mapping[str, Any]) -> StreamCoding:
        """This codec by arithmetic that never rounds (exact_model.py). Raises InputError where there is
        none, and where the weights are too large for it."""
        from dcvc.inter.light.exact_model import ExactLightPFrame
        from dcvc.inter.light.exact_published import ExactPublishedPFrame

        if self.config.topology == "published":
            return ExactPublishedPFrame(self)
        return ExactLightPFrame(self, ranges)

    def part_parameters(self, part: str) -> list[str]:
        if part not in self.parts:
            raise InputError(f"part: found '{part}', needed one of {', '.join(self.parts)}")
        return [name for name, _ in self.named_parameters()]

    @property
    def tables_crc(self) -> int:
        # Vectors have tables of their own; without them the number is that of y and z, as published.
        return self.motion.crc ^ self.tables.crc if self.moves else self.tables.crc

    def start(self, x_hat: Tensor) -> LightState:
        """The state after an I-frame decoded to x_hat (B, 3, H, W) in [0, 1]. No network runs here:
        the first P-frame runs the adaptor, in `forward`, where gradients are collected."""
        # Float32 also under autocast: half precision cannot tell 256 levels near white apart.
        picture = pad_to_multiple(rgb_to_ycbcr(x_hat.float()), MULTIPLE)
        return self._after_picture(picture, tuple(x_hat.shape[-2:]))

    def _after_picture(self, picture: Tensor, size: tuple[int, int]) -> LightState:
        shown = to_picture_grid(picture) if self.moves else None
        return LightState(None, unshuffle(picture, PATCH), size, picture=shown)

    def forward(self, state: LightState, frame: Tensor, quality: Quality = None, *,
                until: Until = "reconstruction",
                refresh: bool = False) -> tuple[FrameOutput, LightState]:
        """The differentiable path: noise in the rates in train mode, rounded values in eval mode;
        x_hat not clamped.

        refresh: the next frame starts a new memory from this frame's picture, as after an I-frame.
        """
        check_quality(self.name, self.rates, quality)
        quality = QUALITY.per_sample(quality, len(frame), frame.device)
        return self._run(Latents(self.training), state, frame, quality, until, refresh)

    def _run(self, latents: Latents, state: LightState, frame: Tensor | None, quality: Tensor,
             until: Until, refresh: bool) -> tuple[FrameOutput, LightState]:
        """RGB frame, or None in a decoder -> RGB output of the frame's size, next state."""
        self.check_run(state, frame, until)
        picture = None
        if frame is not None:
            frame = frame.float()
            picture = (padded_picture(frame, MULTIPLE) if _one_packed(frame)
                       else pad_to_multiple(rgb_to_ycbcr(frame), MULTIPLE))
        with for_pixels(len(quality) * math.prod(state.size)):
            x_hat, state = self.code(latents, state, picture, quality, refresh)
        if _one_packed(x_hat):
            return FrameOutput(frame_of(x_hat, state.size), latents.bits), state
        return FrameOutput(crop(ycbcr_to_rgb(x_hat), *state.size), latents.bits), state

    def check_run(self, state: LightState, frame: Tensor | None, until: Until) -> None:
        """Raises InputError for what no frame can be coded by."""
        if until != "reconstruction":
            raise InputError(f"until: found {until}, needed reconstruction: {self.name} predicts no "
                             "picture")
        # A state belongs to one clip: a frame of another size has another state.
        height, width = state.size
        if frame is not None and (frame.dim() != 4 or tuple(frame.shape[1:]) != (3, height, width)):
            raise InputError(f"frame: found {tuple(frame.shape)}, needed (B, 3, {height}, "
                             f"{width}) as the frame before it")

    def code(self, latents: Latents, state: LightState, picture: Tensor | None, quality: Tensor,
             refresh: bool = False) -> tuple[Tensor, LightState]:
        """The recursion that encoder and decoder share.

        picture (B, 3, H, W) in YCbCr less one half, sides multiples of 16, or None in a decoder;
        quality (B,) -> x_hat like the picture, not clamped, and the next state.
        """
        # The search has stretches for one thread: patches are made meanwhile.
        patches = None if picture is None else starter(state)(unshuffle, picture, PATCH)
        vectors, factors = self._vectors(latents, state, picture, quality), self.factors.at(quality)
        # Memory and context are made of the state and the vectors: a decoder reads all other symbols
        # meanwhile.
        side = None if picture is not None else self._side(latents, state, None, factors)
        prediction, predicted = self._prediction(state, vectors)
        memory = self._memory(state, predicted)
        context = layers_in_bands(self.feature_extractor.conv, memory)
        gain = factors["q_decoder"]
        # What needs no symbol of y.
        works = (lambda: self._temporal(memory, factors), lambda: self.decoder.prepare(context, gain))
        y = None
        if picture is None:
            known = [at_once(works[0]), starter(state)(works[1])]
        else:
            gain_y, pixels = factors["q_encoder"], patches.result()
            y = self.encoder(pixels, context.to(pixels.dtype), gain_y)
            # Nothing else can be done before the hyperprior is there, so this thread sees to it.
            known = started_in_turn(state, *works, latents.begin)
            side = self._side(latents, state, y, factors)
        y_hat = self._code_latents(latents, side, y, known[0], factors)
        # An encoder writes its symbols from here on, beside the networks.
        for work in known[2:]:
            work.result()
        latents.complete()
        trace = starter(state)(self._trace, latents, factors)
        feature = self.decoder(y_hat, context, gain, known[1].result())
        x_hat, shown = self._show(prediction, feature, context)
        # A refresh forgets all but the picture, which the next frame takes for an I-frame's.
        if refresh:
            return x_hat, self._after_picture(x_hat, state.size)
        # The feature, not the picture, goes on to the next frame: what the head leaves out of a
        # picture is not lost.
        return x_hat, LightState(memory, feature, state.size, trace.result(), shown, vectors)

    def _show(self, prediction: Tensor | None, feature: Tensor,
              context: Tensor) -> tuple[Tensor, Tensor | None]:
        """-> x_hat, and the next frame's reference."""
        if prediction is None:
            return shuffle(self.recon_head(feature).float(), PATCH), None
        # The head draws what changes, so a prediction that is good enough is shown as it is.
        change = self.recon_head(feature, context.to(feature.dtype)).float()
        # On the grid, what is skipped stays the same picture for ever, on every machine.
        if _one_packed(prediction):
            return painted(prediction, change)
        x_hat = prediction + shuffle(change, PATCH)
        return x_hat, to_picture_grid(x_hat)

    def _vectors(self, latents: Latents, state: LightState, picture: Tensor | None,
                 quality: Tensor) -> Tensor | None:
        """Where the blocks of the picture were in the last one, (B, 2, h, w)."""
        if not self.moves:
            return None
        found = None
        if picture is not None:
            with torch.no_grad():
                found = search(picture.detach(), state.picture.detach(), quality)
        height, width = state.picture.shape[-2:]
        shape = (len(state.picture), 2, height // PATCH, width // PATCH)
        return latents.vectors("mv", self.motion, found, state.vectors, shape)

    def _prediction(self, state: LightState,
                    vectors: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """The moved picture, and the same in patches."""
        if vectors is None:
            return None, None
        if _one_packed(state.picture):
            return warp_with_patches(state.picture, vectors)
        prediction = warp(state.picture, vectors)
        return prediction, unshuffle(prediction, PATCH)

    def _memory(self, state: LightState, predicted: Tensor | None = None) -> Tensor:
        # After a picture there is no feature yet: an adaptor of its own reads the pixels.
        patches = state.feature if predicted is None else predicted
        if state.memory is None:
            return layers_in_bands(self.feature_adaptor_i.conv, patches)
        if predicted is None:
            return layers_in_bands(self.feature_adaptor_m.conv, state.memory, state.feature)
        # The moved picture stands where the frame does; memory and feature still lie where the last
        # frame was, and are looked at with wide kernels.
        return layers_in_bands([self._first_of_moved, *self.feature_adaptor_m.conv[1:]],
                               state.memory, state.feature, patches)
