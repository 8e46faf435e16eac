"""Numbers on the grid: exact products and sums."""

import torch

from dcvc.entropy.fixed_point import LIMIT, UNIT, ExactLinear, to_grid


def test_the_worked_product_is_exact():
    layer = ExactLinear(torch.tensor([[-1.7, 3.5]]), torch.zeros(1))
    assert layer.bits == 21                                  # 24 - ceil(log2(1.7 + 3.5))
    x = to_grid(torch.tensor([[0.3, 0.0]]))
    assert x[0, 0] == 78643
    assert layer(x)[0, 0] * 2.0**21 == -78643 * 3565158


def test_no_order_of_summation_changes_a_bit():
    """2,000 inputs at their limits, the largest sums there are, in many orders."""
    layer = ExactLinear(3 * torch.randn(4, 2000), torch.randn(4))
    x = LIMIT * torch.sign(layer.weight[:, :1].t())
    expected = layer(x)
    assert expected.abs().max() > 1e3 * UNIT
    for _ in range(10):
        order = torch.randperm(2000)
        shuffled = (x[:, order, None] * layer.weight[order]).cumsum(1)[:, -1] + layer.bias
        assert torch.equal(shuffled, expected)


def test_the_grid_has_an_end():
    assert to_grid(torch.tensor([513.0, -1e9])).tolist() == [LIMIT, -LIMIT]
