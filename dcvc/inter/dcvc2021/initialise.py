"""The weights of DCVC-2021 before training: chosen so that short trainings learn something.

With torch's own initialisation the inverse GDNs make pictures explode and y is rounded to zero.
Here the untrained codec copies its reference: flow near zero, colours passed straight from the
reference to x_hat, everything else small beside them.
"""

import math

import torch
from torch import nn

from dcvc.layers import LeakyResidualBlock, ResidualBlock

# Of y and y_mv before training, over latents of a deviation near one.
LATENT_GAIN = 4

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


@torch.no_grad()
def initialise(model: nn.Module) -> None:
    """Draw all weights of a DCVC from torch's global generator."""
    _keep_variance(model)
    _shrink(model)
    _raise_latents(model)
    _pass_reference(model)
    # The predicted scales begin near 1, where both likelihoods have useful gradients; begun at the
    # latents' own deviation, rates came out a quarter higher after short trainings.
    for network in (model.entropy_parameters, model.entropy_parameters_mv):
        half = network[-1].out_channels // 2
        mean_first = model.config.parameter_order == "mean_scale"
        network[-1].bias[slice(half, None) if mean_first else slice(half)] = 1.0


def _keep_variance(model: nn.Module) -> None:
    """Each output of a convolution about as large as its inputs, so that depth changes nothing."""
    for module in model.modules():
        if isinstance(module, _CONVOLUTIONS):
            taps = module.kernel_size[0] * module.kernel_size[1]
            if isinstance(module, nn.ConvTranspose2d):
                # With stride 2 an output sees a quarter of the taps.
                taps /= module.stride[0] * module.stride[1]
            # 1 / inputs would do for a layer alone, 2 / inputs before a ReLU, which loses half of
            # the variance. Both occur here; 1.6 lies between.
            std = math.sqrt(1.6 / (module.in_channels * taps))
            nn.init.normal_(module.weight, std=std)
            nn.init.zeros_(module.bias)


def _shrink(model: nn.Module) -> None:
    """Make small what is added to something good: residuals, corrections of flow, predictions."""
    small = [block.conv2 for block in model.modules() if isinstance(block, ResidualBlock)]
    small += [block.conv[2] for block in model.modules() if isinstance(block, LeakyResidualBlock)]
    small += [level.conv5 for level in model.opticFlow.moduleBasic]
    small += [model.mvDecoder_part1[-1], model.mvDecoder_part2[-1],
              model.contextualDecoder_part2[-1]]
    small += [model.entropy_parameters[-1], model.entropy_parameters_mv[-1]]
    small += [model.auto_regressive, model.auto_regressive_mv]
    for module in small:
        module.weight.mul_(0.1)
    for decoder in (model.contextualDecoder_part1, model.mvDecoder_part1):
        for module in decoder.modules():
            # Inverse GDN amplifies; four in a row would explode.
            if isinstance(module, _CONVOLUTIONS):
                module.weight.mul_(0.4)


def _raise_latents(model: nn.Module) -> None:
    """Begin with y well above the step it is rounded to, all else equal.

    Random latents harm the prediction, so training first shrinks them; where all are rounded to
    zero, nothing would make them useful again.
    """
    readers = ((model.contextualEncoder, model.contextualDecoder_part1, model.priorEncoder),
               (model.mvEncoder, model.mvDecoder_part1, model.mvpriorEncoder))
    for encoder, decoder, hyper in readers:
        encoder[-1].weight.mul_(LATENT_GAIN)
        # Whoever reads y divides it again, so that only the rounding sees the gain.
        for reader in (decoder, hyper):
            first = next(layer for layer in reader.modules() if isinstance(layer, _CONVOLUTIONS))
            first.weight.div_(LATENT_GAIN)
    for context in (model.auto_regressive, model.auto_regressive_mv):
        context.weight.div_(LATENT_GAIN)


def _pass_reference(model: nn.Module) -> None:
    """Let channels 0-2 of the context carry RGB from the reference to x_hat: training starts from
    copying it."""
    # (layer, the first of its inputs that carry RGB). The decoder's first layer reads the context
    # behind its n own features.
    straight = ((model.feature_extract[0], 0), (model.context_refine[1], 0),
                (model.contextualDecoder_part2[0], model.config.channels),
                (model.contextualDecoder_part2[-1], 0))
    for module, first in straight:
        # x_hat alone keeps what other features give it: its layer is small already.
        if module is not model.contextualDecoder_part2[-1]:
            module.weight[:3] = 0
        for colour in range(3):
            module.weight[colour, first + colour] = 0
            module.weight[colour, first + colour, 1, 1] = 1
    for block in (model.feature_extract[1], model.context_refine[0],
                  *model.contextualDecoder_part2[1:3]):
        block.conv2.weight[:3] *= 0.1
