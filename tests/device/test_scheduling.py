"""Encoders leave priorities as they were. SVT-AV1 changes them where it may, which is as root."""

import os

import av
import numpy as np
import pytest

from dcvc.data.eval_sequences import open_sequences
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.device.scheduling import THREADS, scheduling_kept
from dcvc.evaluation.anchors import compare
from dcvc.video.writer import VideoWriter

pytestmark = pytest.mark.skipif(not THREADS.is_dir(), reason="needs Linux's list of threads")


def policies() -> set[int]:
    return {os.sched_getscheduler(int(thread.name)) for thread in THREADS.iterdir()}


def test_what_changes_its_policy_gets_the_old_one_back():
    before = policies()
    # Anybody may become a thread of lower rank and come back.
    with scheduling_kept():
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        assert policies() != before
    assert policies() == before


@pytest.mark.skipif("libsvtav1" not in av.codecs_available, reason="this FFmpeg has no libsvtav1")
def test_a_video_written_by_svt_av1_leaves_no_real_time_thread(tmp_path):
    before = policies()
    with VideoWriter(tmp_path / "a.mp4", (64, 64), codec="libsvtav1", options={"svtav1-params": "lp=1"}) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
        assert policies() == before
    assert policies() == before


@pytest.mark.skipif("libsvtav1" not in av.codecs_available, reason="this FFmpeg has no libsvtav1")
def test_svt_av1_as_an_anchor_leaves_no_real_time_thread(tmp_path):
    write_synthetic_clips(tmp_path, count=1, frames=2, size=(64, 64))
    before = policies()
    compare(open_sequences(next(tmp_path.iterdir())), {"svt-av1": [40]}, tmp_path / "frames")
    assert policies() == before
