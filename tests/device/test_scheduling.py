"""Encoders leave priorities as they were. SVT-AV1 changes them where it may, which is as root."""

import subprocess
import sys

import av
import pytest

from dcvc.device.scheduling import THREADS

pytestmark = pytest.mark.skipif(not THREADS.is_dir(), reason="needs Linux's list of threads")
needs_svt = pytest.mark.skipif("libsvtav1" not in av.codecs_available, reason="this FFmpeg has no libsvtav1")

BEGIN = """
import os, sys
import numpy as np
from pathlib import Path
from dcvc.device.scheduling import THREADS, scheduling_kept

def policies():
    return {os.sched_getscheduler(int(thread.name)) for thread in THREADS.iterdir()}

os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
folder = Path(sys.argv[1])
"""


def run(code: str, folder) -> None:
    """In a process of its own, whose priorities no other test has touched."""
    done = subprocess.run([sys.executable, "-c", BEGIN + code, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_changes_its_policy_gets_the_old_one_back(tmp_path):
    # Anybody may become a thread of lower rank and come back.
    run("""
with scheduling_kept():
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    assert os.SCHED_BATCH in policies()
assert policies() == {os.SCHED_OTHER}
""", tmp_path)


@needs_svt
def test_a_video_written_by_svt_av1_leaves_no_real_time_thread(tmp_path):
    run("""
from dcvc.video.writer import VideoWriter
with VideoWriter(folder / "a.mp4", (64, 64), codec="libsvtav1", options={"svtav1-params": "lp=1"}) as writer:
    writer.write(np.zeros((64, 64, 3), np.uint8))
    assert policies() == {os.SCHED_OTHER}
assert policies() == {os.SCHED_OTHER}
""", tmp_path)


@needs_svt
def test_svt_av1_as_an_anchor_leaves_no_real_time_thread(tmp_path):
    run("""
from dcvc.data.eval_sequences import open_sequences
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.evaluation.anchors import compare
write_synthetic_clips(folder, count=1, frames=2, size=(64, 64))
compare(open_sequences(next(folder.iterdir())), {"svt-av1": [40]}, folder / "frames")
assert policies() == {os.SCHED_OTHER}
""", tmp_path)
