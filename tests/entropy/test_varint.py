"""Integers of variable length."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcvc.entropy.varint import read_varint, varint
from dcvc.errors import InputError


def test_three_hundred_is_the_worked_example():
    assert varint(300) == b"\xac\x02"
    assert varint(127) == b"\x7f"
    assert varint(0) == b"\0"


@given(st.lists(st.integers(0, 2**56 - 1)))
def test_varints_read_back_and_are_short(values):
    data = iter(b"".join(varint(value) for value in values))
    assert [read_varint(lambda: next(data)) for _ in values] == values
    assert next(data, None) is None
    assert all(len(varint(value)) == max(1, -(-value.bit_length() // 7)) for value in values)


def test_varints_refuse_what_they_cannot_hold():
    with pytest.raises(InputError, match="found -1"):
        varint(-1)
    with pytest.raises(InputError, match="needed 0"):
        varint(1 << 56)
    with pytest.raises(InputError, match="more than 8 bytes"):
        read_varint(lambda: 0x80)
