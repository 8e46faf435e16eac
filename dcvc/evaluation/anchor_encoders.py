"""FFmpeg's encoders as anchors: what they are called, and how they are set up for a mode of
anchor_modes."""

from dataclasses import dataclass
from functools import cache

import av

from dcvc.config import nearest
from dcvc.entropy.frame_head import HIGHEST_QUALITY
from dcvc.errors import InputError
from dcvc.evaluation.anchor_modes import MODES, Mode

# What a mode adds to the encoder's parameters, and to the options of FFmpeg around them.
_X264 = {"zerolatency": "bframes=0", "lowdelay": "bframes=0:ref=4:trellis=2",
         "random-access": "bframes=7:b-adapt=2:b-pyramid=normal:ref=4:open-gop=0:trellis=2"}
_X265 = {"zerolatency": "bframes=0", "lowdelay": "bframes=0:ref=4:rdoq-level=2",
         "random-access": "bframes=7:b-adapt=2:b-pyramid=1:ref=4:rc-lookahead=40:rdoq-level=2"}
# x264's and x265's tuning. "zerolatency" turns off what an encoder delays for any reason. "psnr"
# turns off what serves the eye and costs PSNR: on four clips x265 saved 4 to 6 % of rate by that,
# and on three of them 2 to 3 % more by the quantization of above, which HM and VTM have too. What
# lowdelay saves in all: benchmarks/anchor_modes.json.
_TUNE = {"zerolatency": "zerolatency", "lowdelay": "psnr", "random-access": "psnr"}
_SVT = {"zerolatency": "pred-struct=1", "lowdelay": "pred-struct=1:hierarchical-levels=3",
        "random-access": "pred-struct=2"}
# Frames that libaom may look ahead, and whether it may hide a later one.
_LAG = {"zerolatency": ("0", "0"), "lowdelay": ("25", "0"), "random-access": ("25", "1")}


@dataclass(frozen=True)
class Anchor:
    """An encoder of FFmpeg's, and decoders that read what it writes, the preferred one first.

    presets: the encoder's speeds, the default first. qualities: CRF values that are measured by
    default; worst: the largest CRF there is; modes: those that it has.
    """

    name: str
    encoder: str
    decoders: tuple[str, ...]
    presets: tuple[str, ...]
    qualities: tuple[int, ...]
    worst: int
    modes: tuple[str, ...] = MODES

    def crf(self, quality: float) -> int:
        """The CRF value in the place of a quality 0 (worst) to 63. Raises InputError beyond."""
        if not 0 <= quality <= HIGHEST_QUALITY:
            raise InputError(f"--qualities: found {quality:g}, needed 0...{HIGHEST_QUALITY}, "
                             "higher is better")
        return round(self.worst * (1 - quality / HIGHEST_QUALITY))

    def options(self, quality: int, intra_period: int, preset: str | None = None,
                mode: Mode = "zerolatency") -> dict[str, str]:
        """For the encoder: an I-frame every `intra_period` frames, the rest as the mode has it."""
        chosen, period, crf = preset or self.presets[0], intra_period, str(quality)
        fixed = f"keyint={period}:min-keyint={period}:scenecut=0"
        if self.encoder == "libx264":
            return {"preset": chosen, "tune": _TUNE[mode], "crf": crf,
                    "x264-params": f"{fixed}:{_X264[mode]}:threads=1:log-level=error"}
        if self.encoder == "libx265":
            return {"preset": chosen, "tune": _TUNE[mode], "crf": crf,
                    "x265-params": f"{fixed}:{_X265[mode]}:open-gop=0:"
                                   "pools=none:frame-threads=1:info=0:log-level=none"}
        if self.encoder == "libsvtav1":
            return {"preset": chosen, "crf": crf, "g": str(period),
                    "svtav1-params": f"{_SVT[mode]}:scd=0:keyint={period}:lp=1"}
        lag, hidden = _LAG[mode]
        return {"deadline": "good", "cpu-used": chosen, "crf": crf, "b": "0", "lag-in-frames": lag,
                "auto-alt-ref": hidden, "g": str(period), "keyint_min": str(period), "row-mt": "0"}


