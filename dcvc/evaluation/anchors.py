"""Anchors: what x264, x265, SVT-AV1 and VP9 do with the same frames, measured the same way.

Every codec gets the same RGB frames. The anchors code them as 8-bit 4:2:0 BT.709 limited range, and their decoded
planes become RGB by the video reader's own conversion. Bits are those of the packets, without any container.
"""

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor

from dcvc.config import nearest
from dcvc.data.eval_sequences import EvalSequence
from dcvc.errors import InputError, ReadError
from dcvc.evaluation.lpips import LPIPS, load_lpips
from dcvc.evaluation.sequence_recorder import SequenceRecorder, describe_sequence, safe_name, snapshot_frame
from dcvc.files import copy_file, write_text
from dcvc.report.results import make_point, new_results
from dcvc.video.encoder_tags import bt709_frame, tag_bt709
from dcvc.video.yuv_to_rgb import Colour, to_rgb
from dcvc.weights import weights_hash

PLANES = Colour("bt709", False)
CACHE_VERSION = 2
PICTURE_TYPE_I = 1          # AV_PICTURE_TYPE_I


@dataclass(frozen=True)
class Anchor:
    """An encoder of FFmpeg's. options: low delay, one reference direction, an I-frame each `gop` frames."""

    name: str
    encoder: str
    decoders: tuple[str, ...]
    presets: tuple[str, ...]
    qualities: tuple[int, ...]
    worst: int                  # the largest CRF

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
    Anchor("x264", "libx264", ("h264",), ("medium", "veryslow", "slow", "fast", "veryfast"), (18, 23, 28, 33, 38), 51),
    Anchor("x265", "libx265", ("hevc",), ("medium", "veryslow", "slow", "fast", "veryfast"), (18, 23, 28, 33, 38), 51),
    Anchor("svt-av1", "libsvtav1", ("libdav1d", "av1"), ("8", "4", "6", "10"), (24, 32, 40, 48, 56), 63),
    Anchor("aom-av1", "libaom-av1", ("libdav1d", "av1"), ("6", "4", "8"), (24, 32, 40, 48, 56), 63),
    Anchor("vp9", "libvpx-vp9", ("vp9",), ("4", "1", "8"), (24, 32, 40, 48, 56), 63),
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
    return bt709_frame(torch.nn.functional.pad(rgb[None].float() / 255, (0, width % 2, 0, height % 2),
                                               mode="replicate")[0])


