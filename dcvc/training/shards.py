"""A batch on several cores: each takes some of its clips through the whole step, alone.

Torch shares every one of its operations between threads, which meet at its end. A step of a light codec is
some ten thousand short ones, and the threads wait for each other longer than they compute: most of all
beside another program, when one of them does not run. Clips have nothing to do with each other until their
gradients are added, so here threads meet once a step:

    batch of six clips, two cores     0 1 2 -> loss -> gradients \\
                                      3 4 5 -> loss -> gradients -> sum -> update

It is what accumulated micro-batches are, at the same time. The loss of a batch is a mean over its clips,
so a shard counts by its clips. A step of light-m on two cores takes two thirds of the time
(benchmarks/light_training_speed.json).

Each shard draws its noise from a generator of its own, and gradients are added in the order of the shards:
the same seed and number of threads give the same weights.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from dcvc.device.workers import apart
from dcvc.entropy.noise import noise_from
from dcvc.training.variations import Variations

# The clips of a shard, what was drawn for them, and how many clips they are.
Shard = tuple[Tensor, Variations, int]


def in_shards(clip: Tensor, variations: Variations, count: int) -> list[Shard]:
    """clip (B, T, 3, H, W), count <= B -> its shards, of sizes that differ by one at most."""
    batch = len(clip)
    ends = [batch * number // count for number in range(count + 1)]
    parts = [slice(*pair) for pair in pairwise(ends)]
    quality = variations.quality
    return [(clip[part], variations._replace(quality=None if quality is None else quality[:, part]),
             part.stop - part.start) for part in parts]


def gradients_at_once(accelerator: Accelerator, loss: nn.Module, trained: Sequence[nn.Parameter],
                      shards: Sequence[tuple[Any, ...]], weights: Sequence[float]) -> list[dict[str, Any]]:
    """loss(*shard) of every shard, all at the same time -> what they gave. The gradients of their sum by
    weights are added to those of the parameters."""
    seeds = torch.randint(2**62, (len(shards),)).tolist()

    def work(number: int) -> tuple[dict[str, Any], tuple[Tensor | None, ...]]:
        with noise_from(torch.Generator().manual_seed(seeds[number])), accelerator.autocast():
            output = loss(*shards[number])
            # As in a step without shards: gradients of a loss that is not finite are NaN.
            poisoned = output["loss"] * (1 + 0 * output["loss"].detach())
            value = weights[number] * poisoned
        return output, torch.autograd.grad(value, trained, allow_unused=True)

    done = apart(work, range(len(shards)))
    for parameter, *parts in zip(trained, *(gradients for _, gradients in done), strict=True):
        for part in parts:
            if part is not None:
                # In a new place: what autograd gave may belong to several parameters.
                parameter.grad = part if parameter.grad is None else parameter.grad + part
    return [output for output, _ in done]


def mean_by_size(values: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """The mean of what shards of these sizes gave, or of what they gave update by update."""
    stacked = torch.stack(list(values))
    if len(set(sizes)) == 1 or len(values) % len(sizes):
        return stacked.mean()
    weight = stacked.new_tensor(sizes).repeat(len(values) // len(sizes))
    return (stacked * weight).sum() / weight.sum()
