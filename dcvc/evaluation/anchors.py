"""Anchors: what x264, x265, SVT-AV1, libaom and VP9 do with the same frames, measured as we are.

    RGB frame -> 4:2:0 planes -> encoder -> packet -> decoder -> planes -> RGB frame -> metrics
       |        (8 bits, BT.709)               | bytes                        |
       +--- waits here until its decoded frame comes out and is compared -----+

Encoder and decoder run side by side in memory, so that only the frames within them are held. The
planes become RGB by the video reader's own conversion. Bits are 8 x the bytes of the packets: what
a container adds says something about the container, not about the codec, and at low rates it would
hide the differences. Parameter sets count where the encoder puts them into its packets. A frame's
bits are those of the packets with its presentation number, since encoders may hand out packets in
another order than frames.

Encoders run low delay, as P-frame codecs do: no B-frames, no look-ahead, a fixed distance of
I-frames, one thread.
"""

import hashlib
import json
import os
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor

from dcvc.config import nearest
from dcvc.data.eval_sequences import EvalSequence
from dcvc.entropy.frame_head import HIGHEST_QUALITY
from dcvc.errors import InputError, ReadError
from dcvc.evaluation.frame_counter import FrameCounter, FrameDone, Progress
from dcvc.evaluation.lpips import LPIPS, shared_lpips
from dcvc.evaluation.sequence_recorder import SequenceRecorder, safe_name, snapshot_frame
from dcvc.evaluation.stopwatch import Stopwatch
from dcvc.evaluation.table import new_table
from dcvc.files import copy_file, write_text
from dcvc.report.results import make_point
from dcvc.video.encoder_tags import bt709_frame, tag_bt709
from dcvc.video.frame_rate import exact_rate
from dcvc.video.yuv_to_rgb import Colour, to_rgb
from dcvc.weights import weights_hash

PLANES = Colour("bt709", False)
CACHE_VERSION = 2
Qualities = tuple[int, ...]     # CRF values
PICTURE_TYPE_I = 1          # FFmpeg's AV_PICTURE_TYPE_I


@dataclass(frozen=True)
class Anchor:
    """An encoder of FFmpeg's, and decoders that read what it writes, the preferred one first.

    presets: the encoder's speeds, the default first. qualities: CRF values that are measured by
    default; worst: the largest CRF there is.
    """

    name: str
    encoder: str
    decoders: tuple[str, ...]
    presets: tuple[str, ...]
    qualities: tuple[int, ...]
    worst: int

    def crf(self, quality: float) -> int:
        """The CRF value in the place of a quality 0 (worst) to 63. Raises InputError beyond."""
        if not 0 <= quality <= HIGHEST_QUALITY:
            raise InputError(f"--qualities: found {quality:g}, needed 0...{HIGHEST_QUALITY}, "
                             "higher is better")
        return round(self.worst * (1 - quality / HIGHEST_QUALITY))

    def options(self, quality: int, intra_period: int, preset: str | None = None) -> dict[str, str]:
        """For the encoder: low delay, no B-frames, an I-frame every `intra_period` frames."""
        chosen, period, crf = preset or self.presets[0], intra_period, str(quality)
        if self.encoder == "libx264":
            return {"preset": chosen, "tune": "zerolatency", "crf": crf,
                    "x264-params": f"keyint={period}:min-keyint={period}:scenecut=0:bframes=0:threads=1:"
                                   "log-level=error"}
        if self.encoder == "libx265":
            return {"preset": chosen, "tune": "zerolatency", "crf": crf,
                    "x265-params": f"keyint={period}:min-keyint={period}:scenecut=0:bframes=0:open-gop=0:"
                                   "pools=none:frame-threads=1:info=0:log-level=none"}
        if self.encoder == "libsvtav1":
            return {"preset": chosen, "crf": crf, "g": str(period),
                    "svtav1-params": f"pred-struct=1:scd=0:keyint={period}:lp=1"}
        return {"deadline": "good", "cpu-used": chosen, "crf": crf, "b": "0", "lag-in-frames": "0",
                "auto-alt-ref": "0", "g": str(period), "keyint_min": str(period), "row-mt": "0"}


