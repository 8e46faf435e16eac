"""How segments are coded: for each codec an encoder of FFmpeg's and its options.

All of them for the same purpose: quick to seek in, and the same bytes from the same frames. So
there are no B-frames, which are decoded in another order than shown, no keyframes of the encoder's
own choice (scenecut), one thread, and none of x264's shortcuts that differ between processors.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import av

from dcvc.data.prepare_options import PrepareOptions
from dcvc.errors import InputError


def quick_options(keyframe: int, rate: dict[str, str]) -> dict[str, str]:
    """x264's options for a video that is quick to seek in. rate: its rate setting."""
    return {"preset": "veryfast", "tune": "fastdecode", "g": str(keyframe), "bf": "0",
            "sc_threshold": "0", **rate}


def _x264(options: PrepareOptions) -> dict[str, str]:
    rate = {"qp": "0"} if options.quality == "lossless" else {"crf": "12"}
    if options.crf is not None:
        rate = {"crf": str(options.crf)}
    return {**quick_options(options.keyframe, rate), "x264-params": "cpu-independent=1"}


def _x265(options: PrepareOptions) -> dict[str, str]:
    lossless = options.quality == "lossless" and options.crf is None
    # With weighted prediction x265 4.1 wrote other bytes in every run, losslessly at least.
    words = [f"keyint={options.keyframe}", f"min-keyint={options.keyframe}", "scenecut=0",
             "bframes=0", "open-gop=0", "no-weightp=1", "pools=none", "frame-threads=1",
             "log-level=none"]
    rate = {} if lossless else {"crf": str(12 if options.crf is None else options.crf)}
    return {"preset": "veryfast", **rate,
            "x265-params": ":".join([*words, *(["lossless=1"] if lossless else [])])}


def _svt_av1(options: PrepareOptions) -> dict[str, str]:
    if options.quality == "lossless" and options.crf is None:
        raise InputError("--quality: found lossless with --codec av1, which this encoder has not; "
                         "choose h264, hevc or ffv1")
    # The encoder reports every file on stderr unless it is told beforehand.
    os.environ.setdefault("SVT_LOG", "1")
    # Low delay (pred-struct=1): each frame refers to frames before it.
    return {"preset": "8", "g": str(options.keyframe),
            "crf": str(12 if options.crf is None else options.crf),
            "svtav1-params": "lp=1:pred-struct=1:scd=0"}


def _ffv1(options: PrepareOptions) -> dict[str, str]:
    # Version 3 has checksums, by which damage shows.
    return {"level": "3", "slicecrc": "1", "g": str(options.keyframe)}


@dataclass(frozen=True)
class SegmentEncoder:
    """library: FFmpeg's name. suffix: of its files. make_options: the encoder's, of ours."""

    library: str
    suffix: str
    make_options: Callable[[PrepareOptions], dict[str, str]]


ENCODERS = {
    "h264": SegmentEncoder("libx264", ".mp4", _x264),
    "hevc": SegmentEncoder("libx265", ".mp4", _x265),
    "av1": SegmentEncoder("libsvtav1", ".mp4", _svt_av1),
    "ffv1": SegmentEncoder("ffv1", ".mkv", _ffv1),
}


def is_offered(codec: str) -> bool:
    """Whether this PyAV has the encoder."""
    try:
        av.codec.Codec(ENCODERS[codec].library, "w")
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def encoder_of(options: PrepareOptions) -> SegmentEncoder:
    """Raises InputError where this PyAV lacks it."""
    if not is_offered(options.codec):
        others = ", ".join(codec for codec in ENCODERS if is_offered(codec))
        raise InputError(f"--codec: found {options.codec}, but this PyAV has no "
                         f"{ENCODERS[options.codec].library}; choose one of {others}")
    return ENCODERS[options.codec]
