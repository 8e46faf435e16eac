"""Samples of more than 8 bits -> 4:2:0 of 10 bits, smaller if wanted, in their own colours.

Luma and chroma are resampled separately, each along rows and columns, by the same rule. Where does
an output sample lie among the input's? Say a picture of 8 columns becomes one of 4 (s = 2), 4:2:0
with chroma at the left. Output chroma column 1 belongs to output luma column 2; its centre is at
input luma 2 · (2 + 0.5) - 0.5 = 4.5, between columns 4 and 5, and that is input chroma column
4.5 / 2 = 2.25. The weights are a triangle around it, s samples to either side, so that none is
passed over:

    input chroma column     0      1      2      3
    weight                  0    .375   .875   .625    divided by their sum

Chroma planes that were scaled like pictures of their own would move by a part of a pixel.
"""

import functools

import numpy as np

from dcvc.video.frame_stack import Planes
from dcvc.video.yuv_to_rgb import SITINGS

# 4:2:0 as it is written: every other row and column, between rows, on columns.
OUT_STEP, OUT_SITING = 2, SITINGS["left"]
OUT_DEPTH = 10


@functools.lru_cache(maxsize=16)
def _weights(inputs: int, outputs: int, scale: float, steps: tuple[int, int],
             offsets: tuple[float, float]) -> np.ndarray:
    """`(outputs, inputs)`: how much of each input sample an output sample is made of. scale: luma
    samples of the input for one of the output. steps, offsets: of the input and the output, luma
    samples from one sample to the next and to the first."""
    luma = np.arange(outputs) * steps[1] + offsets[1]
    places = (scale * (luma + 0.5) - 0.5 - offsets[0]) / steps[0]
    reach = max(1.0, scale * steps[1] / steps[0])
    distance = np.abs(places.clip(0, inputs - 1)[:, None] - np.arange(inputs))
    weights = np.maximum(0.0, 1.0 - distance / reach)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def deep_planes(planes: Planes, place: int, size: tuple[int, int],
                scaled: bool) -> list[np.ndarray]:
    """Frame `place` of whole, unrotated frames -> Y, U, V as uint16. size: (height, width), even;
    what the picture is scaled to, or else cut to."""
    colour, shape = planes.colour, planes.y.shape[1:]
    # Sizes are made even, so the two scales may differ a little.
    scales = [old / new if scaled else 1.0 for old, new in zip(shape, size, strict=True)]
    largest = (1 << OUT_DEPTH) - 1
    # In the full range white is the largest number; in the limited one it doubles with each bit.
    gain = 2.0 ** (OUT_DEPTH - colour.depth)
    if colour.full_range:
        gain = largest / ((1 << colour.depth) - 1)
    result = []
    for plane, is_luma in ((planes.y, True), (planes.u, False), (planes.v, False)):
        samples = plane[place].numpy().astype(np.float32)
        for axis in (0, 1):
            step_in = 1 if is_luma else 1 << colour.subsampling[axis]
            step_out = 1 if is_luma else OUT_STEP
            offsets = ((step_in - 1) * SITINGS[colour.siting][axis],
                       (step_out - 1) * OUT_SITING[axis])
            outputs = size[axis] // step_out
            if scales[axis] != 1 or (step_in, offsets[0]) != (step_out, offsets[1]):
                weights = _weights(samples.shape[axis], outputs, scales[axis], (step_in, step_out),
                                   offsets)
                samples = weights @ samples if axis == 0 else samples @ weights.T
            samples = samples[:outputs] if axis == 0 else samples[:, :outputs]
        result.append(np.rint(samples * gain).clip(0, largest).astype(np.uint16))
    return result
