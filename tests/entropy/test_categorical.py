"""Symbols with explicit tables: shared, one each, and uniform ones."""

import numpy as np
import pytest

from dcvc.entropy.categorical import TableDecoder, TableEncoder, table_bits


def test_every_kind_of_table_comes_back():
    rng = np.random.default_rng(4)
    parts = [(rng.integers(0, 5, 40), rng.random(5)), (rng.integers(0, 7, 30), rng.random((30, 7))),
             (rng.integers(0, 9, 20), 9), (np.zeros(6, int), 1), (np.zeros(0, int), rng.random(3))]
    encoder = TableEncoder()
    for symbols, table in parts:
        encoder.put(symbols, table)
    words = encoder.words()
    decoder = TableDecoder(words)
    for symbols, table in parts:
        assert decoder.take(len(symbols), table).tolist() == symbols.tolist()
    assert decoder.finished()
    ideal = sum(table_bits(symbols, table).sum() for symbols, table in parts)
    assert 32 * len(words) == pytest.approx(ideal, abs=64)


def test_the_worked_costs():
    assert table_bits(np.array([0, 1, 2]), np.array([0.5, 0.25, 0.25])).tolist() == [1.0, 2.0, 2.0]


def test_a_symbol_without_probability_can_be_coded():
    encoder = TableEncoder()
    encoder.put(np.array([1]), np.array([1.0, 0.0]))
    assert TableDecoder(encoder.words()).take(1, np.array([1.0, 0.0])) == [1]


def test_symbols_outside_of_their_table_are_refused():
    with pytest.raises(ValueError, match="found 5..5, needed 0..4"):
        TableEncoder().put(np.array([5]), 5)
