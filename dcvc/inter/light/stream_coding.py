"""How a light P-frame codec turns its data flow into payloads and back."""

import torch
from torch import Tensor, nn

from dcvc.entropy.checkerboard import Latents
from dcvc.entropy.frame_head import FrameHead, split_head
from dcvc.entropy.stream_latents import CheckerboardTables, DecoderLatents, EncoderLatents, StreamLatents
from dcvc.errors import InputError
from dcvc.inter.light.config import MULTIPLE, NAME, STREAM_ID, LightConfig
from dcvc.inter.light.latent_coding import QUALITY
from dcvc.inter.light.state import LightState
from dcvc.interfaces import FrameOutput, Quality, RateRange, Until, check_quality
from dcvc.layers import all_finite, crop, packed, pad_to_multiple, rgb_to_ycbcr


class StreamCoding:
    """Methods of LightPFrameModel (model.py) and of its exact form (exact_model.py), which differ in what
    `_run` computes."""

    name: str
    config: LightConfig
    rates: RateRange
    tables: CheckerboardTables
    device: torch.device
    # Torch computes with one thread in `packed`, and threads share bands that are always the same.
    codes_in_lanes = True

    def _run(self, latents: Latents, state: LightState, frame: Tensor | None, quality: Tensor,
             until: Until, refresh: bool) -> tuple[FrameOutput, LightState]:
        """RGB frame, or None in a decoder -> RGB output of the frame's size, next state."""
        raise NotImplementedError

    @packed()
    def reconstruct(self, state: LightState, frame: Tensor, quality: Quality = None, *,
                    until: Until = "reconstruction",
                    refresh: bool = False) -> tuple[FrameOutput, LightState]:
        """What a decoder shows, clamped to [0, 1], without gradients; bits as streams cost them,
        qualities rounded as streams keep them."""
        check_quality(self.name, self.rates, quality)
        # Whoever measures rates here should measure those of the very quality that is written.
        quality = QUALITY.as_written(QUALITY.per_sample(quality, len(frame), frame.device))
        latents = StreamLatents(self.config.largest_scale, self.config.skip_scale)
        output, state = self._run(latents, state, frame, quality, until, refresh)
        return FrameOutput(output.x_hat.clamp_(0, 1), output.bits), state

    @packed()
    def compress(self, state: LightState, frame: Tensor, quality: Quality = None, *,
                 refresh: bool = False) -> tuple[bytes, FrameOutput, LightState]:
        """-> payload, x_hat (1, 3, H, W) in [0, 1] as `decompress` gives it with estimated bits, next
        state. Raises InputError for a batch and for values that are not finite."""
        check_quality(self.name, self.rates, quality)
        if frame.shape[0] != 1:
            found = frame.shape[0]
            raise InputError(f"frame: found a batch of {found}, needed one frame (1, 3, H, W)")
        if not all_finite(frame):
            raise InputError("frame: found a value that is not finite")
        parts = QUALITY.parts(quality)
        latents, until = EncoderLatents(self.tables), "reconstruction"
        output, state = self._run(latents, state, frame, self._quality(parts), until, refresh)
        payload = latents.payload()
        shown = FrameOutput(output.x_hat.clamp_(0, 1), output.bits)
        return FrameHead(parts, refresh).to_bytes() + payload, shown, state

    @packed()
    def decompress(self, state: LightState, payload: bytes,
                   bits: dict[str, float] | None = None) -> tuple[Tensor, LightState]:
        """-> x_hat (1, 3, H, W) in [0, 1], next state; `bits`, where given, receives what each
        latent cost. Raises BitstreamError where the payload does not fit."""
        (parts, refresh), symbols = split_head(payload)
        latents, until = DecoderLatents(self.tables, symbols, bits), "reconstruction"
        output, state = self._run(latents, state, None, self._quality(parts), until, refresh)
        # Symbols that nobody asked for mean another model or another size.
        latents.decoder.finish()
        return output.x_hat.clamp_(0, 1), state

    def _quality(self, parts: int) -> Tensor:
        return QUALITY.from_parts(parts, self.device)


class ExactStreamCoding(StreamCoding):
    """What both exact forms of a LightPFrameModel (model.py) share; the weights are the model's."""

    name, stream_id, multiple, refreshes = NAME, STREAM_ID, MULTIPLE, True

    def __init__(self, model: nn.Module) -> None:
        self.model, self.config, self.rates, self.terms = model, model.config, model.rates, model.terms
        self.tables = model.tables

    @property
    def integers_crc(self) -> int:
        """Of the integers that were made of weights, and of ranges where there are any."""
        raise NotImplementedError

    def code(self, latents: Latents, state: LightState, picture: Tensor | None, quality: Tensor,
             refresh: bool = False) -> tuple[Tensor, LightState]:
        """As `LightPFrameModel.code`; x_hat as `shown` takes it."""
        raise NotImplementedError

    def shown(self, x_hat: Tensor) -> Tensor:
        """What `code` gave -> RGB of 256 levels in [0, 1], padded."""
        raise NotImplementedError

    def _run(self, latents: Latents, state: LightState, frame: Tensor | None, quality: Tensor,
             until: Until, refresh: bool) -> tuple[FrameOutput, LightState]:
        self.model.check_run(state, frame, until)
        # Y of the encoder alone hangs on these floats, and a decoder reads it.
        picture = None if frame is None else pad_to_multiple(rgb_to_ycbcr(frame.float()), MULTIPLE)
        x_hat, state = self.code(latents, state, picture, quality, refresh)
        return FrameOutput(crop(self.shown(x_hat), *state.size), latents.bits), state

    @property
    def tables_crc(self) -> int:
        # Integers made of weights decide as tables do.
        return self.model.tables_crc ^ self.integers_crc

    @property
    def device(self) -> torch.device:
        return self.model.device
