"""The learned distributions of the hyper-latents."""

import pytest
import torch

from dcvc.entropy.factorized import Bottleneck, build_factorized


@pytest.mark.parametrize("kind", ["cdf4", "bottleneck"])
def test_the_distribution_rises_and_the_bins_fill_it(kind):
    model = build_factorized(kind, 3).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
        z = torch.arange(-400.0, 401.0, dtype=torch.float64).expand(1, 3, 1, -1) + model.medians
        assert (model.cumulative_logits(z).diff(dim=-1) > 0).all()
        lower = torch.sigmoid(model.cumulative_logits(z[..., :1] - 0.5))
        upper = torch.sigmoid(model.cumulative_logits(z[..., -1:] + 0.5))
        assert torch.allclose(model.likelihood(z).sum(-1, keepdim=True), upper - lower)


def test_the_bottleneck_is_compressais():
    from dcvc.intra.compressai import import_zoo
    import_zoo()
    from compressai.entropy_models import EntropyBottleneck

    own, theirs = Bottleneck(5), EntropyBottleneck(5)
    with torch.no_grad():
        for i in range(5):
            getattr(own, f"_bias{i}").copy_(theirs.biases[i])
            getattr(own, f"_matrix{i}").copy_(theirs.matrices[i] + 0.1 * torch.randn_like(theirs.matrices[i]))
            theirs.matrices[i].copy_(getattr(own, f"_matrix{i}"))
            if i < 4:
                getattr(own, f"_factor{i}").normal_()
                theirs.factors[i].copy_(getattr(own, f"_factor{i}"))
    z = 4 * torch.randn(2, 5, 3, 4)
    _, expected = theirs.eval()(z)
    assert torch.allclose(own.likelihood(torch.round(z)).clamp_min(1e-9), expected, atol=1e-6)
