"""What a player must know to show pictures as they were meant, beside the pictures."""

from dataclasses import dataclass
from fractions import Fraction

import av

# The numbers of ITU-T H.273 are those of FFmpeg.
UNKNOWN = 2
RGB, BT709 = 0, 1
LIMITED, FULL = 1, 2
# Matrices that FFmpeg converts RGB samples with -> its number for doing so.
CONVERSIONS = {1: 1, 5: 5, 6: 5, 9: 9}


@dataclass(frozen=True)
class PictureTags:
    """aspect: width over height of one sample. primaries, transfer, matrix: numbers of ITU-T H.273,
    2 where unknown. range: 1 limited, 2 full, 0 unknown."""

    aspect: Fraction = Fraction(1)
    primaries: int = UNKNOWN
    transfer: int = UNKNOWN
    matrix: int = UNKNOWN
    range: int = 0

    @classmethod
    def of(cls, context: av.VideoCodecContext, aspect: Fraction | None) -> "PictureTags":
        """Those of an opened stream; aspect: as its container has it."""
        return cls(aspect or Fraction(1), int(context.color_primaries), int(context.color_trc),
                   int(context.colorspace), int(context.color_range))

    def write_to(self, context: av.VideoCodecContext) -> None:
        """All of them, for a stream whose samples are those of the source."""
        self.write_light_to(context)
        context.colorspace, context.color_range = self.matrix, self.range

    def write_rgb_to(self, context: av.VideoCodecContext) -> None:
        """For RGB samples, which keep of a matrix only that there is none."""
        self.write_light_to(context)
        context.colorspace, context.color_range = RGB, FULL

    def write_light_to(self, context: av.VideoCodecContext) -> None:
        """What holds for any samples: the light that they stand for, and their shape."""
        context.sample_aspect_ratio = self.aspect
        context.color_primaries, context.color_trc = self.primaries, self.transfer

    def write_limited_to(self, context: av.VideoCodecContext) -> None:
        """For YCbCr of limited range, made of RGB by `self.conversion`. As BT.709 where nothing is
        known: a player without tags guesses, often wrongly."""
        self.write_light_to(context)
        context.colorspace, context.color_range = self._matrix, LIMITED
        if self.primaries == UNKNOWN:
            context.color_primaries = BT709
        if self.transfer == UNKNOWN:
            context.color_trc = BT709

    @property
    def conversion(self) -> int:
        """FFmpeg's number for the matrix that makes YCbCr of RGB samples."""
        return CONVERSIONS[self._matrix]

    @property
    def _matrix(self) -> int:
        return self.matrix if self.matrix in CONVERSIONS else BT709
