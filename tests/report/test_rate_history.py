"""The rate over time: by second, in a window, and what waits in a channel's buffer."""

import numpy as np
import pytest

from dcvc.report.rate_history import by_second, mean_rate, rates_over_time, waiting_bits, window_frames


def test_the_example_of_the_page():
    assert waiting_bits([900, 100, 100], 400, 1) == [500, 200, 0]
    assert waiting_bits([900, 100, 100], 4000, 10) == [500, 200, 0]


@pytest.mark.parametrize(("frames", "fps"), [(75, 25.0), (200, 30000 / 1001)])
def test_against_frame_by_frame_counting(frames, fps):
    rng = np.random.default_rng(frames)
    bits, qualities = rng.integers(50, 4000, frames).tolist(), rng.integers(0, 253, frames) / 4
    qualities = [None if number % 7 == 0 else quality for number, quality in enumerate(qualities.tolist())]
    rate = mean_rate(bits, fps)
    assert rate == pytest.approx(sum(bits) / (frames / fps))
    waiting, buffers = 0.0, []
    for own in bits:
        waiting = max(waiting + own - rate / fps, 0)
        buffers.append(waiting)
    assert waiting_bits(bits, rate, fps) == pytest.approx(buffers)
    window = round(fps)
    over = rates_over_time(bits, fps)
    assert over[: window - 1] == [None] * (window - 1)
    for end in range(window, frames + 1):
        assert over[end - 1] == pytest.approx(sum(bits[end - window: end]) / window * fps)
    seconds = list(by_second(bits, qualities, fps, rate))
    assert sum(second.frames for second in seconds) == frames
    assert sum(second.bits for second in seconds) == sum(bits)
    for second in seconds:
        inside = [number for number in range(frames) if second.number <= number / fps < second.number + 1]
        known = [qualities[number] for number in inside if qualities[number] is not None]
        assert second.frames == len(inside)
        assert second.bits == sum(bits[number] for number in inside)
        assert second.waiting == pytest.approx(max(buffers[number] for number in inside))
        assert second.qualities == pytest.approx((min(known), sum(known) / len(known), max(known)))


def test_short_clips_and_frames_without_a_quality():
    assert (window_frames(59, 30), window_frames(60, 30), window_frames(1, 30)) == (14, 30, 1)
    assert rates_over_time([8], 30) == [240]
    second, = by_second([8], [None], 30, 240)
    assert second.qualities is None
    assert second.waiting == 0
    assert mean_rate([], 25) == 0
    assert list(by_second([], [], 25, 1)) == []
