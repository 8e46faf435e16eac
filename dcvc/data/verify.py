"""What a data set's index says about it, and a full decode of everything."""

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from dcvc.data.video_table import VideoTable
from dcvc.errors import DcvcError
from dcvc.video.reader import VideoReader


def survey(table: VideoTable) -> dict:
    """Counts of files and frames, hours, sizes, codecs, suspicious files; excluded files with their reasons."""
    sizes, codecs, notes, seconds = Counter(), Counter(), Counter(), 0.0
    for i in range(len(table)):
        row = table.row(i)
        sizes[f"{row.width}x{row.height}"] += 1
        codecs[f"{row.codec} {row.pix_fmt}"] += 1
        seconds += len(row) / row.fps if row.fps else 0.0
        for note in row.notes:
            notes[f"{note}: {row.path}"] += 1
    return {
        "files": len(table), "frames": int(table.frames.sum()), "hours": seconds / 3600,
        "sizes": dict(sizes.most_common()), "codecs": dict(codecs.most_common()), "suspicious": dict(notes),
        "excluded": {entry[0]: entry[3] for entry in table.excluded},
    }


def verify(table: VideoTable, progress: Callable[[Iterable, int], Iterable]) -> dict[str, str]:
    """Decode every frame of every file; path -> what is wrong with it."""

    def check(i: int) -> tuple[str, str] | None:
        row = table.row(i)
        try:
            for _ in VideoReader(row.path, index=row):
                pass
        except DcvcError as error:
            return row.path, str(error)
        return None

    with ThreadPoolExecutor() as pool:
        results = progress(pool.map(check, range(len(table))), len(table))
        return dict(result for result in results if result)
