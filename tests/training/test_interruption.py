from hypothesis import given
from hypothesis import strategies as st

from dcvc.training.save_pace import SavePace

SECONDS = st.floats(0.01, 1)


@given(st.floats(0.5, 20), st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=60))
def test_no_moment_is_further_from_what_is_kept_than_the_interval(interval, durations):
    """Steps and writings that are no slower than one that came before: a kill at any moment costs the interval, or
    one step and one writing where these are longer."""
    now = 0.0
    pace = SavePace(interval, lambda: now)
    slow_step, slow_writing = max(d[0] for d in durations), max(d[1] for d in durations)
    kept, worst, writings = 0.0, 0.0, 0
    for number, (step, writing) in enumerate([(slow_step, slow_writing), *durations]):
        pace.begin()
        now += step
        due = pace.end()
        worst = max(worst, now - kept)
        if due or number == 0:                               # the first one shows how slow a writing may be
            begun, writings = now, writings + 1
            now += writing
            worst = max(worst, now - kept)
            pace.saved(begun)
            kept = begun
    assert worst <= max(interval, slow_step + 2 * slow_writing) + 1e-9


def test_checkpoints_are_not_written_more_often_than_the_interval_asks_for():
    now, writings = 0.0, 0
    pace = SavePace(60, lambda: now)
    for _ in range(6000):
        pace.begin()
        now += 0.1
        if pace.end():
            writings, begun = writings + 1, now
            now += 0.2
            pace.saved(begun)
    assert 10 <= writings <= 11
