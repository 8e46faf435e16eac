"""Test conditions of the field, each under one word of `--conditions`.

A test set (presets.py) says which files are measured; conditions say how:

    microsoft    test_conditions.md of github.com/microsoft/DCVC, for sources of YCbCr 4:2:0
                 * the samples of every file count as BT.709 of the full range, whatever its tags
                   say: a codec of RGB pictures sees Y = 16 as a dark grey, and no sample is cut off
                   for lying beyond 16…235
                 * PSNR on the source's own planes, at its own depth, (6 Y + U + V) / 8
                 * anchors get these planes as they are
                 * 96 frames, an I-frame every 32, unless a preset or an option says otherwise

With full-range samples the RGB frames are the same for a .yuv file and for a video that holds the
same planes, so that their results have the same digests.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Conditions:
    """matrix, full_range: how samples become RGB."""

    name: str
    frames: int
    intra_period: int
    matrix: str
    full_range: bool


CONDITIONS = {one.name: one for one in (
    Conditions("microsoft", frames=96, intra_period=32, matrix="bt709", full_range=True),
)}
