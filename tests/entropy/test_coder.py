"""Integer tables and the entropy coder, read back by a second decoder written after docs/bitstream.md."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcvc.entropy import coder
from dcvc.entropy.coder import TOTAL, FrequencyTable, SymbolDecoder, SymbolEncoder, TableSet
from dcvc.errors import BitstreamError, InputError


class PlainDecoder:
    """The ANS decoder of docs/bitstream.md, in plain integers."""

    def __init__(self, payload: bytes) -> None:
        payload += b"\0" * (-len(payload) % 4)
        self.words = [int.from_bytes(payload[i: i + 4], "little") for i in range(0, len(payload), 4)]
        self.state = self.words.pop() if self.words else 0
        if self.words:
            self.state = self.state << 32 | self.words.pop()

    def take(self, frequencies: list[int]) -> int:
        bits = (sum(frequencies) - 1).bit_length()
        place = self.state % (1 << bits)
        start = entry = 0
        while place >= start + frequencies[entry]:
            start += frequencies[entry]
            entry += 1
        self.state = (self.state >> bits) * frequencies[entry] + place - start
        if self.state < 1 << 32 and self.words:
            self.state = self.state << 32 | self.words.pop()
        return entry

    def symbol(self, table: FrequencyTable) -> int:
        return self.take(table.frequencies.tolist())


def tables(rng) -> TableSet:
    sizes = [int(rng.integers(2, 9)) for _ in range(6)]
    return TableSet(FrequencyTable.from_probabilities(rng.random(size) ** 8, first=int(rng.integers(-5, 5)),
                                                      escape=bool(i % 2)) for i, size in enumerate(sizes))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 40), min_size=1, max_size=5))
def test_every_sequence_comes_back(seed, counts):
    rng = np.random.default_rng(seed)
    own, encoder, expected = tables(rng), SymbolEncoder(), []
    for count in counts:
        index = rng.integers(0, len(own), count)
        symbols = np.array([rng.integers(-(2**31), 2**31) if own[i].escape and rng.random() < 0.2
                            else own[i].first + rng.integers(own[i].symbols) for i in index], dtype=np.int64)
        encoder.push(symbols, own, index)
        expected.append((symbols, index))
    payload = encoder.to_bytes()
    decoder = SymbolDecoder(payload)
    for symbols, index in expected:
        assert (decoder.pop(own, index) == symbols).all()
    decoder.finish()


def test_a_second_decoder_reads_the_bytes():
    """Batches, table after table in each, the escaped values of a batch behind its symbols, as the page says."""
    rng = np.random.default_rng(1)
    own = tables(rng)
    batches = [100, 0, 250, 50]
    index = rng.integers(0, 6, sum(batches))
    symbols = np.array([rng.integers(-(2**31), 2**31) if own[i].escape and rng.random() < 0.1
                        else own[i].first + rng.integers(own[i].symbols) for i in index])
    encoder = SymbolEncoder()
    encoder.push(symbols, own, index, batches)
    plain, start = PlainDecoder(encoder.to_bytes()), 0
    for count in batches:
        order = start + np.argsort(index[start:start + count], kind="stable")
        entries = [plain.symbol(own[index[i]]) for i in order]
        for i, entry in zip(order, entries, strict=True):
            table = own[index[i]]
            found = entry + table.first
            if table.escape and entry == table.symbols:
                raw = plain.take([1 << 8] * (1 << 16)) | plain.take([1 << 8] * (1 << 16)) << 16
                found = raw - (raw >> 31 << 32)
            assert found == symbols[i]
        start += count
    assert plain.state == 0
    assert not plain.words


def test_the_worked_example(monkeypatch):
    """The table and the pushes that the top of dcvc/entropy/coder.py shows, with 16 in place of 2^24."""
    monkeypatch.setattr(coder, "TOTAL", 16)
    table = FrequencyTable.from_probabilities(np.array([0.30, 0.50, 0.15, 0.05]), first=-1, escape=True)
    assert table.frequencies.tolist() == [4, 9, 2, 1]
    plain = PlainDecoder((24).to_bytes(4, "little"))
    assert [plain.symbol(table), plain.symbol(table), plain.state] == [1, 2, 0]


@pytest.mark.parametrize("bad", [np.array([np.nan]), np.array([0.5]), np.array([np.inf]), np.array([2**31]),
                                 np.array([7]), np.array(["1"])])
def test_what_cannot_be_coded_is_refused(bad):
    with pytest.raises(InputError, match="symbols"):
        SymbolEncoder().push(bad, TableSet([FrequencyTable([TOTAL - 1, 1])]), np.zeros(1, dtype=int))


@pytest.mark.parametrize("bad", [[TOTAL], [TOTAL, 0], [1, 2], [[1], [2]], [TOTAL - 1.0, 1.0]])
def test_bad_tables_are_refused(bad):
    with pytest.raises(InputError, match="frequencies"):
        FrequencyTable(bad)


def test_leftovers_and_trailing_zeros_are_refused():
    table = TableSet([FrequencyTable.from_probabilities(np.array([0.5, 0.5]))])
    encoder = SymbolEncoder()
    encoder.push(np.ones(100, dtype=int), table, np.zeros(100, dtype=int))
    decoder = SymbolDecoder(encoder.to_bytes())
    decoder.pop(table, np.zeros(99, dtype=int))
    with pytest.raises(BitstreamError, match="left over"):
        decoder.finish()
    with pytest.raises(BitstreamError, match="zeros"):
        SymbolDecoder(b"\1\2\3\4\0\0\0\0")
