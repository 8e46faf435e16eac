"""Anchors: what x264, x265, SVT-AV1, libaom and VP9 do with the same frames, measured as we are.

    frame -> planes -> encoder -> packet -> decoder -> planes -> RGB frame -> metrics
       |                             | bytes                        |
       +--- waits here until its decoded frame comes out and is compared

Encoder and decoder run side by side in memory, so that only the frames within them are held. The
planes become RGB by the video reader's own conversion (anchor_frames). Bits are 8 x the bytes of
the packets: what a container adds says something about the container, not about the codec, and at
low rates it would hide the differences. Parameter sets count where the encoder puts them into its
packets. A frame's bits are those of the packets with its presentation number, since encoders may
hand out packets in another order than frames.

How the encoders are set up: anchor_encoders. A program of the user's in their place:
anchor_program.
"""

import hashlib
import json
import os
import sys
from collections import deque
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import av

from dcvc.data.eval_sequences import EvalSequence, SourceFrame
from dcvc.errors import InputError, ReadError
from dcvc.evaluation.anchor_encoders import (
    ANCHORS,
    Anchor,
    AnchorSetting,
    find_anchor,
    has_codec,
    missing_reason,
)
from dcvc.evaluation.anchor_frames import (
    coded_colour,
    frame_to_code,
    pixels_for,
    planes_of_frame,
    shown,
)
from dcvc.evaluation.anchor_modes import MODES
from dcvc.evaluation.anchor_program import Program, ProgramSetting, measure_program
from dcvc.evaluation.frame_counter import FrameCounter, FrameDone, Progress
from dcvc.evaluation.lpips import LPIPS, shared_lpips
from dcvc.evaluation.sequence_recorder import SequenceRecorder, safe_name, snapshot_frame
from dcvc.evaluation.stopwatch import Stopwatch
from dcvc.evaluation.table import new_table
from dcvc.files import copy_file, write_text
from dcvc.report.results import make_point
from dcvc.video.encoder_tags import tag_bt709
from dcvc.video.frame_rate import exact_rate
from dcvc.weights import weights_hash

CACHE_VERSION = 2
Qualities = tuple[int, ...]     # CRF values
# FFmpeg's AV_PICTURE_TYPE_I, _P and _B; decoders of VP9 and AV1 know the first two only.
PICTURE_TYPES = {1: "I", 3: "B"}


def encode(setting: AnchorSetting, sequence: EvalSequence, watch: Stopwatch,
           waiting: deque[SourceFrame] | None = None) -> Iterator[tuple[int, bytes]]:
    """(presentation number, packet) in coding order. watch: counts the encoder's seconds. waiting:
    receives the originals that went in. Raises ReadError."""
    # Errors only: SVT-AV1 otherwise writes its settings to stderr each time.
    os.environ.setdefault("SVT_LOG", "1")
    context = av.CodecContext.create(setting.anchor.encoder, "w")
    colour = coded_colour(sequence, setting.pixels)
    # Halved chroma has no odd sides.
    even = colour.subsampling[1]
    context.width = sequence.width + even * (sequence.width % 2)
    context.height = sequence.height + even * (sequence.height % 2)
    context.pix_fmt, context.thread_count = setting.pixels, 1
    rate = exact_rate(sequence.fps)
    context.time_base, context.framerate = 1 / rate, rate
    if sequence.conditions is None:
        tag_bt709(context)
    context.options = setting.options

    def packets(frame: av.VideoFrame | None) -> list[tuple[int, bytes]]:
        return [(packet.pts, bytes(packet)) for packet in watch.call(context.encode, frame)
                if packet.size]

    try:
        for number, source in enumerate(sequence.source_frames()):
            if waiting is not None:
                waiting.append(source)
            frame = frame_to_code(source, setting.pixels, colour)
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
    context = av.CodecContext.create(next(name for name in anchor.decoders
                                        if has_codec(name, "r")), "r")
    context.thread_count = 1
    for data in packets:
        yield from watch.call(context.decode, av.Packet(data))
    yield from watch.call(context.decode, None)


