"""The field's test sets: how they lie on disk, and how many frames of each sequence papers code."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """layout: how it lies on disk. whole: a sequence with fewer frames is incomplete, not short."""

    frames: int | None                          # None: all
    intra_period: int
    layout: str
    whole: bool = False


# Frames and intra periods as in Li, Li, Lu, "Deep Contextual Video Compression" (NeurIPS 2021), and
# the works that compare themselves with it.
_OR_PICTURES = ", or a folder of pictures per sequence"
PRESETS = {
    **{f"hevc-{letter}": Preset(100, 10, "NAME_WIDTHxHEIGHT_FPS.yuv" + _OR_PICTURES)
       for letter in "bcde"},
    "uvg": Preset(120, 12, "NAME_1920x1080_120fps_420_8bit_YUV.yuv" + _OR_PICTURES),
    "mcl-jcv": Preset(120, 12, "videoSRCnn_1920x1080_FPS.yuv or .mp4"),
    "vimeo90k-test": Preset(
        7, 7, "sequences/00001/0266/im1.png … im7.png and sep_testlist.txt", whole=True),
    "davis": Preset(None, 10, "JPEGImages/480p/NAME/00000.jpg …"),
}
