"""The learned prior: exact sums, passes that see only earlier ones, weights that are refused."""

import copy

import numpy as np
import pytest
import torch

from dcvc.errors import InputError
from dcvc.intra.vqgan.prior import LARGEST_SUM, CodePrior, FixedPointLinear, PriorConfig, PriorRate, pass_of
from dcvc.intra.vqgan.rate_file import KEY, rate_models_from_file, rate_models_to_file


def test_sums_of_the_prior_do_not_depend_on_their_order():
    layer, order = FixedPointLinear(700, 50).double(), torch.randperm(700)
    x = 30 * torch.randn(40, 700, dtype=torch.float64)

    def shuffled():
        again = FixedPointLinear(700, 50).double()
        again.load_state_dict({"weight": layer.weight[:, order], "bias": layer.bias})
        again.exact = layer.exact
        return again(x[:, order])

    assert not torch.equal(shuffled(), layer(x))             # ordinary float64 sums do depend on it
    PriorRate.to_fixed_point(layer)
    assert torch.equal(shuffled(), layer(x))


def test_a_prior_too_large_for_exact_sums_is_refused():
    network = CodePrior(PriorConfig(1, 64, 8, 16))
    network.gather[0].weight.data.fill_(LARGEST_SUM)
    with pytest.raises(InputError, match="learned prior: sums of up to"):
        PriorRate(network)


def test_training_loss_is_what_the_coder_counts():
    network = CodePrior(PriorConfig(2, 1000, 8, 16))
    network.set_codebooks(torch.randn(2, 1000, 4))
    codes = torch.randint(0, 1000, (1, 2, 21, 30))
    loss = float(network.loss(codes).detach())
    assert PriorRate(copy.deepcopy(network)).bits(codes[0].numpy()).mean() == pytest.approx(loss, rel=0.005)


def test_every_position_is_in_one_pass_and_sees_only_earlier_ones():
    order = pass_of(37, 50)
    assert set(np.unique(order)) == {0, 1, 2, 3, 4}
    network = CodePrior(PriorConfig(1, 64, 8, 16))
    network.set_codebooks(torch.randn(1, 64, 4))
    rate, rng = PriorRate(network), np.random.default_rng(0)
    indices = rng.integers(0, 64, (1, 37, 50))
    before = rate.bits(indices)
    changed = indices.copy()
    changed[0][order == 3] = rng.integers(0, 64, int((order == 3).sum()))
    assert np.array_equal(rate.bits(changed)[0][order < 3], before[0][order < 3])


def test_a_stored_prior_is_checked_like_every_file_of_weights():
    network = CodePrior(PriorConfig(1, 64, 8, 16))
    counts = torch.ones(1, 64)

    def stored(**changes):
        content = rate_models_to_file(counts, network)
        content["prior"]["model"] = {**content["prior"]["model"], **changes}
        return {KEY: content}

    assert list(rate_models_from_file(stored(), 1, 64, "vqgan.pt")) == ["static", "prior"]
    fits = "does not fit its own config: entry "
    for changes, words in (({"first": torch.full((16,), torch.nan)}, "first: found NaN or infinite values"),
                           ({"first": torch.zeros(5)}, fits + r"first has shape \(5,\), needed \(16,\)"),
                           ({"spare": torch.zeros(5)}, fits + "spare is not part of this model")):
        with pytest.raises(InputError, match=r"vqgan\.pt: rate_models\.prior: " + words):
            rate_models_from_file(stored(**changes), 1, 64, "vqgan.pt")
    with pytest.raises(InputError, match="found 1 levels of 64 codes, needed 1 of 65"):
        rate_models_from_file({KEY: {"prior": stored()[KEY]["prior"]}}, 1, 65, "vqgan.pt")
    network.first.data[0] = torch.inf
    with pytest.raises(InputError, match="learned prior: first: found NaN or infinite values"):
        PriorRate(network)