def measure(setting: AnchorSetting | ProgramSetting, sequence: EvalSequence, picture: Path | None,
            lpips: LPIPS | None = None, frame_done: FrameDone = lambda: None,
            with_ms_ssim: bool = True) -> dict[str, Any]:
    """Code one sequence -> its entry in a results point. picture: where to save the frame that the
    report shows. The frames are read once, and only those inside the encoder are held. Raises
    ReadError if frames get lost."""
    snapshot = snapshot_frame(sequence.frames, setting.intra_period)
    recorder = SequenceRecorder(sequence, snapshot, picture, lpips, with_ms_ssim)
    if isinstance(setting, ProgramSetting):
        return measure_program(setting, sequence, recorder, frame_done)
    encoding, decoding = Stopwatch(), Stopwatch()
    colour = coded_colour(sequence, setting.pixels)
    waiting: deque[SourceFrame] = deque()
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
            kind = PICTURE_TYPES.get(int(frame.pict_type), "P")
            source = waiting.popleft()
            x_hat, planes = shown(planes_of_frame(frame), colour, source)
            recorder.add(kind, 8 * sizes.pop(count, 0), source.rgb, x_hat, source=source.planes,
                         decoded=planes)
            frame_done()
        count += 1
    if count != sequence.frames:
        raise ReadError(f"{setting.anchor.name} on {sequence.name}: decoded {count} frames, "
                        f"needed {sequence.frames}")
    return recorder.result(8 * total, encode_seconds=encoding.seconds,
                           decode_seconds=decoding.seconds, file_bytes=total)


def measure_cached(setting: AnchorSetting | ProgramSetting, sequence: EvalSequence, digest: str,
                   picture: Path, cache: Path | None, lpips: LPIPS | None, frame_done: FrameDone,
                   with_ms_ssim: bool = True) -> dict[str, Any]:
    """As `measure`; kept under `cache` by the frames' content (digest), settings, FFmpeg's version."""
    if cache is None:
        return measure(setting, sequence, picture, lpips, frame_done, with_ms_ssim)
    content = {"version": CACHE_VERSION, "digest": digest, "frames": sequence.frames,
               "fps": sequence.fps, **setting.kept_by,
               "lpips": weights_hash(lpips.state_dict()) if lpips else None,
               **({} if with_ms_ssim else {"ms_ssim": False}),
               **({"conditions": sequence.conditions.name} if sequence.conditions else {})}
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
            progress: Progress | None = None, modes: tuple[str, ...] = MODES[:1],
            pixels: str | None = None, programs: tuple[Program, ...] = ()) -> dict[str, Any]:
    """Run every anchor (name -> qualities, None for its own) on every sequence -> a results table.

    Decoded frames for the report go to `folder`. Anchors that this FFmpeg lacks are listed under
    "missing". progress: called with (frames done, of how many, what). modes: of anchor_encoders, a
    curve each. pixels: what the encoders get, None: 8-bit 4:2:0, or the source's own planes where
    these are judged. programs: the user's own encoders.
    """
    chosen, metric = chosen_anchors(anchors, preset), shared_lpips(lpips)
    formats = sorted({pixels_for(sequence, pixels) for sequence in sequences})
    if len(formats) > 1:
        raise InputError(f"compare: found sequences of {' and '.join(formats)}, needed one depth; "
                         "--anchor_pixels chooses the deeper one for all")
    results = new_table(command, sequences, folder, intra_period=intra_period, lpips=lpips,
                        anchor_input=_input_in_words(sequences[0], formats[0]))
    settings: list[AnchorSetting | ProgramSetting] = []
    for name, mode in product(chosen, modes):
        wanted = [AnchorSetting(ANCHORS[name], quality, intra_period, preset, mode, formats[0])
                  for quality in chosen[name]]
        reason = missing_reason(ANCHORS[name], formats[0], mode)
        if reason:
            results["missing"].append({"codec": wanted[0].codec, "reason": reason})
        else:
            settings += wanted
    settings += [ProgramSetting(program, quality, intra_period, formats[0])
                 for program in programs for quality in program.qualities]
    counter = FrameCounter(len(settings) * sum(sequence.frames for sequence in sequences), progress)
    for setting in settings:
        name, rows = f"{setting.codec} {setting.point}", []
        for sequence, described in zip(sequences, results["sequences"], strict=True):
            shown_as = f"{safe_name(sequence.name)}_{safe_name(setting.codec)}_{setting.quality}"
            rows.append(measure_cached(
                setting, sequence, described["digest"], lpips=metric, cache=cache,
                with_ms_ssim=with_ms_ssim, picture=folder / f"{shown_as}.png",
                frame_done=counter.one_of(f"{name} {sequence.name}")))
        results["points"].append(make_point(
            setting.codec, kind="anchor", setting=setting.point, rates="written",
            settings=setting.described, sequences=rows))
    return results


def _input_in_words(sequence: EvalSequence, pixels: str) -> str:
    if sequence.conditions is not None:
        return f"the source's own planes as {pixels}"
    return "8-bit 4:2:0 BT.709 limited range" if pixels == "yuv420p" else (
        f"{pixels}, BT.709 limited range")
