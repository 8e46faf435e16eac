"""Which frames `dcvc prepare` keeps: black, static and repeated ones, cuts, plans."""

from dataclasses import replace

import numpy as np
import sample_videos
import torch
from hypothesis import given
from hypothesis import strategies as st

from dcvc.data.prepare_options import PrepareOptions
from dcvc.data.prepare_plan import SourcePlan, plan_source, plans_in, refused_whole
from dcvc.data.stretches import Measures, cuts, measure, reasons, split
from dcvc.video.file_index import FileIndex

ALL = PrepareOptions(drop_static=True, drop_black=True, drop_repeated=True, split_cuts=True)


def row_of(frames: int, fps: float = 10.0, size: tuple[int, int] = (64, 96)) -> FileIndex:
    return FileIndex(path="a.mp4", pts=np.arange(frames), keys=np.zeros(1), time_base=1, height=size[0], width=size[1],
                     orientation=(False,) * 3, fps=fps, codec="h264", pix_fmt="yuv420p", matrix="", full_range=False,
                     counted=False, notes=(), file_size=1, mtime_ns=1)


def noisy(images: np.ndarray, levels: int) -> torch.Tensor:
    """(T, H, W, 3) -> uint8 (T, 3, H, W) with noise, as a compressed picture has it."""
    noise = np.random.default_rng(0).integers(-levels, levels + 1, images.shape)
    return torch.from_numpy((images + noise).clip(0, 255).astype(np.uint8)).permute(0, 3, 1, 2)


def test_what_is_seen_in_frames():
    """Motion, then a still picture with noise, a cut to a darker scene, black; and a slow fade."""
    first, second = sample_videos.textures(8, 64, 96, 1), sample_videos.textures(8, 64, 96, 2) // 3
    still, black = np.repeat(first[-1:], 12, 0), np.zeros((3, 64, 96, 3), np.uint8)
    found = measure(noisy(np.concatenate((first, still, second, black)), 2))
    assert np.flatnonzero(cuts(found.jump)).tolist()[0] == 20
    why = reasons(found, replace(ALL, drop_repeated=False), fps=10)
    assert why.tolist() == [""] * 8 + ["static"] * 12 + [""] * 8 + ["black"] * 3
    stretches, dropped = split(found, replace(ALL, drop_repeated=False), fps=10)
    assert [(one[0], one[-1]) for one in stretches] == [(0, 7), (20, 27)]
    assert {(one.first, one.frames, one.reason) for one in dropped} == {(8, 12, "static"), (28, 3, "black")}
    # A bird in a still sky: one block of many.
    sky = np.full((12, 64, 96, 3), 128, np.uint8)
    for t, image in enumerate(sky):
        image[20:28, 4 * t: 4 * t + 8] = 30
    assert "static" not in reasons(measure(noisy(sky, 1)), ALL, fps=10)
    # Every frame twice; and a fade by less than a level a frame, of which some frames are kept.
    twice = measure(noisy(np.repeat(first, 2, 0), 0))
    assert reasons(twice, replace(ALL, drop_static=False), fps=10).tolist() == ["", "repeated"] * 8
    fade = reasons(Measures(np.full(40, 99.0), np.full(40, 0.2), np.zeros(40)), replace(ALL, drop_static=False), fps=10)
    assert (fade == "").sum() == 14


LEVEL = st.sampled_from((0.0, 10.0, 200.0))
FRAME = st.tuples(LEVEL, st.sampled_from((0.0, 0.2, 1.0, 9.0)), st.sampled_from((0.0, 0.1, 0.9)))
OPTIONS = st.builds(PrepareOptions, segment=st.integers(1, 9), drop_static=st.booleans(), drop_black=st.booleans(),
                    drop_repeated=st.booleans(), split_cuts=st.booleans(), max_segments=st.none() | st.integers(1, 4),
                    min_seconds=st.none() | st.sampled_from((0.2, 0.5)))


@given(frames=st.lists(FRAME, min_size=1, max_size=60), options=OPTIONS)
def test_every_frame_is_in_one_segment_or_dropped_once(frames, options):
    measures = Measures(*np.array(frames).T)
    plan = plan_source(row_of(len(frames)), options, measures)
    taken = np.zeros(len(frames), int)
    for one in plan.dropped:
        taken[one.first: one.first + one.frames] += 1
    begins = np.flatnonzero(cuts(measures.jump)) if options.split_cuts else []
    for segment in plan.segments:
        numbers = segment.numbers
        taken[numbers] += 1
        assert len(numbers) == len(segment) <= options.segment
        # No segment reaches over a cut, or over frames that were cut out for what they show.
        assert not any(segment.first < place <= segment.last for place in begins)
        why = reasons(measures, options, 10.0)
        assert set(why[list(segment.without)]) <= {"repeated"}
    assert (taken == 1).all()
    assert len(plan.segments) <= (options.max_segments or len(frames))
    assert SourcePlan.from_dict(plan.as_dict()) == plan
    # The manifest holds enough to make the plan again.
    entries = [{"number": 3, "first": one.first, "frames": len(one), "without": list(one.without)}
               for one in plan.segments]
    drops = [{"number": 3, "first": one.first, "frames": one.frames, "reason": one.reason} for one in plan.dropped]
    assert plans_in({"segments": entries, "dropped": drops, "sources": [{"number": 3}]})[3] == plan


def test_plans_without_a_look_at_frames():
    plan = plan_source(row_of(300), PrepareOptions())
    assert [(one.first, one.last) for one in plan.segments][-2:] == [(192, 255), (256, 299)]
    capped = plan_source(row_of(300), PrepareOptions(segment=10, max_segments=3))
    assert [one.first for one in capped.segments] == [0, 140, 290]
    assert sum(one.frames for one in capped.dropped) == 270
    assert refused_whole(row_of(300), PrepareOptions(min_size=64, min_seconds=30)) is None
    for options in (PrepareOptions(min_size=65), PrepareOptions(min_seconds=30.1)):
        refused = refused_whole(row_of(300), options)
        assert (refused.segments, [one.frames for one in refused.dropped]) == ((), [300])