X26_PRESETS, X26_CRF = ("medium", "veryslow", "slow", "fast", "veryfast"), (18, 23, 28, 33, 38)
AV1_DECODERS, AV1_CRF = ("libdav1d", "av1"), (24, 32, 40, 48, 56)
ANCHORS = {anchor.name: anchor for anchor in (
    Anchor(name="x264", encoder="libx264", decoders=("h264",), presets=X26_PRESETS,
           qualities=X26_CRF, worst=51),
    Anchor(name="x265", encoder="libx265", decoders=("hevc",), presets=X26_PRESETS,
           qualities=X26_CRF, worst=51),
    Anchor(name="svt-av1", encoder="libsvtav1", decoders=AV1_DECODERS,
           presets=("8", "4", "6", "10"), qualities=AV1_CRF, worst=63),
    Anchor(name="aom-av1", encoder="libaom-av1", decoders=AV1_DECODERS, presets=("6", "4", "8"),
           qualities=AV1_CRF, worst=63),
    Anchor(name="vp9", encoder="libvpx-vp9", decoders=("vp9",), presets=("4", "1", "8"),
           qualities=AV1_CRF, worst=63),
)}


@dataclass(frozen=True)
class AnchorSetting:
    """One point of an anchor's curve. quality: its CRF; preset None: the anchor's default."""

    anchor: Anchor
    quality: int
    intra_period: int
    preset: str | None = None

    @property
    def options(self) -> dict[str, str]:
        return self.anchor.options(self.quality, self.intra_period, self.preset)


def find_anchor(name: str) -> Anchor:
    if name not in ANCHORS:
        raise InputError(f"anchor: found {name!r}, needed one of "
                         f"{', '.join(ANCHORS)}{nearest(name, ANCHORS)}")
    return ANCHORS[name]


def missing_reason(anchor: Anchor) -> str | None:
    """Why this FFmpeg cannot run the anchor, None if it can."""
    if not _has(anchor.encoder, "w"):
        return f"this FFmpeg build has no encoder {anchor.encoder}"
    if not any(_has(name, "r") for name in anchor.decoders):
        return f"this FFmpeg build has no decoder {' or '.join(anchor.decoders)}"
    return None


def _has(codec: str, mode: str) -> bool:
    try:
        av.codec.Codec(codec, mode)
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def _to_frame(rgb: Tensor) -> av.VideoFrame:
    """uint8 `(3, H, W)` -> tagged 4:2:0 frame; odd sides repeat their last row or column."""
    height, width = rgb.shape[-2:]
    sides = ((0, height % 2), (0, width % 2), (0, 0))
    return bt709_frame(np.pad(rgb.permute(1, 2, 0).numpy(), sides, mode="edge"))


