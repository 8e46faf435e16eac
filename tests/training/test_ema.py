import torch

from dcvc.training.ema import EMA


def test_ema_swaps_in_and_out():
    model = torch.nn.Linear(2, 2)
    ema = EMA(model, 0.5)
    before = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    ema.update(model)
    with ema.swapped_into(model):
        # The first update's warmed-up decay is 2/11.
        torch.testing.assert_close(model.weight.detach(), before + 9 / 11)
    torch.testing.assert_close(model.weight.detach(), before + 1)
