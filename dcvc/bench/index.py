"""What a data set of very many files costs a process: its index is simulated, opened and drawn from."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from dcvc.data.video_table import pack_table
from dcvc.files import write_bytes
from dcvc.video.file_index import FileIndex

# Runs in a process of its own, so that making the index does not count into the memory.
_PROBE = """
import json, sys, time
import psutil
from dcvc.data import VideoGOPDataset
memory = lambda: psutil.Process().memory_full_info().uss
before, began = memory(), time.perf_counter()
data = VideoGOPDataset(sys.argv[1], seed=0, sampling="frames")
opened = time.perf_counter() - began
times = []
for k in range(2000):
    start = time.perf_counter()
    place = data.choose_gop((k * 7919) % len(data), data.rng(0, k))
    data.table.row(place.row)
    times.append(time.perf_counter() - start)
process = psutil.Process().memory_info()
print(json.dumps({"files": len(data), "open_s": round(opened, 3), "draw_ms": round(1e3 * sorted(times)[1000], 4),
                  "draw_ms_p99": round(1e3 * sorted(times)[1980], 4),
                  "private_mb_added": round((memory() - before) / 1e6, 1), "resident_mb": round(process.rss / 1e6, 1)}))
"""


def simulated_rows(files: int) -> Iterator[tuple[FileIndex, int]]:
    """Rows like those of real files: 90 to 900 frames, a keyframe every 60, one in ten of variable rate."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(90, 900, files)
    for i, length in enumerate(lengths):
        pts = np.arange(length, dtype=np.int64) * 512
        if i % 10 == 0:
            pts = pts + (np.arange(length) % 3)
        yield FileIndex(
            path=f"/videos/{i % 997:03d}/clip_{i:08d}.mp4", pts=pts, keys=pts[::60], time_base=Fraction(1, 15360),
            height=720, width=1280, orientation=(False, False, False), fps=30.0, codec="h264", pix_fmt="yuv420p",
            matrix="bt709", full_range=False, counted=False, notes=(), file_size=10**6 + i, mtime_ns=10**18 + i,
        ), 0


def bench_index(files: int) -> dict:
    """Size of the index of `files` files; seconds to open, milliseconds to draw a sample, memory of one process."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "simulated.dcvcindex")
        write_bytes(path, pack_table(simulated_rows(files)))
        done = subprocess.run([sys.executable, "-c", _PROBE, path], capture_output=True, text=True, check=True)
        return {**json.loads(done.stdout), "index_mb": round(os.path.getsize(path) / 1e6, 1)}
