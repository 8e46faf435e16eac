"""Chains of work side by side (dcvc/device/lanes.py)."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcvc.device import computing_threads
from dcvc.device.lanes import Lanes, in_lanes
from dcvc.device.workers import share

Item = tuple[int, int]


def items_of(lengths: list[int]) -> list[Item]:
    """(chain, place in it)"""
    return [(chain, place) for chain, length in enumerate(lengths) for place in range(length)]


def begins(item: Item) -> bool:
    return item[1] == 0


def summing(delay: Callable[[Item], float] = lambda item: 0.0) -> Callable[[], Callable[[Item], tuple]]:
    """Work that carries a sum from item to item of a chain, so that a chain that is split or mixed shows."""

    def start() -> Callable[[Item], tuple]:
        total = 0

        def work(item: Item) -> tuple:
            nonlocal total
            time.sleep(delay(item))
            total += item[1]
            return *item, total

        return work

    return start


def expected(items: list[Item]) -> list[tuple]:
    return [(chain, place, place * (place + 1) // 2) for chain, place in items]


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 6), max_size=8), count=st.integers(1, 4), room=st.integers(1, 20),
       slow=st.integers(0, 7))
def test_results_come_in_order_whatever_the_chains(lengths, count, room, slow):
    items = items_of(lengths)
    start = summing(lambda item: 0.002 if item[0] == slow else 0.0)
    assert list(in_lanes(items, begins, start, Lanes(count, room))) == expected(items)


def test_chains_run_at_the_same_time_and_no_more_than_lanes():
    running, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(3, timeout=20)

    def start() -> Callable[[Item], int]:
        def work(item: Item) -> int:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            if item[1] == 0:
                # Returns only where three chains are in it at once.
                together.wait()
            with lock:
                running -= 1
            return item[0]

        return work

    results = list(in_lanes(items_of([2] * 6), begins, start, Lanes(3, 8)))
    assert results == [chain for chain in range(6) for _ in range(2)]
    assert most == 3


def test_no_more_items_are_taken_than_there_is_room_for():
    taken = 0

    def items() -> Iterator[Item]:
        nonlocal taken
        for item in items_of([4] * 10):
            taken += 1
            yield item

    for given_so_far, _ in enumerate(in_lanes(items(), begins, summing(), Lanes(2, 6))):
        assert taken - given_so_far <= 6


@pytest.mark.parametrize("source", ["items", "work"])
def test_an_error_comes_after_the_results_before_it(source):
    wrong = (2, 1)

    def items() -> Iterator[Item]:
        for item in items_of([3] * 5):
            if source == "items" and item == wrong:
                raise ValueError("wrong")
            yield item

    def start() -> Callable[[Item], tuple]:
        add = summing()()

        def work(item: Item) -> tuple:
            if item == wrong:
                raise ValueError("wrong")
            return add(item)

        return work

    found = []
    with pytest.raises(ValueError, match="wrong"):  # noqa: PT012
        for result in in_lanes(items(), begins, start, Lanes(2, 9)):
            found.append(result)
    assert found == expected(items_of([3, 3, 1]))


def test_whoever_stops_early_leaves_no_thread_behind():
    results = in_lanes(items_of([50] * 4), begins, summing(lambda item: 0.001), Lanes(2, 100))
    assert next(results) == (0, 0, 0)
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lane")]


def test_two_chains_share_the_threads_and_one_alone_has_them_all():
    """Of how many threads `share` takes in the first two chains, and in the last one after they have ended."""
    found: dict[Item, int] = {}
    both = threading.Barrier(2, timeout=20)

    def start() -> Callable[[Item], Item]:
        def work(item: Item) -> Item:
            if item[0] < 2:
                both.wait()
            threads, together = set(), threading.Barrier(4 if item == (2, 9) else 1, timeout=20)

            def note(_: int) -> None:
                # Four at once can only pass on four threads.
                together.wait()
                threads.add(threading.get_ident())

            if item[0] == 2:
                time.sleep(0.05)
            share(note, range(4))
            found[item] = len(threads)
            return item

        return work

    items = items_of([1, 1, 10])
    with computing_threads(4):
        assert list(in_lanes(items, begins, start, Lanes(2, 2))) == items
    assert max(found[0, 0], found[1, 0]) <= 2
    assert found[2, 9] == 4
