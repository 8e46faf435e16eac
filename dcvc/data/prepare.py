"""Re-encode a data set once into short segments that are quick to seek in.

A sample is some frames from anywhere in a video. To decode them one has to begin at the keyframe
before, and videos often have one every 250 frames (x264's default): of each decoded GOP most is
thrown away. Here every video becomes files of `segment` frames with a keyframe every `keyframe`
frames, so that at most keyframe - 1 frames are decoded in vain:

    wanted frames              |·······|
    keyframe every 250   K----------------------------------------   decoded: all from K on
    keyframe every 4     K---K---K---K---K---K---K---K---K---K---K   decoded: wanted ones and 2 more

The price is disk space (keyframes are large) and one loss more: `visual` (CRF 12) is visually
lossless. B-frames are left out, for they are decoded in another order than shown, and x264's own
choice of keyframes (scenecut) is switched off. manifest.json is written last: a folder without it
is not complete.
"""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import av

from dcvc.data.augment import resized
from dcvc.data.video_table import VideoTable
from dcvc.errors import InputError
from dcvc.files import short_stem, write_text
from dcvc.video.file_index import FileIndex
from dcvc.video.frame_rate import exact_rate
from dcvc.video.reader import VideoReader
from dcvc.video.writer import VideoWriter

# x264's rate setting of each.
QUALITIES = {
    "lossless": {"qp": "0"},
    "visual": {"crf": "12"},
}


def quick_options(keyframe: int, rate: dict[str, str]) -> dict[str, str]:
    """x264's options for a video that is quick to seek in. Without B-frames and without x264's own
    choice of keyframes: see the top. rate: its rate setting."""
    return {"preset": "veryfast", "tune": "fastdecode", "g": str(keyframe), "bf": "0",
            "sc_threshold": "0", **rate}


@dataclass(frozen=True)
class _SegmentWriter:
    """How videos are written: x264's options, frames a file, the short side to scale down to."""

    folder: Path
    options: dict[str, str]
    length: int
    short_side: int | None

    def write(self, row: FileIndex, number: int) -> list[dict]:
        """The segments of video `number`; their entries in the manifest."""
        height, width = row.height, row.width
        scale = min(1.0, self.short_side / min(height, width)) if self.short_side else 1.0
        # 4:2:0 needs even sides. (size is (width, height), as writers of videos take it.)
        size = max(2, round(width * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2)
        rate = exact_rate(row.fps)
        entries, frames = [], iter(VideoReader(row.path, index=row))
        for first in range(0, len(row), self.length):
            count = min(self.length, len(row) - first)
            # The number makes names unique and keeps the videos' order.
            path = self.folder / f"{number:07d}_{short_stem(Path(row.path), 80)}_{first:07d}.mp4"
            with VideoWriter(path, size, rate, options=self.options,
                             tags=row.shown_tags) as writer:
                for _ in range(count):
                    frame = next(frames)
                    if scale < 1:
                        frame = resized(frame[None], size[::-1])[0]
                    writer.write(frame[:, : size[1], : size[0]].permute(1, 2, 0).numpy())
            entries.append({"file": path.name, "source": row.path, "first": first, "frames": count})
        return entries


def prepare(table: VideoTable, out: str | os.PathLike, *, quality: str = "visual",
            segment: int = 64, keyframe: int = 4, short_side: int | None = None,
            crf: int | None = None,
            progress: Callable[[Iterable, int], Iterable] | None = None) -> dict:
    """Write every video of `table` into `out` as MP4 files of `segment` frames.

    quality: "visual" (x264 CRF 12) or "lossless" (of the 8-bit 4:2:0 samples made from RGB,
    BT.709). crf: another CRF. short_side: scale down to this many pixels. Frames of odd sides lose
    their last row or column. Writes `manifest.json` last: each segment's source, first frame and
    count; the settings. Returns it. Raises InputError if `out` is not empty or an argument is out
    of range, ReadError (a damaged video stops it).
    """
    folder = Path(out)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: found files in it, needed an empty or new folder")
    too_small = min(segment, keyframe) < 1 or (short_side is not None and short_side < 2)
    if quality not in QUALITIES or too_small:
        raise InputError(f"quality {quality!r}, segment {segment}, keyframe {keyframe}, "
                         f"short_side {short_side}: needed one of {', '.join(QUALITIES)}, and numbers "
                         "from 1 up")
    folder.mkdir(parents=True, exist_ok=True)
    rate = {"crf": str(crf)} if crf is not None else QUALITIES[quality]
    options = quick_options(keyframe, rate)
    settings = {"quality": quality, "segment": segment, "keyframe": keyframe, "short_side": short_side,
                "encoder": "libx264", "options": options,
                "libavcodec": list(av.library_versions["libavcodec"])}
    writer, segments = _SegmentWriter(folder, options, segment, short_side), []
    numbers = range(len(table))
    for number in progress(numbers, len(numbers)) if progress else numbers:
        segments += writer.write(table.row(number), number)
    manifest = {"settings": settings, "segments": segments, "excluded": table.excluded_reasons()}
    write_text(folder / "manifest.json", json.dumps(manifest, indent=1))
    return manifest
