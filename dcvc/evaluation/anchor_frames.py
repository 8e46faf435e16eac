"""What an anchor codes of a source's frames, and what is compared of the frames that come back.

    no conditions    RGB -> planes of BT.709, limited range -> coder -> planes -> RGB
    conditions       the source's own planes                -> coder -> planes, compared as they are
                                                                            \\-> RGB for the rest

A coder of 10 bits takes a source of 8 bits too: its samples are multiplied by 4 on the way in, and
divided and rounded on the way out, so that 100 goes in as 400 and 401 comes out as 100.
"""

import av
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dcvc.data.eval_sequences import EvalSequence, SourceFrame
from dcvc.errors import InputError
from dcvc.evaluation.plane_metrics import Triple
from dcvc.interfaces import from_levels
from dcvc.video.encoder_tags import bt709_frame
from dcvc.video.frame_stack import planar_format
from dcvc.video.rgb_to_yuv import rgb_to_yuv420, rgb_to_yuv444
from dcvc.video.yuv_to_rgb import Colour, to_rgb


def pixels_for(sequence: EvalSequence, asked: str | None) -> str:
    """The pixel format that a coder gets. Raises InputError for one that the sequence has no
    samples for."""
    if sequence.conditions is None:
        return asked or "yuv420p"
    own, colour = sequence.planar
    if asked is None:
        return own
    other = planar_format(asked, colour.matrix, colour.full_range)[1]
    if other.subsampling != colour.subsampling or other.depth < colour.depth:
        raise InputError(f"--anchor_pixels: found {asked} for {sequence.path}, needed 4:2:0 of at "
                         f"least {colour.depth} bits with --conditions {sequence.conditions.name}")
    return asked


def coded_colour(sequence: EvalSequence, pixels: str) -> Colour:
    """How the coder's samples become RGB."""
    if sequence.conditions is None:
        return planar_format(pixels, "bt709", full_range=False)[1]
    own = sequence.planar[1]
    return planar_format(pixels, own.matrix, own.full_range, own.siting)[1]


def planes_to_code(frame: SourceFrame, colour: Colour) -> list[np.ndarray]:
    """Three planes with even sides in luma where chroma is halved: odd sides repeat their last row
    or column."""
    halved = colour.subsampling == (1, 1)
    if frame.planes is not None:
        up = colour.depth - frame.planes.colour.depth
        planes = [plane.to(torch.int32) << up for plane in
                  (frame.planes.y, frame.planes.u, frame.planes.v)]
        planes[0] = _with_even_sides(planes[0])
    else:
        rgb = from_levels(_with_even_sides(frame.rgb.float()) if halved else frame.rgb)
        convert = rgb_to_yuv420 if halved else rgb_to_yuv444
        planes = convert(rgb, colour.matrix, colour.full_range, depth=colour.depth)
    kind = np.uint8 if colour.depth == 8 else np.uint16
    return [np.ascontiguousarray(plane.numpy().astype(kind)).reshape(plane.shape[-2:])
            for plane in planes]


def _with_even_sides(x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    padded = F.pad(x[None].float(), (0, width % 2, 0, height % 2), mode="replicate")[0]
    return padded.to(x.dtype)


def frame_to_code(frame: SourceFrame, pixels: str, colour: Colour) -> av.VideoFrame:
    """The same as FFmpeg's encoders take it."""
    if frame.planes is None and pixels == "yuv420p":
        # The writer's own conversion, which is fast: anchors have always had it.
        height, width = frame.rgb.shape[-2:]
        sides = ((0, height % 2), (0, width % 2), (0, 0))
        return bt709_frame(np.pad(frame.rgb.permute(1, 2, 0).numpy(), sides, mode="edge"))
    planes = planes_to_code(frame, colour)
    made = av.VideoFrame(planes[0].shape[1], planes[0].shape[0], pixels)
    for plane, samples in zip(made.planes, planes, strict=True):
        # FFmpeg's rows may be longer than the picture's.
        rows = np.zeros((plane.height, plane.line_size // samples.itemsize), samples.dtype)
        rows[:, :samples.shape[1]] = samples
        plane.update(rows)
    return made


def planes_of_frame(frame: av.VideoFrame) -> list[np.ndarray]:
    """A decoded frame's three planes, without what FFmpeg keeps beside them."""
    kind = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
    return [np.frombuffer(plane, kind).reshape(plane.height, -1)[:, :plane.width].copy()
            for plane in frame.planes]


def shown(decoded: list[np.ndarray], colour: Colour, source: SourceFrame
          ) -> tuple[Tensor, Triple | None]:
    """Decoded planes -> uint8 RGB of the source's size, and, where the source's own planes are
    judged, planes of their size and depth."""
    kind = np.uint8 if colour.depth == 8 else np.int32
    planes = [torch.from_numpy(plane.astype(kind))[None] for plane in decoded]
    height, width = source.rgb.shape[-2:]
    rgb = to_rgb(*planes, colour)[0][:, :height, :width]
    if source.planes is None:
        return rgb, None
    down = colour.depth - source.planes.colour.depth
    half, largest = (1 << down) >> 1, (1 << source.planes.colour.depth) - 1
    originals = (source.planes.y, source.planes.u, source.planes.v)
    return rgb, tuple(
        (plane[0].to(torch.int32) + half >> down).clamp(max=largest)[
            :original.shape[1], :original.shape[2]]
        for plane, original in zip(planes, originals, strict=True))
