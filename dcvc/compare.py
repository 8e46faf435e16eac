"""Anchors: what x264, x265, SVT-AV1 and VP9 do with the same frames, measured the same way.

Every codec gets the same RGB frames. The anchors code them as 8-bit 4:2:0 BT.709 limited range, and their decoded
planes become RGB by the video reader's own conversion. Bits are those of the packets, without any container.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from torch import Tensor

from dcvc.colour import rgb_to_yuv420
from dcvc.config import nearest
from dcvc.data.colour import Colour, to_rgb
from dcvc.data.sequences import EvalSequence
from dcvc.errors import InputError, ReadError
from dcvc.files import copy_file, write_text
from dcvc.recorder import SequenceRecorder, save_picture, snapshot_frame
from dcvc.results import make_point, new_results

PLANES = Colour("bt709", False)
CACHE_VERSION = 1
PICTURE_TYPE_I = 1          # AV_PICTURE_TYPE_I


@dataclass(frozen=True)
class Anchor:
    """An encoder of FFmpeg's. options: low delay, one reference direction, an I-frame each `gop` frames."""

    name: str
    encoder: str
    decoders: tuple[str, ...]
    presets: tuple[str, ...]
    qualities: tuple[int, ...]

    def options(self, quality: int, gop: int, preset: str | None = None) -> dict[str, str]:
        chosen = preset or self.presets[0]
        if self.encoder == "libx264":
            return {"preset": chosen, "tune": "zerolatency", "crf": str(quality),
                    "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes=0:threads=1:log-level=error"}
        if self.encoder == "libx265":
            return {"preset": chosen, "tune": "zerolatency", "crf": str(quality),
                    "x265-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes=0:open-gop=0:pools=none:"
                                   "frame-threads=1:info=0:log-level=none"}
        if self.encoder == "libsvtav1":
            return {"preset": chosen, "crf": str(quality), "g": str(gop),
                    "svtav1-params": f"pred-struct=1:scd=0:keyint={gop}:lp=1"}
        return {"deadline": "good", "cpu-used": chosen, "crf": str(quality), "b": "0", "lag-in-frames": "0",
                "auto-alt-ref": "0", "g": str(gop), "keyint_min": str(gop), "row-mt": "0"}


ANCHORS = {anchor.name: anchor for anchor in (
    Anchor("x264", "libx264", ("h264",), ("medium", "veryslow", "slow", "fast", "veryfast"), (18, 23, 28, 33, 38)),
    Anchor("x265", "libx265", ("hevc",), ("medium", "veryslow", "slow", "fast", "veryfast"), (18, 23, 28, 33, 38)),
    Anchor("svt-av1", "libsvtav1", ("libdav1d", "av1"), ("8", "4", "6", "10"), (24, 32, 40, 48, 56)),
    Anchor("aom-av1", "libaom-av1", ("libdav1d", "av1"), ("6", "4", "8"), (24, 32, 40, 48, 56)),
    Anchor("vp9", "libvpx-vp9", ("vp9",), ("4", "1", "8"), (24, 32, 40, 48, 56)),
)}


def find_anchor(name: str) -> Anchor:
    if name not in ANCHORS:
        raise InputError(f"anchor: found {name!r}, needed one of {', '.join(ANCHORS)}{nearest(name, ANCHORS)}")
    return ANCHORS[name]


def missing_reason(anchor: Anchor) -> str | None:
    """Why this FFmpeg cannot serve the anchor, None if it can."""
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
    padded = torch.nn.functional.pad(rgb[None].float() / 255, (0, width % 2, 0, height % 2), mode="replicate")[0]
    packed = np.concatenate([plane.numpy().reshape(-1) for plane in rgb_to_yuv420(padded)])
    frame = av.VideoFrame.from_ndarray(packed.reshape(-1, padded.shape[-1]), format="yuv420p")
    frame.colorspace, frame.color_range = Colorspace.ITU709, ColorRange.MPEG
    return frame


