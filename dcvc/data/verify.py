"""What a data set's index says about it, and a full decode of everything.

An index is made by reading packets, so a damaged frame in the middle of a file goes unseen until a
training meets it. `verify` decodes every frame of every file beforehand. Files found whole are
marked in the index (VideoTable.mark_verified), and are read faster from then on: the reader may
leave out frames that no other refers to, in which damage would go unseen, only where it knows that
there is none.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from dcvc.data.video_table import VideoTable
from dcvc.errors import DcvcError
from dcvc.video.reader import VideoReader


def summarise(table: VideoTable) -> dict:
    """Counts of files and frames, hours, sizes, codecs; suspicious and excluded files, and why."""
    # One pass over the rows: of a million videos they are never in memory together.
    sizes, codecs, notes = Counter(), Counter(), Counter()
    seconds = 0.0
    for row in table.rows():
        sizes[f"{row.width}x{row.height}"] += 1
        codecs[f"{row.codec} {row.pix_fmt}"] += 1
        seconds += len(row) / row.fps if row.fps else 0.0
        for note in row.notes:
            notes[f"{note}: {row.path}"] += 1
    return {"files": len(table), "frames": int(table.frames.sum()), "hours": seconds / 3600,
            "sizes": dict(sizes.most_common()), "codecs": dict(codecs.most_common()),
            "suspicious": dict(notes), "excluded": table.excluded_reasons()}


def verify(table: VideoTable, progress: Callable[[Iterable, int], Iterable]) -> dict[str, str]:
    """Decode every frame of every file: path -> what is wrong with it, for those that are damaged.
    progress: wraps the iteration, as tqdm does."""

    def problem(i: int) -> tuple[str, str] | None:
        row = table.row(i)
        try:
            for _ in VideoReader(row.path, index=row):
                pass  # a frame that is not refused is all there is to know
        except DcvcError as error:
            return row.path, str(error)
        return None

    # Threads, not processes: FFmpeg decodes while Python's lock is free for others.
    with ThreadPoolExecutor() as pool:
        problems = progress(pool.map(problem, range(len(table))), len(table))
        return dict(each for each in problems if each)