def _to_rgb(frame: av.VideoFrame, height: int, width: int) -> Tensor:
    planes = []
    for plane, rows, columns in zip(frame.planes, (frame.height,) + 2 * (frame.height // 2,),
                                    (frame.width,) + 2 * (frame.width // 2,), strict=True):
        samples = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:rows, :columns]
        planes.append(torch.from_numpy(samples.copy())[None])
    return to_rgb(*planes, PLANES)[0][:, :height, :width]


def encode(anchor: Anchor, sequence: EvalSequence, options: dict[str, str], clock: dict[str, float],
           waiting: deque[Tensor] | None = None) -> Iterator[tuple[int, bytes]]:
    """(presentation number, packet) in coding order. clock["encode"] counts the encoder's seconds; originals that
    went in are appended to `waiting`."""
    os.environ.setdefault("SVT_LOG", "1")     # errors only: SVT-AV1 otherwise writes its settings to stderr each time
    context = av.CodecContext.create(anchor.encoder, "w")
    context.width, context.height = sequence.width + sequence.width % 2, sequence.height + sequence.height % 2
    context.pix_fmt, context.thread_count = "yuv420p", 1
    rate = Fraction(sequence.fps).limit_denominator(1001)
    context.time_base, context.framerate = 1 / rate, rate
    tag_bt709(context)
    context.options = dict(options)
    clock["encode"] = 0.0

    def packets(frame: av.VideoFrame | None) -> list[tuple[int, bytes]]:
        began = time.perf_counter()
        found = context.encode(frame)
        clock["encode"] += time.perf_counter() - began
        return [(packet.pts, bytes(packet)) for packet in found if packet.size]

    try:
        for number, rgb in enumerate(sequence.stream()):
            if waiting is not None:
                waiting.append(rgb)
            frame = _to_frame(rgb)
            frame.pts, frame.time_base = number, context.time_base
            yield from packets(frame)
        yield from packets(None)
    except av.error.FFmpegError as error:
        raise ReadError(f"{anchor.name} on {sequence.name}: cannot encode ({error.strerror})") from None


def decode(anchor: Anchor, packets: Iterator[bytes], clock: dict[str, float]) -> Iterator[av.VideoFrame]:
    """Frames in presentation order, each as soon as its packets are there; clock["decode"] counts the decoder's
    seconds."""
    context = av.CodecContext.create(next(name for name in anchor.decoders if _has(name, "r")), "r")
    context.thread_count = 1
    clock["decode"] = 0.0

    def frames(data: bytes | None) -> list[av.VideoFrame]:
        began = time.perf_counter()
        found = context.decode(None if data is None else av.Packet(data))
        clock["decode"] += time.perf_counter() - began
        return found

    for data in packets:
        yield from frames(data)
    yield from frames(None)


def measure(anchor: Anchor, sequence: EvalSequence, quality: int, gop: int, preset: str | None,
            picture: Path | None, lpips: LPIPS | None = None, step: Callable[[], None] = lambda: None,
            ) -> dict[str, Any]:
    """Code one sequence with one quality -> its entry in a results point. The frames are read once, and only those
    inside the encoder are held. Raises ReadError if frames get lost."""
    recorder = SequenceRecorder(sequence, snapshot_frame(sequence.frames, gop), picture, lpips)
    clock: dict[str, float] = {}
    waiting: deque[Tensor] = deque()
    sizes: dict[int, int] = {}
    total = 0

    def packets() -> Iterator[bytes]:
        nonlocal total
        for number, data in encode(anchor, sequence, anchor.options(quality, gop, preset), clock, waiting):
            sizes[number] = sizes.get(number, 0) + len(data)
            total += len(data)
            yield data

    count = 0
    for frame in decode(anchor, packets(), clock):
        if count < sequence.frames:
            kind = "I" if int(frame.pict_type) == PICTURE_TYPE_I else "P"
            recorder.add(kind, 8 * sizes.pop(count, 0), waiting.popleft(),
                         _to_rgb(frame, sequence.height, sequence.width))
            step()
        count += 1
    if count != sequence.frames:
        raise ReadError(f"{anchor.name} on {sequence.name}: decoded {count} frames, needed {sequence.frames}")
    return recorder.result(8 * total, encode_seconds=clock["encode"], decode_seconds=clock["decode"], file_bytes=total)


def measure_cached(anchor: Anchor, sequence: EvalSequence, digest: str, quality: int, gop: int, preset: str | None,
                   picture: Path, cache: Path | None, lpips: LPIPS | None = None,
                   step: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """As `measure`; kept under `cache` by the frames' content, the settings and FFmpeg's version."""
    if cache is None:
        return measure(anchor, sequence, quality, gop, preset, picture, lpips, step)
    wanted = {"version": CACHE_VERSION, "digest": digest, "frames": sequence.frames, "fps": sequence.fps, "gop": gop,
              "encoder": anchor.encoder, "options": anchor.options(quality, gop, preset), "av": av.__version__,
              "lpips": weights_hash(lpips.state_dict()) if lpips else None}
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
            for _ in range(sequence.frames):
                step()
            return result
    result = measure(anchor, sequence, quality, gop, preset, picture, lpips, step)
    copy_file(picture, kept_picture)
    write_text(entry, json.dumps(result))
    return result


def chosen_anchors(anchors: dict[str, tuple[int, ...] | None], preset: str | None) -> dict[str, tuple[int, ...]]:
    """name -> qualities, checked before anything is coded. Raises InputError."""
    chosen = {}
    for name, qualities in anchors.items():
        anchor = find_anchor(name)
        if preset and preset not in anchor.presets:
            raise InputError(f"--speed: found {preset!r} for {name}, needed one of {', '.join(anchor.presets)}")
        chosen[name] = tuple(dict.fromkeys(qualities or anchor.qualities))
        bad = [quality for quality in chosen[name] if not 0 <= quality <= anchor.worst]
        if bad:
            raise InputError(f"--anchors: found CRF {bad[0]} for {name}, needed 0…{anchor.worst}")
    return chosen


def compare(sequences: list[EvalSequence], anchors: dict[str, tuple[int, ...] | None], folder: Path, *, gop: int = 10,
            preset: str | None = None, cache: Path | None = None, command: str = "dcvc compare",
            lpips: tuple[str, ...] = (), progress: Callable[[int, int, str], None] | None = None) -> dict[str, Any]:
    """Run every anchor (name -> qualities, None for its own) on every sequence -> a results table.

    Decoded frames for the report go to `folder`. Anchors that this FFmpeg lacks are listed under "missing".
    progress: called with (frames done, of how many, what).
    """
    chosen = chosen_anchors(anchors, preset)
    metric = load_lpips(lpips) if lpips else None
    for sequence in sequences if metric else ():
        metric.check_size(sequence.height, sequence.width)
    described = [describe_sequence(sequence, gop, folder) for sequence in sequences]
    settings = {"gop_size": gop, "anchor_input": "8-bit 4:2:0 BT.709 limited range"}
    if metric:
        settings["lpips"] = {"net": metric.net, "files": [Path(file).name for file in lpips]}
    results = new_results(command, described, settings)
    reasons = {name: missing_reason(ANCHORS[name]) for name in chosen}
    results["missing"] = [{"codec": name, "reason": reason} for name, reason in reasons.items() if reason]
    points = [(name, quality) for name in chosen if not reasons[name] for quality in chosen[name]]
    total, done = len(points) * sum(sequence.frames for sequence in sequences), 0
    for name, quality in points:
        anchor, rows = ANCHORS[name], []
        for sequence, description in zip(sequences, described, strict=True):
            def step(what: str = f"{name} crf {quality} {sequence.name}") -> None:
                nonlocal done
                done += 1
                if progress:
                    progress(done, total, what)

            picture = folder / f"{safe_name(sequence.name)}_{name}_{quality}.png"
            rows.append(measure_cached(anchor, sequence, description["digest"], quality, gop, preset, picture, cache,
                                       metric, step))
        results["points"].append(make_point(
            name, "anchor", f"crf {quality}", "written",
            {"encoder": anchor.encoder, **anchor.options(quality, gop, preset)}, rows))
    return results
