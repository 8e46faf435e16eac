"""CompressAI's models with random weights whose numbers are those of a trained one: latents of many
widths, and means and scales that are near them and differ from place to place.

    latents y     channel by channel of a deviation between 0.05 and 8
    z             of deviation 2
    scales        near the deviation of their channel; means near its mean
"""

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from dcvc.intra.compressai import CompressAIIFrameModel
from dcvc.layers import pad_to_multiple

NARROWEST, WIDEST = 0.05, 8.0


def soft_picture(height: int, width: int, seed: int = 0) -> Tensor:
    """(1, 3, height, width): something that changes slowly, with a little of what changes fast."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 16 + 2, width // 16 + 2, generator=generator)
    picture = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    return (picture + 0.05 * torch.rand(1, 3, height, width, generator=generator)).clamp(0, 1)


@torch.no_grad()
def sensible_zoo_model(name: str, quality: int = 1, seed: int = 0) -> CompressAIIFrameModel:
    torch.manual_seed(seed)
    codec = CompressAIIFrameModel(name, quality, pretrained=False)
    model = codec.model
    picture = pad_to_multiple(soft_picture(192, 256), codec.multiple)
    # cheng2020-attn ends in attention, which adds to what comes before it.
    last = next(layer for layer in reversed(model.g_a) if isinstance(layer, torch.nn.Conv2d))
    found = model.g_a(picture)[0].flatten(1).std(1)
    channels = len(found)
    wanted = torch.logspace(0, 1, channels).log10() * torch.tensor(WIDEST / NARROWEST).log()
    wanted = (NARROWEST * wanted.exp())[torch.randperm(channels)]
    last.weight.mul_((wanted / found)[:, None, None, None])
    last.bias.mul_(wanted / found)
    y = model.g_a(picture)
    if hasattr(model, "h_a"):
        _match_priors(model, y)
    # From a file, as a user's: its checksums are then those of these weights.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save(model.state_dict(), path)
        return CompressAIIFrameModel(name, quality, checkpoint=str(path))


def _match_priors(model: torch.nn.Module, y: Tensor) -> None:
    """z of some width, and parameters of y that are near what y is."""
    means = isinstance(model.h_s[-1], torch.nn.Conv2d)
    seen = y if means else y.abs()
    deviation_of_z = model.h_a(seen).std()
    model.h_a[-1].weight.mul_(2 / deviation_of_z)
    model.h_a[-1].bias.mul_(2 / deviation_of_z)
    mean, deviation = y[0].flatten(1).mean(1), y[0].flatten(1).std(1)
    network = getattr(model, "entropy_parameters", model.h_s)
    last = [layer for layer in network if hasattr(layer, "weight")][-1]
    before = model.h_s(torch.round(model.h_a(seen)))
    # The bias decides, and the weights move what it says by about a fifth.
    last.weight.mul_(0.2 * float(deviation.median()) / float(before.std()))
    last.bias.copy_(torch.cat([deviation, mean]) if means else deviation)
