"""What is made of weights: made once, and again as soon as one changes."""

import copy

import torch

from dcvc.layers.made_of_weights import MadeOfWeights, weights_stay


def test_it_is_made_again_when_a_weight_changes():
    layer, kept, made = torch.nn.Linear(2, 2), MadeOfWeights(), []

    def get() -> int:
        return kept.get(layer.parameters, lambda: made.append(0) or len(made))

    assert [get(), get()] == [1, 1]
    with torch.no_grad():
        layer.weight.mul_(2)
    assert [get(), get()] == [2, 2]
    layer.double()
    assert get() == 3
    assert copy.deepcopy(kept).get(layer.parameters, lambda: "its own") == "its own"


def test_weights_that_stay_are_looked_at_once():
    layer, kept, looks = torch.nn.Linear(2, 2), MadeOfWeights(), []

    def weights() -> list[torch.Tensor]:
        looks.append(0)
        return list(layer.parameters())

    def get() -> object:
        return kept.get(weights, object)

    with weights_stay():
        first = get()
        with weights_stay():
            assert get() is first
    assert len(looks) == 1
    with torch.no_grad():
        layer.bias.add_(1)
    # The next stretch looks again.
    with weights_stay():
        assert get() is not first
    assert len(looks) == 2
