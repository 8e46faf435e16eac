"""Damaged copies of a video, and the judgement whether the reader handles one: run in a process of its own.

`python damaged_videos.py FILE KIND FIRST LAST FOLDER` prints one JSON line for damaged copies FIRST ... LAST-1.
"""

import json
import sys
import time
import zlib
from bisect import bisect_left
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np

from dcvc.data import VideoReader
from dcvc.errors import DcvcError
from dcvc.video.container import decoder_options


def damaged_copy(data: bytes, kind: str, number: int) -> bytes:
    """kind "cut": the first number/20 of the file. After the first 5 %, at random: "flip": a few bytes replaced;
    "blank": a stretch of zeros; "gap": a stretch left out."""
    if kind == "cut":
        return data[: len(data) * number // 20 + 7 * (number > 0)]
    rng = np.random.default_rng(number)
    spoiled = bytearray(data)
    if kind in ("blank", "gap"):
        first, length = int(rng.integers(len(data) // 20, len(data))), int(rng.integers(16, 2000))
        length = min(length, len(data) - first)
        spoiled[first: first + length] = bytes(length if kind == "blank" else 0)
        return bytes(spoiled)
    for position in rng.integers(len(data) // 20, len(data), int(rng.integers(1, 12))):
        spoiled[position] = int(rng.integers(256))
    return bytes(spoiled)


@dataclass(frozen=True)
class Shown:
    """A frame of a plain decode. place: its packet's number in decoding order."""

    time: int | None
    check: int
    flagged: bool
    key: bool
    place: int


@dataclass
class Sequential:
    """A plain decode from the first packet to the last, tolerating every error."""

    frames: list[Shown] = field(default_factory=list)             # in the order shown
    failed: list[tuple[int | None, int]] = field(default_factory=list)  # packets that FFmpeg refuses: time and place
    times: list[int | None] = field(default_factory=list)         # of all packets, by place

    def by_time(self) -> dict[int | None, int]:
        """time -> number of the frame shown"""
        return {frame.time: number for number, frame in enumerate(self.frames)}

    def entry(self, number: int) -> Shown:
        """The keyframe before a frame."""
        return next((f for f in reversed(self.frames[: number + 1]) if f.key), Shown(None, 0, False, True, 0))

    def misplaced(self) -> set[int]:
        """The places of packets whose frames do not come out, or not where their times belong (as few as explain the
        order: the rest is a longest increasing sequence)."""
        tails, chains = [], []  # of the increasing sequences of each length: the smallest last time, and its frames
        for frame in self.frames:
            if frame.time is not None:
                length = bisect_left(tails, frame.time)
                chain = ((chains[length - 1] if length else None), frame.place)
                tails[length: length + 1], chains[length: length + 1] = [frame.time], [chain]
        chain, inside = (chains[-1] if chains else None), set()
        while chain is not None:
            chain, place = chain
            inside.add(place)
        return {place for place, time in enumerate(self.times) if time is not None} - inside

    def tainted(self, number: int, others: Collection[int] = ()) -> bool:
        """Whether the frame, or one decoded before it since its keyframe, is flagged, refused, or one of those at
        the places `others`."""
        frame, entry = self.frames[number], self.entry(number)
        wrong = [(f.time, f.place) for f in self.frames if f.flagged] + self.failed
        wrong += [(self.times[place], place) for place in others]
        leading = lambda time: None not in (time, entry.time) and time < entry.time  # noqa: E731
        return frame.flagged or any(entry.place <= p <= frame.place and not leading(t) for t, p in wrong)


def decode_all(path: Path, first: int = 0, stale: bool = False) -> Sequential:
    """first: packets before this one (in decoding order) are not decoded. stale: FFmpeg's frame buffers hold other
    pictures than usual: the beginning was decoded before, and the last frames shown are kept from reuse."""
    found, packets_seen = Sequential(), []
    with av.open(str(path), metadata_errors="replace") as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        context.thread_count, context.thread_type = 1, "NONE"
        context.options = decoder_options(context.name) if context.name != "h264" else {}  # plain, as others decode
        kept = deque(maxlen=9)
        if stale:
            decode_some(container, stream, 30)
            try:
                container.seek(0, backward=True)
            except av.error.FFmpegError:
                return decode_all(path, first)
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.error.FFmpegError):
                packet = None
            time_, place = (packet.pts, len(packets_seen)) if packet is not None and packet.size else (None, -1)
            if place >= 0:
                packets_seen.append((time_, packet.is_keyframe))
                packet.pts = packet.dts = place  # the frame inherits it
                if packet.is_corrupt:
                    found.failed.append((time_, place))
            if 0 <= place < first:
                continue
            try:
                frames = context.decode(packet if place >= 0 else None)
            except av.error.FFmpegError:
                found.failed.append((time_, place if place >= 0 else len(packets_seen)))
                frames = []
            kept.extend(frames if stale else ())
            for frame in frames:
                origin = frame.pts if frame.pts in range(len(packets_seen)) else len(packets_seen) - 1
                when, key = packets_seen[origin]
                found.frames.append(Shown(when, frame_check(frame), frame.is_corrupt, key and frame.key_frame, origin))
            if place < 0:
                found.times = [time for time, _ in packets_seen]
                return found


def decode_some(container, stream, count: int) -> None:
    """Decode `count` packets, whatever comes out."""
    for packet, _ in zip(container.demux(stream), range(count), strict=False):
        with suppress(av.error.FFmpegError):
            stream.codec_context.decode(packet if packet.size else None)


def frame_check(frame: av.VideoFrame) -> int:
    check = 0
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
        width = plane.width * (1 if frame.format.components[0].bits == 8 else 2)
        check = zlib.crc32(np.ascontiguousarray(rows[:, :width]), check)
    return check


def checksum(planes, position: int) -> int:
    check = 0
    for plane in (planes.y, planes.u, planes.v):
        samples = plane[position].numpy()
        kind = np.uint8 if samples.dtype == np.uint8 else np.uint16
        check = zlib.crc32(np.ascontiguousarray(samples.astype(kind)), check)
    return check


NAMES = ("good", "refused", "unopened", "wrong", "concealed", "tainted", "needless", "repaired", "undefined", "silent",
         "unsteady", "fickle", "slow")


def judge(path: Path, original: Sequential, **options) -> dict[str, int]:
    """Every frame read by itself, and judged by a sequential decode of the same damaged file.

    They are read from the last to the first, which always seeks; then from the first to the last, where the reader
    goes on from the frame before. unsteady: frames that were not the same both times; fickle: refused one time only.
    good: returned and equal. repaired: returned, equal to the undamaged video where the sequential decode is not, or
    does not show the frame at all (what it carried over from before the keyframe is damaged). wrong: returned and
    equal to neither. concealed: returned though flagged. tainted: returned though a frame since its keyframe is
    flagged, and not equal to the undamaged one. needless: refused though nothing since its keyframe is flagged,
    missing, out of its place or different in two sequential decodes. silent: of all returned, those where two
    sequential decodes differ: FFmpeg decoded in part, without a flag, and left what its buffers held. undefined: such
    a frame, and not equal to the first decode; or equal to a plain decode from its keyframe only; or neither shown by
    the first nor equal to the undamaged video. slow: more than 10 s for the file.
    """
    counts, began = dict.fromkeys(NAMES, 0), time.monotonic()
    try:
        reader = VideoReader(path, **options)
    except DcvcError:
        counts["unopened"] = 1
        return counts
    expected, other = decode_all(path), decode_all(path, stale=True)
    numbers, others, wholes = expected.by_time(), other.by_time(), original.by_time()
    seen = {(f.place, f.check) for f in other.frames}
    odd = {f.place for f in expected.frames if (f.place, f.check) not in seen} | (
        expected.misplaced() - original.misplaced())

    def classify(got: int | None, shown: int | None, time: int | None) -> str:
        whole = original.frames[wholes[time]].check if time in wholes else None
        frame = expected.frames[shown] if shown is not None else None
        tainted = frame is None or expected.tainted(shown)
        if got is None:
            counts["needless"] += not (tainted or expected.tainted(shown, odd))
            return "refused"
        if frame is None:
            return "repaired" if got == whole else "undefined"
        again = shown if reader.index.counted else others.get(frame.time)
        defined = again is not None and again < len(other.frames) and other.frames[again].check == frame.check
        counts["silent"] += not defined
        if got != frame.check:
            defined = defined and not any(f.place == frame.place and f.check == got for f in
                                          decode_all(path, first=expected.entry(shown).place).frames)
            return "undefined" if not defined else "repaired" if got == whole else "wrong"
        if frame.flagged:
            return "concealed"
        return "tainted" if tainted and got != whole and not sound_from_key(path, expected, shown) else "good"

    first = [read_one(reader, number) for number in reversed(range(len(reader)))][::-1]
    for number, got in enumerate(first):
        time_ = expected.frames[number].time if reader.index.counted else int(reader.index.pts[number])
        shown = number if reader.index.counted else numbers.get(time_)
        again = read_one(reader, number)
        for value in dict.fromkeys((got, again)):
            kind = classify(value, shown, time_)
            counts[kind] += 1
        counts["fickle" if None in (got, again) else "unsteady"] += again != got
    reader.close()
    counts["slow"] = int(time.monotonic() - began > 10)
    return counts


def read_one(reader: VideoReader, number: int) -> int | None:
    """Checksum of a frame; None where it is refused."""
    try:
        return checksum(reader.read(number, 1, out="yuv"), 0)
    except DcvcError:
        return None


def sound_from_key(path: Path, expected: Sequential, number: int) -> bool:
    """Whether decoding that begins at its keyframe shows the same frame, and meets no error up to it: what the
    sequential decode flagged are then frames that need the time before the keyframe."""
    frame, entry = expected.frames[number], expected.entry(number)
    fresh = decode_all(path, first=entry.place)
    same = [k for k, f in enumerate(fresh.frames) if f.place == frame.place and f.check == frame.check]
    return bool(same) and not fresh.tainted(same[0])


def main(source: str, kind: str, first: str, last: str, folder: str, *options: str) -> None:
    data, total, worst = Path(source).read_bytes(), dict.fromkeys(NAMES, 0), []
    original = decode_all(Path(source))
    for number in range(int(first), int(last)):
        path = Path(folder) / f"{Path(source).stem}_{kind}_{number}{Path(source).suffix}"
        path.write_bytes(damaged_copy(data, kind, number))
        counts = judge(path, original, **dict.fromkeys(options, True))
        if any(counts[k] for k in NAMES if k not in ("good", "refused", "unopened", "silent", "fickle")):
            worst.append({"number": number, **{k: n for k, n in counts.items() if n}})
        path.unlink()
        total = {key: total[key] + value for key, value in counts.items()}
    print(json.dumps({"copies": int(last) - int(first), **total, "worst": worst[:12]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
