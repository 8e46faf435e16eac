"""BT.709, limited range: the colours in which every encoder here gets its frames, and their tags.

A player that finds no tags has to guess the matrix from the picture's size, and often guesses
wrongly: greens and reds are then visibly off. So the stream is tagged with all four properties.
"""

from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from dcvc.video.rgb_to_yuv_loops import to_planes_420
from dcvc.video.source_losses import UNSPECIFIED
from dcvc.video.yuv_to_rgb import MATRIX_OF_TAG


def tag_bt709(context: av.VideoCodecContext) -> None:
    """Let the encoder write into its stream that the samples are BT.709 of limited range."""
    context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
    context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709


def tag_own(context: av.VideoCodecContext, matrix: str, full_range: bool) -> None:
    """Let the stream say that its samples are of this matrix (a name of yuv_to_rgb) and range;
    nothing of primaries and transfer."""
    context.colorspace = next(tag for tag, name in MATRIX_OF_TAG.items() if name == matrix)
    context.color_range = ColorRange.JPEG if full_range else ColorRange.MPEG


def deep_frame(planes: Sequence[np.ndarray], matrix: str, full_range: bool) -> av.VideoFrame:
    """Y, U and V of 4:2:0 and 10 bits, uint16 -> a tagged frame."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, "yuv420p10le")
    for plane, samples in zip(frame.planes, planes, strict=True):
        # FFmpeg's rows are longer than the picture's.
        rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
        rows[:, : samples.shape[1]] = samples
        plane.update(rows.tobytes())
    frame.colorspace = next(tag for tag, name in MATRIX_OF_TAG.items() if name == matrix)
    frame.color_range = ColorRange.JPEG if full_range else ColorRange.MPEG
    return frame


def tag_as_source(context: av.VideoCodecContext, tags: tuple[int, int, int, int]) -> None:
    """Let the stream say of pixels' shape, primaries and transfer what the source said
    (FileIndex.tags). Only the matrix is converted on the way, so they still hold."""
    width, height, primaries, transfer = tags
    if width != height:
        context.sample_aspect_ratio = Fraction(width, height)
    if primaries != UNSPECIFIED:
        context.color_primaries = primaries
    if transfer != UNSPECIFIED:
        context.color_trc = transfer


def bt709_frame(rgb: np.ndarray) -> av.VideoFrame:
    """uint8 `(H, W, 3)`, even sides -> a tagged frame of 8 bits, 4:2:0."""
    frame = av.VideoFrame.from_ndarray(to_planes_420(rgb), format="yuv420p")
    frame.colorspace, frame.color_range = Colorspace.ITU709, ColorRange.MPEG
    return frame