X26_PRESETS, X26_CRF = (
    ("medium", "veryslow", "slower", "slow", "fast", "veryfast"), (18, 23, 28, 33, 38))
AV1_DECODERS, AV1_CRF = ("libdav1d", "av1"), (24, 32, 40, 48, 56)
ANCHORS = {anchor.name: anchor for anchor in (
    Anchor(name="x264", encoder="libx264", decoders=("h264",), presets=X26_PRESETS,
           qualities=X26_CRF, worst=51),
    Anchor(name="x265", encoder="libx265", decoders=("hevc",), presets=X26_PRESETS,
           qualities=X26_CRF, worst=51),
    # Its one structure of low delay codes the same bits for both words.
    Anchor(name="svt-av1", encoder="libsvtav1", decoders=AV1_DECODERS,
           presets=("8", "4", "6", "10"), qualities=AV1_CRF, worst=63,
           modes=("zerolatency", "random-access")),
    Anchor(name="aom-av1", encoder="libaom-av1", decoders=AV1_DECODERS, presets=("6", "4", "8"),
           qualities=AV1_CRF, worst=63),
    # In one pass of constant quality libvpx codes the same bits however far it may look ahead.
    Anchor(name="vp9", encoder="libvpx-vp9", decoders=("vp9",), presets=("4", "1", "8"),
           qualities=AV1_CRF, worst=63, modes=MODES[:1]),
)}


@dataclass(frozen=True)
class AnchorSetting:
    """One point of an anchor's curve. quality: its CRF; preset None: the anchor's default; pixels:
    the format of FFmpeg's that the encoder gets."""

    anchor: Anchor
    quality: int
    intra_period: int
    preset: str | None = None
    mode: Mode = "zerolatency"
    pixels: str = "yuv420p"

    @property
    def options(self) -> dict[str, str]:
        return self.anchor.options(self.quality, self.intra_period, self.preset, self.mode)

    @property
    def codec(self) -> str:
        """The curve's name. Without a mode's name it is what it always was."""
        return self.anchor.name if self.mode == "zerolatency" else f"{self.anchor.name} {self.mode}"

    @property
    def point(self) -> str:
        """The name of the point on the curve."""
        return f"crf {self.quality}"

    @property
    def described(self) -> dict[str, str]:
        """What results say of it."""
        return {"encoder": self.anchor.encoder, "mode": self.mode, "pixels": self.pixels,
                **self.options}

    @property
    def kept_by(self) -> dict:
        """What a kept result depends on, beside the frames."""
        # Entries of before had no pixels: those of the default are still found.
        other = {"pixels": self.pixels} if self.pixels != "yuv420p" else {}
        return {"gop": self.intra_period, "av": av.__version__, "encoder": self.anchor.encoder,
                "options": self.options, **other}


def find_anchor(name: str) -> Anchor:
    if name not in ANCHORS:
        raise InputError(f"anchor: found {name!r}, needed one of "
                         f"{', '.join(ANCHORS)}{nearest(name, ANCHORS)}")
    return ANCHORS[name]


def missing_reason(anchor: Anchor, pixels: str = "yuv420p",
                   mode: str = "zerolatency") -> str | None:
    """Why this FFmpeg cannot run the anchor so on these samples, None if it can."""
    if mode not in anchor.modes:
        return f"{anchor.encoder} has no mode {mode} in one pass of constant quality"
    if not has_codec(anchor.encoder, "w"):
        return f"this FFmpeg build has no encoder {anchor.encoder}"
    if not any(has_codec(name, "r") for name in anchor.decoders):
        return f"this FFmpeg build has no decoder {' or '.join(anchor.decoders)}"
    # None: the encoder does not say what it takes.
    formats = av.codec.Codec(anchor.encoder, "w").video_formats
    if formats is not None and pixels not in [form.name for form in formats]:
        return f"{anchor.encoder} of this FFmpeg build takes no {pixels}"
    return None


@cache
def has_codec(codec: str, mode: str) -> bool:
    """mode: "w" for an encoder, "r" for a decoder."""
    try:
        av.codec.Codec(codec, mode)
    except av.codec.codec.UnknownCodecError:
        return False
    return True
