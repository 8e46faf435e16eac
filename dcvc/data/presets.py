"""The field's test sets: how they lie on disk, and how many frames of each sequence papers code.

Two habits of the field have names of their own, since their numbers do not compare:

    hevc-b         96 frames, an I-frame every 32: what microsoft/DCVC's test_conditions.md suggests
    hevc-b-ip-1    96 frames, one I-frame: its other suggestion, the field's "intra period -1"
    hevc-b-2021    100 frames, an I-frame every 10: Li, Li, Lu, "Deep Contextual Video Compression"
                   (NeurIPS 2021), and the works that compare themselves with it
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Preset:
    """intra_period: -1 for one I-frame. layout: how it lies on disk. whole: a sequence with fewer
    frames is incomplete, not short. size: (width, height) of its .yuv files whose names tell none.
    """

    frames: int | None                          # None: all
    intra_period: int
    layout: str
    whole: bool = False
    size: tuple[int, int] | None = None


_OR_PICTURES = ", or a folder of pictures per sequence"
# As in 2021: the number of frames is a multiple of the intra period.
_SETS_OF_2021 = {
    **{f"hevc-{letter}": Preset(100, 10, "NAME_WIDTHxHEIGHT_FPS.yuv" + _OR_PICTURES)
       for letter in "bcde"},
    "uvg": Preset(120, 12, "NAME_1920x1080_120fps_420_8bit_YUV.yuv" + _OR_PICTURES),
    "mcl-jcv": Preset(120, 12, "videoSRCnn_1920x1080_FPS.yuv or .mp4"),
}
# Those that came later have no habit of before. USTC-TD's short set is ten sequences USTC_Badminton
# to USTC_Snooker of 96 frames each (its README); BVI's are 64 frames long.
_SETS = {
    **{name: replace(preset, frames=96, intra_period=32) for name, preset in _SETS_OF_2021.items()},
    "ustc-td": Preset(96, 32, "USTC_NAME.yuv of 1920x1080" + _OR_PICTURES, size=(1920, 1080)),
    "bvi": Preset(64, 32, "NAME_WIDTHxHEIGHT_FPSfps_10bit_420.yuv or .mp4 (BVI-DVC, BVI-AOM)"),
}
PRESETS = {
    **_SETS,
    **{f"{name}-ip-1": replace(preset, intra_period=-1) for name, preset in _SETS.items()},
    **{f"{name}-2021": preset for name, preset in _SETS_OF_2021.items()},
    "vimeo90k-test": Preset(
        7, 7, "sequences/00001/0266/im1.png … im7.png and sep_testlist.txt", whole=True),
    "davis": Preset(None, 10, "JPEGImages/480p/NAME/00000.jpg …"),
}
