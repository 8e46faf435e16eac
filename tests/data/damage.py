"""Damaged copies of a video, and the judgement whether the reader handles one: run in a process of its own.

`python damage.py FILE KIND FIRST LAST FOLDER` prints one JSON line for damaged copies FIRST ... LAST-1.
"""

import json
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import av
import numpy as np

from dcvc.data import VideoReader
from dcvc.data.container import decoder_options
from dcvc.errors import DcvcError


def damaged_copy(data: bytes, kind: str, number: int) -> bytes:
    """kind "cut": the first number/20 of the file; "flip": a few random bytes replaced after the first 5 %."""
    if kind == "cut":
        return data[: len(data) * number // 20 + 7 * (number > 0)]
    rng = np.random.default_rng(number)
    spoiled = bytearray(data)
    for position in rng.integers(len(data) // 20, len(data), int(rng.integers(1, 12))):
        spoiled[position] = int(rng.integers(256))
    return bytes(spoiled)


def decode_all(path: Path, threads: int = 1) -> dict[Any, tuple[int, bool, bool]]:
    """time -> (checksum of all planes, whether anything was wrong since the last keyframe, whether itself flagged)."""
    found, dirty = {}, False
    with av.open(str(path), metadata_errors="replace") as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        context.thread_count, context.thread_type = threads, "FRAME" if threads > 1 else "NONE"
        context.options = decoder_options(context.name)
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except av.error.FFmpegError:
                break
            try:
                frames = context.decode(packet if packet.size else None)
            except av.error.FFmpegError:
                dirty, frames = True, []
            for frame in frames:
                if frame.key_frame:
                    dirty = False
                check = 0
                for plane in frame.planes:
                    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
                    width = plane.width * (1 if frame.format.components[0].bits == 8 else 2)
                    check = zlib.crc32(np.ascontiguousarray(rows[:, :width]), check)
                dirty = dirty or frame.is_corrupt
                when = frame.pts if frame.pts is not None and frame.pts not in found else ("again", len(found))
                found[when] = check, dirty, frame.is_corrupt
            if not packet.size:
                break
    return found


def checksum(planes, position: int) -> int:
    check = 0
    for plane in (planes.y, planes.u, planes.v):
        samples = plane[position].numpy()
        kind = np.uint8 if samples.dtype == np.uint8 else np.uint16
        check = zlib.crc32(np.ascontiguousarray(samples.astype(kind)), check)
    return check


def judge(path: Path, original: dict[Any, tuple[int, bool, bool]]) -> dict[str, int]:
    """Counts: good frames, refused windows; wrong: equal neither to the sequential decode of the damaged file nor to
    the undamaged video; concealed: not the undamaged frame, and flagged by the sequential decode; needless: refused
    although the sequential decode met no error since the keyframe before."""
    names = ("good", "refused", "unopened", "wrong", "concealed", "needless", "undefined", "slow")
    counts = dict.fromkeys(names, 0)
    began = time.monotonic()
    try:
        reader = VideoReader(path)
    except DcvcError:
        counts["unopened"] = 1
        return counts
    expected = decode_all(path)
    # Where a damaged slice ends early without a flag, FFmpeg leaves what the buffer held: two plain decodes differ
    # (or one lacks the frame): "undefined", there is nothing to compare with.
    other = decode_all(path, threads=3)
    ordered = list(expected) if reader.index.counted else reader.index.pts.tolist()
    for start in range(0, len(reader), 3):
        count = min(3, len(reader) - start)
        times = ordered[start: start + count]
        try:
            planes = reader.read(start, count, out="yuv")
        except DcvcError:
            counts["refused"] += 1
            counts["needless"] += all(t in expected and not expected[t][1] for t in times)
            continue
        for position, when in enumerate(times):
            check, _, flagged = expected.get(when, (None, True, True))
            got, whole = checksum(planes, position), original.get(when, (None,))[0]
            counts["undefined"] += check is None or check != other.get(when, (None,))[0]
            defined = check is not None and check == other.get(when, (None,))[0]
            counts["wrong"] += defined and got not in (check, whole)
            counts["concealed"] += flagged and got == check != whole
            counts["good"] += 1
    reader.close()
    counts["slow"] = int(time.monotonic() - began > 10)
    return counts


def main(source: str, kind: str, first: str, last: str, folder: str) -> None:
    data, total, worst = Path(source).read_bytes(), {}, []
    original = decode_all(Path(source))
    for number in range(int(first), int(last)):
        path = Path(folder) / f"{Path(source).stem}_{kind}_{number}{Path(source).suffix}"
        path.write_bytes(damaged_copy(data, kind, number))
        counts = judge(path, original)
        if counts["wrong"] or counts["concealed"] or counts["slow"]:
            worst.append({"number": number, **counts})
        else:
            path.unlink()
        total = {key: total.get(key, 0) + value for key, value in counts.items()}
    print(json.dumps({**total, "worst": worst[:5]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
