"""Threads that share work: all of it is done, errors arrive, and what holds for the caller holds for them."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from dcvc.device import computing_threads
from dcvc.device.workers import ahead, behind, beside, share, single


@pytest.mark.parametrize("threads", [1, 4])
def test_all_work_is_done_as_its_caller_would(threads):
    done = []
    with computing_threads(threads), single(), torch.no_grad():
        share(lambda i: done.append((i, torch.get_num_threads(), torch.is_grad_enabled())), range(50))
        other = beside(lambda: torch.is_grad_enabled())
        assert not other.result()
    assert sorted(done) == [(i, 1, False) for i in range(50)]


@pytest.mark.parametrize("threads", [1, 4])
def test_errors_arrive(threads):
    with computing_threads(threads), single():
        with pytest.raises(ZeroDivisionError):
            share(lambda i: 1 // i, range(3))
        with pytest.raises(ZeroDivisionError):
            beside(lambda: 1 // 0).result()
    with pytest.raises(ZeroDivisionError):
        list(ahead(1 // i for i in (1, 0)))
    with pytest.raises(ZeroDivisionError), behind(lambda i: 1 // i) as put:
        put(0)


def test_items_come_and_go_in_order():
    assert list(ahead(iter(range(9)))) == list(range(9))
    found, caller = [], threading.get_ident()
    with behind(lambda i: found.append((i, threading.get_ident() != caller))) as put:
        for i in range(9):
            put(i)
    assert found == [(i, True) for i in range(9)]


def test_work_is_shared_from_several_threads_at_once_and_inside_of_itself():
    """Helpers are handed around; none is given to two callers, and an error leaves it of use."""
    def call(number: int) -> int:
        found = []
        with computing_threads(3), single():
            for _ in range(40):
                share(lambda i: share(lambda k: found.append(number + i * k), range(4)), range(4))
                with pytest.raises(ZeroDivisionError):
                    share(lambda i: 1 // (i - 2), range(4))
        return sum(found)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(call, range(4)))
    assert found == [40 * (16 * number + 36) for number in range(4)]