def _to_rgb(frame: av.VideoFrame, height: int, width: int) -> Tensor:
    planes = []
    for plane, rows, columns in zip(frame.planes, (frame.height,) + 2 * (frame.height // 2,),
                                    (frame.width,) + 2 * (frame.width // 2,), strict=True):
        samples = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:rows, :columns]
        planes.append(torch.from_numpy(samples.copy())[None])
    return to_rgb(*planes, PLANES)[0][:, :height, :width]


def encode(anchor: Anchor, sequence: EvalSequence, options: dict[str, str]) -> tuple[list[tuple[int, bytes]], float]:
    """[(presentation number, packet)] in coding order, and the seconds spent in the encoder."""
    os.environ.setdefault("SVT_LOG", "1")     # errors only: SVT-AV1 otherwise writes its settings to stderr each time
    context = av.CodecContext.create(anchor.encoder, "w")
    context.width, context.height = sequence.width + sequence.width % 2, sequence.height + sequence.height % 2
    context.pix_fmt, context.thread_count = "yuv420p", 1
    rate = Fraction(sequence.fps).limit_denominator(1001)
    context.time_base, context.framerate = 1 / rate, rate
    context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
    context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    context.options = dict(options)
    packets, seconds = [], 0.0

    def take(frame: av.VideoFrame | None) -> None:
        nonlocal seconds
        began = time.perf_counter()
        found = context.encode(frame)
        seconds += time.perf_counter() - began
        packets.extend((packet.pts, bytes(packet)) for packet in found if packet.size)

    try:
        for number, rgb in enumerate(sequence.stream()):
            frame = _to_frame(rgb)
            frame.pts, frame.time_base = number, context.time_base
            take(frame)
        take(None)
    except av.error.FFmpegError as error:
        raise ReadError(f"{anchor.name} on {sequence.name}: cannot encode ({error.strerror})") from None
    return packets, seconds


def decode(anchor: Anchor, packets: list[tuple[int, bytes]], clock: dict[str, float]) -> Iterator[av.VideoFrame]:
    """Frames in presentation order; clock["seconds"] counts the decoder's time."""
    context = av.CodecContext.create(next(name for name in anchor.decoders if _has(name, "r")), "r")
    context.thread_count = 1
    clock["seconds"] = 0.0
    for data in [*(data for _, data in packets), None]:
        began = time.perf_counter()
        frames = context.decode(None if data is None else av.Packet(data))
        clock["seconds"] += time.perf_counter() - began
        yield from frames


def measure(anchor: Anchor, sequence: EvalSequence, quality: int, gop: int, preset: str | None,
            picture: Path | None) -> dict[str, Any]:
    """Code one sequence with one quality -> its entry in a results point. Raises ReadError if frames get lost."""
    options = anchor.options(quality, gop, preset)
    packets, encode_seconds = encode(anchor, sequence, options)
    sizes: dict[int, int] = {}
    for number, data in packets:
        sizes[number] = sizes.get(number, 0) + len(data)
    recorder = SequenceRecorder(sequence, snapshot_frame(sequence.frames, gop), picture)
    clock: dict[str, float] = {}
    count = 0
    decoded = decode(anchor, packets, clock)
    for number, (x, frame) in enumerate(zip(sequence.stream(), decoded, strict=False)):
        kind = "I" if int(frame.pict_type) == PICTURE_TYPE_I else "P"
        recorder.add(kind, 8 * sizes.get(number, 0), x, _to_rgb(frame, sequence.height, sequence.width))
        count += 1
    count += sum(1 for _ in decoded)
    if count != sequence.frames:
        raise ReadError(f"{anchor.name} on {sequence.name}: decoded {count} frames, needed {sequence.frames}")
    return recorder.result(8 * sum(sizes.values()), encode_seconds=encode_seconds, decode_seconds=clock["seconds"])


def measure_cached(anchor: Anchor, sequence: EvalSequence, digest: str, quality: int, gop: int, preset: str | None,
                   picture: Path, cache: Path | None) -> dict[str, Any]:
    """As `measure`; kept under `cache` by the frames' content, the settings and FFmpeg's version."""
    if cache is None:
        return measure(anchor, sequence, quality, gop, preset, picture)
    wanted = {"version": CACHE_VERSION, "digest": digest, "frames": sequence.frames, "fps": sequence.fps, "gop": gop,
              "encoder": anchor.encoder, "options": anchor.options(quality, gop, preset), "av": av.__version__}
    key = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
    entry, kept_picture = cache / f"{key}.json", cache / f"{key}.png"
    if entry.is_file() and kept_picture.is_file():
        try:
            result = json.loads(entry.read_text(encoding="utf-8"))
        except ValueError:
            result = None           # damaged: measured anew and replaced
        if result is not None:
            copy_file(kept_picture, picture)
            result["name"], result["snapshot"]["file"] = sequence.name, str(picture)
            return result
    result = measure(anchor, sequence, quality, gop, preset, picture)
    copy_file(picture, kept_picture)
    write_text(entry, json.dumps(result))
    return result


def compare(sequences: list[EvalSequence], anchors: dict[str, tuple[int, ...] | None], folder: Path, *, gop: int = 10,
            preset: str | None = None, cache: Path | None = None, command: str = "dcvc compare",
            progress: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Run every anchor (name -> qualities, None for its own) on every sequence -> a results table.

    Decoded frames for the report go to `folder`. Anchors that this FFmpeg lacks are listed under "missing".
    """
    chosen = {name: find_anchor(name) for name in anchors}
    digests = {s.name: s.digest() for s in sequences}
    described = [{**s.describe(), "digest": digests[s.name], "snapshot": save_originals(s, gop, folder)}
                 for s in sequences]
    results = new_results(command, described, {"gop_size": gop, "anchor_input": "8-bit 4:2:0 BT.709 limited range"})
    for name, anchor in chosen.items():
        reason = missing_reason(anchor)
        if reason:
            results["missing"].append({"codec": name, "reason": reason})
            continue
        if preset and preset not in anchor.presets:
            raise InputError(f"preset of {name}: found {preset!r}, needed one of {', '.join(anchor.presets)}")
        for quality in anchors[name] or anchor.qualities:
            rows = []
            for sequence in sequences:
                if progress:
                    progress(f"{name} crf {quality} {sequence.name}")
                picture = folder / f"{safe_name(sequence.name)}_{name}_{quality}.png"
                rows.append(measure_cached(anchor, sequence, digests[sequence.name], quality, gop, preset, picture,
                                           cache))
            results["points"].append(make_point(
                name, "anchor", f"crf {quality}", "written",
                {"encoder": anchor.encoder, **anchor.options(quality, gop, preset)}, rows))
    return results


def safe_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def save_originals(sequence: EvalSequence, gop: int, folder: Path) -> dict[str, Any]:
    """Keep the frame that the report shows."""
    shown = snapshot_frame(sequence.frames, gop)
    path = folder / f"{safe_name(sequence.name)}_original.png"
    for number, frame in enumerate(sequence.stream()):
        if number == shown:
            save_picture(path, frame)
            break
    return {"frame": shown, "file": str(path)}
