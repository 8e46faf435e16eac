"""What a codec can reach on a clip, found before it is coded: a few frames at the lowest, the middle
and the highest quality.

Of each of a few places in the clip, some frames in a row are coded, the first of them as an I-frame.
A rate that lies outside of what they take is refused with the range that can be reached; one that
lies inside begins near the right quality.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from dcvc.codec.bitstream import I_FRAME, P_FRAME
from dcvc.codec.encoder import Encoder
from dcvc.codec.rate_model import RateModel, curve_at
from dcvc.codec.video_codec import VideoCodec
from dcvc.errors import InputError
from dcvc.interfaces import RateRange

# Frames in a row, at so many places of a clip.
FRAMES, PLACES = 5, 2
# How far outside of what the probed frames took a target may lie: other frames take more or less.
MARGIN = 1.4


@dataclass(frozen=True)
class RateProbe:
    """log_bits: quality -> kind -> mean of log2 of a frame's bits; intra_share: of all frames."""

    log_bits: dict[float, dict[int, float]]
    intra_share: float
    fixed: frozenset[int]

    def bits_a_frame(self, quality: float) -> float:
        found = self.log_bits[quality]
        return (self.intra_share * 2 ** found[I_FRAME]
                + (1 - self.intra_share) * 2 ** found[P_FRAME])

    @property
    def reachable(self) -> tuple[float, float]:
        """Bits a frame at the lowest and at the highest quality."""
        return self.bits_a_frame(min(self.log_bits)), self.bits_a_frame(max(self.log_bits))

    def quality_at(self, bits_a_frame: float) -> float:
        """The quality that is expected to take so many bits, within the codec's range."""
        # Between the probed qualities the logarithm is nearly straight.
        known = sorted(self.log_bits)
        logs = [math.log2(self.bits_a_frame(quality)) for quality in known]
        return float(np.interp(math.log2(bits_a_frame), logs, known))

    def check(self, bits_a_frame: float, asked: str, unit: float, name: str) -> None:
        """asked: the option as given; unit: what one bit a frame is in the option's unit, and its
        name, for the message. Raises InputError for what cannot be reached."""
        # A few frames are not the clip: only what lies clearly outside is refused.
        low, high = self.reachable
        if not low / MARGIN <= bits_a_frame <= high * MARGIN:
            raise InputError(f"{asked}: cannot be reached, this clip at this size takes about "
                             f"{low * unit:.3g} to {high * unit:.3g} {name}; choose a rate between, "
                             "another size or another model")

    def model_at(self, bits_a_frame: float) -> RateModel:
        """What a control begins with, by the probed quality that is nearest."""
        # Levels are true near the quality where they were measured: the curves are means.
        nearest = min(self.log_bits, key=lambda quality: abs(
            math.log2(self.bits_a_frame(quality) / bits_a_frame)))
        levels = {kind: value - (0.0 if kind in self.fixed else curve_at(kind, nearest))
                  for kind, value in self.log_bits[nearest].items()}
        return RateModel(levels, self.fixed, {I_FRAME, P_FRAME})


def rates_of(codec: VideoCodec) -> RateRange:
    """Raises InputError for a codec of one rate."""
    if codec.p_frame.rates is None:
        raise InputError(f"rate: {codec.p_frame.name} has one rate a model and cannot be steered; "
                         "leave the rate out, or take a light model (--model light-m)")
    return codec.p_frame.rates


def fixed_kinds(codec: VideoCodec) -> frozenset[int]:
    """Kinds of frames whose bits do not depend on the quality."""
    return frozenset() if codec.intra.rates == codec.p_frame.rates else frozenset((I_FRAME,))


def probe_rates(codec: VideoCodec, places: Sequence[Sequence[Tensor]], intra_period: int,
                frames: int) -> RateProbe:
    """places: frames in a row, uint8 RGB (3, H, W) each; frames: of the clip. Raises InputError for
    a codec of one rate."""
    rates, found = rates_of(codec), {}
    for quality in (rates.lowest, (rates.lowest + rates.highest) / 2, rates.highest):
        bits = {I_FRAME: [], P_FRAME: []}
        # Each place begins with an I-frame of its own: an encoder of its own.
        for row in places:
            encoder = Encoder(codec, tuple(row[0].shape[1:]), 25, exact=codec.exact, intra_period=-1,
                              quality=quality)
            # The first push gives the header too, which is no part of a frame: the last packet is.
            for packet in [encoder.push(frame)[-1] for frame in row]:
                bits[packet.frame.record.kind].append(8 * len(packet.data))
        # A clip of one frame has no P-frames: what they would take does not matter.
        found[quality] = {kind: statistics.fmean(map(math.log2, values)) if values else 0.0
                          for kind, values in bits.items()}
    # A clip shorter than a period has one I-frame, whatever the period is.
    intra = 1 if intra_period == -1 else -(-frames // intra_period)
    return RateProbe(found, intra / frames, fixed_kinds(codec))
