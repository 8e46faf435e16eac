"""Networks in exact arithmetic: near the float ones, and the same in any order of computing."""

import copy

import pytest
import torch

from dcvc.device import computing_threads
from dcvc.entropy.exact import ExactNetworks, exact_copy
from dcvc.entropy.fixed_point import UNIT, to_grid
from dcvc.errors import InputError
from dcvc.layers import BlockStyle, Chain, DepthConvBlock, Upsample, packed


def network(kind: str = "clip", seed: int = 0) -> Chain:
    torch.manual_seed(seed)
    style = BlockStyle(kind, half=True)
    return Chain(Upsample(12, 16, style), DepthConvBlock(16, 8, style, kernel=5), torch.nn.Conv2d(8, 6, 1))


def test_it_computes_what_the_float_network_computes():
    model, x = network(), 5 * torch.randn(2, 12, 6, 7)
    exact = exact_copy(model)(to_grid(x)) / UNIT
    assert exact.shape == (2, 6, 12, 14)
    assert torch.allclose(exact.float(), model(x).detach(), atol=1e-3)


def test_results_are_whole_units_whatever_the_order():
    """Channels in another order, another batch, another number of threads: the same to the last bit."""
    model, x = network(), to_grid(20 * torch.randn(1, 12, 16, 24))
    expected = exact_copy(model)(x)
    assert torch.equal(expected, expected.round())
    order = torch.randperm(12)
    shuffled = copy.deepcopy(model)
    with torch.no_grad():
        shuffled.conv[0].up.conv[0].weight.copy_(model.conv[0].up.conv[0].weight[:, order])
    with computing_threads(2):
        assert torch.equal(exact_copy(shuffled)(x[:, order]), expected)
        assert torch.equal(exact_copy(model)(x.expand(3, -1, -1, -1))[2:], expected)


def test_far_inputs_stay_exact():
    """At the limits of the range too, with large weights, no sum may round."""
    model = network()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(30)
    x = to_grid(512 * torch.sign(torch.randn(1, 12, 4, 4)))
    found = exact_copy(model)(x)
    assert torch.equal(found, found.round())
    assert torch.equal(found, exact_copy(model)(x.clone(memory_format=torch.channels_last)))


def test_a_changed_weight_is_computed_with():
    model = network()
    networks = ExactNetworks(model=model)
    x = to_grid(torch.randn(1, 12, 4, 4))
    before = networks("model", x)
    assert torch.equal(networks("model", x), before)
    with torch.no_grad():
        model.conv[2].bias.add_(1)
    after = networks("model", x)
    # The sum of a float32 bias and one may round.
    assert (after - before - UNIT).abs().max() <= 1
    assert torch.equal(copy.deepcopy(networks)("model", x), after)


def test_other_activations_are_refused():
    with pytest.raises(InputError, match="need clip"):
        exact_copy(network("wsilu"))


@pytest.mark.parametrize("factor", [1.0, 300.0])
def test_compiled_loops_compute_the_same_bits(factor):
    """Within `packed`, where frames are coded; far out as well, where every limit is reached."""
    model, x = network(), to_grid(factor * torch.randn(1, 12, 6, 7))
    exact = exact_copy(model)
    expected = exact(x)
    with packed():
        assert torch.equal(exact(x), expected)
        assert torch.equal(exact(x.contiguous(memory_format=torch.channels_last)), expected)
