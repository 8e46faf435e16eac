"""Re-encode a data set once into short, quickly seekable segments."""

import json
import os
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import torch.nn.functional as F

from dcvc.data.video_table import VideoTable
from dcvc.errors import InputError
from dcvc.files import write_text
from dcvc.video.file_index import FileIndex
from dcvc.video.reader import VideoReader
from dcvc.video.writer import VideoWriter

# x264's rate setting of each.
QUALITIES = {
    "lossless": {"qp": "0"},
    "visual": {"crf": "12"},
}


def prepare(table: VideoTable, out: str | os.PathLike, *, quality: str = "visual", segment: int = 64,
            keyframe: int = 4, short_side: int | None = None, crf: int | None = None,
            progress: Callable[[Iterable, int], Iterable] | None = None) -> dict:
    """Write every video of `table` into `out` as MP4 segments of `segment` frames, a keyframe every `keyframe`.

    quality: "visual" (x264 CRF 12) or "lossless" (of the 8-bit 4:2:0 samples made from RGB, BT.709). crf: another CRF.
    short_side: scale down to this many pixels. Frames of odd sides lose their last row or column.
    Writes `manifest.json` last: each segment's source, first frame and count; the settings. Returns it.
    Raises InputError if `out` is not empty or an argument is out of range, ReadError (a damaged video stops it).
    """
    folder = Path(out)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: found files in it, needed an empty or new folder")
    if quality not in QUALITIES or min(segment, keyframe) < 1 or (short_side is not None and short_side < 2):
        raise InputError(f"quality {quality!r}, segment {segment}, keyframe {keyframe}, short_side {short_side}: "
                         f"needed one of {', '.join(QUALITIES)}, and numbers from 1 up")
    folder.mkdir(parents=True, exist_ok=True)
    chosen = {"crf": str(crf)} if crf is not None else QUALITIES[quality]
    options = {"preset": "veryfast", "tune": "fastdecode", "g": str(keyframe), "bf": "0", "sc_threshold": "0", **chosen}
    settings = {"quality": quality, "segment": segment, "keyframe": keyframe, "short_side": short_side,
                "encoder": "libx264", "options": options, "libavcodec": list(av.library_versions["libavcodec"])}
    segments = []
    rows = range(len(table))
    for i in progress(rows, len(rows)) if progress else rows:
        segments += _segments(table.row(i), i, folder, options, segment, short_side)
    manifest = {"settings": settings, "segments": segments,
                "excluded": {entry[0]: entry[3] for entry in table.excluded}}
    write_text(folder / "manifest.json", json.dumps(manifest, indent=1))
    return manifest


def _segments(row: FileIndex, number: int, folder: Path, options: dict[str, str], length: int,
              short_side: int | None) -> list[dict]:
    height, width = row.height, row.width
    scale = min(1.0, short_side / min(height, width)) if short_side else 1.0
    size = max(2, round(width * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2)
    made, frames = [], iter(VideoReader(row.path, index=row))
    for first in range(0, len(row), length):
        count = min(length, len(row) - first)
        path = folder / f"{number:07d}_{Path(row.path).stem[:80]}_{first:07d}.mp4"
        with VideoWriter(path, size, Fraction(row.fps).limit_denominator(1001), options=options) as writer:
            for _ in range(count):
                frame = next(frames)
                if scale < 1:
                    frame = F.interpolate(frame[None].float(), size[::-1], mode="bilinear", antialias=True)[0]
                    frame = frame.add_(0.5).clamp_(0, 255).byte()
                writer.write(frame[:, : size[1], : size[0]].permute(1, 2, 0).numpy())
        made.append({"file": path.name, "source": row.path, "first": first, "frames": count})
    return made


