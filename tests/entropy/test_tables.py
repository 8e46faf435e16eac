"""The integer tables of the entropy models."""

import math

import numpy as np
import pytest
import torch

from dcvc.entropy.coder import TOTAL, FrequencyTable, SymbolEncoder, TableSet
from dcvc.entropy.factorized import build_factorized
from dcvc.entropy.scales import coded_scales
from dcvc.entropy.tables import conditional_tables, factorized_tables, tables_crc

GOLDEN = "ffffffffd9521ebb2600007affffffab2703"


def test_tables_are_exact_and_their_bytes_frozen():
    encoder = SymbolEncoder()
    encoder.push(np.arange(-3, 4), conditional_tables("laplace"), np.arange(7) * 10)
    encoder.push(np.array([5000]), conditional_tables("gaussian"), np.array([3]))
    assert encoder.to_bytes().hex() == GOLDEN
    for distribution in ("laplace", "gaussian"):
        own = conditional_tables(distribution)
        assert len(own) == 64
        assert all(table.frequencies.sum() == TOTAL and table.frequencies.min() >= 1 for table in own)


def test_a_laplace_table_has_the_masses_of_its_scale():
    for scale, table in zip(coded_scales("laplace").tolist(), conditional_tables("laplace"), strict=True):
        zero = table.frequencies[-table.first] / TOTAL
        # What rounding leaves over goes to the likeliest symbol: up to one step for each entry.
        assert zero == pytest.approx(1 - math.exp(-0.5 / scale), abs=len(table.frequencies) / TOTAL)
        assert table.frequencies[-table.first + 1] == table.frequencies[-table.first - 1]


def test_a_hyper_table_has_the_masses_of_its_channel():
    model = build_factorized("cdf4", 2)
    for channel, table in enumerate(factorized_tables(model)):
        symbols = torch.arange(table.first, table.first + table.symbols, dtype=torch.float32)
        masses = model.likelihood(symbols.expand(1, 2, 1, -1))[0, channel, 0].detach().numpy()
        assert np.abs(table.frequencies[:-1] / TOTAL - masses).max() < 1e-4


def test_the_crc_notices_one_step_in_one_entry():
    own = [FrequencyTable([TOTAL - 3, 1, 2]), FrequencyTable([5, TOTAL - 5], escape=True)]
    moved = [own[0], FrequencyTable([6, TOTAL - 6], escape=True)]
    shifted = [own[0], FrequencyTable([5, TOTAL - 5], first=1, escape=True)]
    found = {tables_crc(TableSet(tables)) for tables in (own, own[::-1], moved, shifted)}
    assert len(found) == 4
    assert tables_crc(TableSet(own[:1]), TableSet(own[1:])) == tables_crc(TableSet(own))