def _to_rgb(frame: av.VideoFrame, height: int, width: int) -> Tensor:
    """Decoded 4:2:0 frame -> uint8 `(3, height, width)`, cropped to the size of the original."""
    planes = []
    for plane, rows, columns in zip(frame.planes, (frame.height,) + 2 * (frame.height // 2,),
                                    (frame.width,) + 2 * (frame.width // 2,), strict=True):
        samples = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:rows, :columns]
        planes.append(torch.from_numpy(samples.copy())[None])
    return to_rgb(*planes, PLANES)[0][:, :height, :width]


def encode(setting: AnchorSetting, sequence: EvalSequence, watch: Stopwatch,
           waiting: deque[Tensor] | None = None) -> Iterator[tuple[int, bytes]]:
    """(presentation number, packet) in coding order. watch: counts the encoder's seconds. waiting:
    receives the originals that went in. Raises ReadError."""
    # Errors only: SVT-AV1 otherwise writes its settings to stderr each time.
    os.environ.setdefault("SVT_LOG", "1")
    context = av.CodecContext.create(setting.anchor.encoder, "w")
    # 4:2:0 has no odd sides.
    context.width, context.height = sequence.width + sequence.width % 2, sequence.height + sequence.height % 2
    context.pix_fmt, context.thread_count = "yuv420p", 1
    rate = exact_rate(sequence.fps)
    context.time_base, context.framerate = 1 / rate, rate
    tag_bt709(context)
    context.options = setting.options

    def packets(frame: av.VideoFrame | None) -> list[tuple[int, bytes]]:
        return [(packet.pts, bytes(packet)) for packet in watch.call(context.encode, frame)
                if packet.size]

    try:
        for number, rgb in enumerate(sequence.stream()):
            if waiting is not None:
                waiting.append(rgb)
            frame = _to_frame(rgb)
            frame.pts, frame.time_base = number, context.time_base
            yield from packets(frame)
        # No frame: the encoder hands out what it still holds.
        yield from packets(None)
    except av.error.FFmpegError as error:
        raise ReadError(f"{setting.anchor.name} on {sequence.name}: cannot encode "
                        f"({error.strerror})") from None


def decode(anchor: Anchor, packets: Iterator[bytes], watch: Stopwatch) -> Iterator[av.VideoFrame]:
    """Frames in presentation order, each as soon as its packets are there. watch: counts the
    decoder's seconds."""
    context = av.CodecContext.create(next(name for name in anchor.decoders if _has(name, "r")), "r")
    context.thread_count = 1
    for data in packets:
        yield from watch.call(context.decode, av.Packet(data))
    yield from watch.call(context.decode, None)


def measure(setting: AnchorSetting, sequence: EvalSequence, picture: Path | None,
            lpips: LPIPS | None = None, frame_done: FrameDone = lambda: None,
            with_ms_ssim: bool = True) -> dict[str, Any]:
    """Code one sequence -> its entry in a results point. picture: where to save the frame that the
    report shows. The frames are read once, and only those inside the encoder are held. Raises
    ReadError if frames get lost."""
    snapshot = snapshot_frame(sequence.frames, setting.intra_period)
    recorder = SequenceRecorder(sequence, snapshot, picture, lpips, with_ms_ssim)
    encoding, decoding = Stopwatch(), Stopwatch()
    waiting: deque[Tensor] = deque()
    sizes: dict[int, int] = {}          # of packets whose frame has not come out yet, by presentation number
    total = count = 0

    def packets() -> Iterator[bytes]:
        nonlocal total
        for number, data in encode(setting, sequence, encoding, waiting):
            sizes[number] = sizes.get(number, 0) + len(data)
            total += len(data)
            yield data

    for frame in decode(setting.anchor, packets(), decoding):
        if count < sequence.frames:
            kind = "I" if int(frame.pict_type) == PICTURE_TYPE_I else "P"
            x_hat = _to_rgb(frame, sequence.height, sequence.width)
            recorder.add(kind, 8 * sizes.pop(count, 0), waiting.popleft(), x_hat)
            frame_done()
        count += 1
    if count != sequence.frames:
        raise ReadError(f"{setting.anchor.name} on {sequence.name}: decoded {count} frames, "
                        f"needed {sequence.frames}")
    return recorder.result(8 * total, encode_seconds=encoding.seconds,
                           decode_seconds=decoding.seconds, file_bytes=total)


def measure_cached(setting: AnchorSetting, sequence: EvalSequence, digest: str, picture: Path,
                   cache: Path | None, lpips: LPIPS | None, frame_done: FrameDone,
                   with_ms_ssim: bool = True) -> dict[str, Any]:
    """As `measure`; kept under `cache` by the frames' content (digest), settings, FFmpeg's version."""
    if cache is None:
        return measure(setting, sequence, picture, lpips, frame_done, with_ms_ssim)
    content = {"version": CACHE_VERSION, "digest": digest, "frames": sequence.frames,
               "fps": sequence.fps, "gop": setting.intra_period, "av": av.__version__,
               "encoder": setting.anchor.encoder, "options": setting.options,
               "lpips": weights_hash(lpips.state_dict()) if lpips else None,
               **({} if with_ms_ssim else {"ms_ssim": False})}
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    entry, kept_picture = cache / f"{key}.json", cache / f"{key}.png"
    result = _kept_result(entry) if kept_picture.is_file() else None
    if result is None:
        result = measure(setting, sequence, picture, lpips, frame_done, with_ms_ssim)
        try:
            copy_file(picture, kept_picture)
            write_text(entry, json.dumps(result))
        except ReadError as error:
            # The next call measures anew, that is all.
            print(f"warning: result not kept: {error}", file=sys.stderr)
        return result
    copy_file(kept_picture, picture)
    # The same frames may have another name now, and the picture another place.
    result["name"], result["snapshot"]["file"] = sequence.name, str(picture)
    for _ in range(sequence.frames):
        frame_done()
    return result


def _kept_result(entry: Path) -> dict[str, Any] | None:
    """None where nothing is kept, or where it is damaged: then it is measured anew and replaced."""
    try:
        return json.loads(entry.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def chosen_anchors(anchors: dict[str, Qualities | None], preset: str | None) -> dict[str, Qualities]:
    """name -> qualities, checked before anything is coded. Raises InputError."""
    chosen = {}
    for name, qualities in anchors.items():
        anchor = find_anchor(name)
        if preset and preset not in anchor.presets:
            raise InputError(f"--speed: found {preset!r} for {name}, needed one of "
                             f"{', '.join(anchor.presets)}")
        chosen[name] = tuple(dict.fromkeys(qualities or anchor.qualities))
        bad = [quality for quality in chosen[name] if not 0 <= quality <= anchor.worst]
        if bad:
            raise InputError(f"--anchors: found CRF {bad[0]} for {name}, needed 0…{anchor.worst}")
    return chosen


def compare(sequences: list[EvalSequence], anchors: dict[str, Qualities | None], folder: Path, *,
            intra_period: int = 10, preset: str | None = None, cache: Path | None = None,
            command: str = "dcvc compare", lpips: tuple[str, ...] = (), with_ms_ssim: bool = True,
            progress: Progress | None = None) -> dict[str, Any]:
    """Run every anchor (name -> qualities, None for its own) on every sequence -> a results table.

    Decoded frames for the report go to `folder`. Anchors that this FFmpeg lacks are listed under
    "missing". progress: called with (frames done, of how many, what).
    """
    chosen, metric = chosen_anchors(anchors, preset), shared_lpips(lpips)
    results = new_table(command, sequences, folder, intra_period=intra_period, lpips=lpips,
                        anchor_input="8-bit 4:2:0 BT.709 limited range")
    reasons = {name: missing_reason(ANCHORS[name]) for name in chosen}
    results["missing"] = [{"codec": name, "reason": reason}
                          for name, reason in reasons.items() if reason]
    settings = [AnchorSetting(ANCHORS[name], quality, intra_period, preset)
                for name in chosen if not reasons[name] for quality in chosen[name]]
    counter = FrameCounter(len(settings) * sum(sequence.frames for sequence in sequences), progress)
    for setting in settings:
        name, quality, rows = setting.anchor.name, setting.quality, []
        for sequence, described in zip(sequences, results["sequences"], strict=True):
            rows.append(measure_cached(
                setting, sequence, described["digest"], lpips=metric, cache=cache,
                with_ms_ssim=with_ms_ssim,
                picture=folder / f"{safe_name(sequence.name)}_{name}_{quality}.png",
                frame_done=counter.one_of(f"{name} crf {quality} {sequence.name}")))
        results["points"].append(make_point(
            name, kind="anchor", setting=f"crf {quality}", rates="written",
            settings={"encoder": setting.anchor.encoder, **setting.options}, sequences=rows))
    return results
