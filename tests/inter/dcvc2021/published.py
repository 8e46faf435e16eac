"""Weights of the published architecture made by rule, and a slow plain reference of its coded reconstruction."""

import zlib

import numpy as np
import torch

from dcvc.inter import DCVC
from dcvc.inter.dcvc2021.config import DCVCConfig
from dcvc.layers import warp


def weights_by_rule(config: DCVCConfig | None = None, salt: str = "public") -> dict[str, torch.Tensor]:
    state = {}
    for name, value in DCVC(config).state_dict().items():
        if name.endswith((".beta", ".gamma", ".mask")):
            state[name] = value
            continue
        shape = tuple(value.shape)
        x = np.random.RandomState(zlib.crc32(f"{salt}:{name}".encode())).standard_normal(shape)
        if len(shape) == 4 and (shape[0], *shape[2:]) == (1, 1, 1):
            x = 0.3 * x
        elif len(shape) == 4:
            x = x * np.sqrt(2 / np.prod(shape[1:])) * 0.75
        else:
            x = 0.05 * x
        if name == "contextualDecoder_part2.3.weight":
            x = x * 0.05
        if name == "contextualDecoder_part2.3.bias":
            x = x + 0.5
        state[name] = torch.from_numpy(x.astype(np.float32))
    return state


def _raster(y, prior, context, network):
    """Position after position in float32, whole-picture convolutions cropped to 5x5: slow and obvious."""
    batch, channels, height, width = y.shape
    known, symbols = torch.zeros_like(y), torch.zeros_like(y)
    for row in range(height):
        for column in range(width):
            padded = torch.nn.functional.pad(known, (2, 2, 2, 2))[:, :, row: row + 5, column: column + 5]
            predicted = torch.nn.functional.conv2d(padded, context.weight * context.mask, context.bias)
            joined = torch.cat((prior[:, :, row: row + 1, column: column + 1], predicted), dim=1)
            mean = network(joined)[:, :channels, 0, 0]
            symbols[:, :, row, column] = torch.round(y[:, :, row, column] - mean)
            known[:, :, row, column] = symbols[:, :, row, column] + mean
    return known, symbols


@torch.no_grad()
def coded_in_raster_order(model: DCVC, reference, current):
    """Sides multiples of 64 -> x_hat clamped, {"mv_y", "y"} symbols."""
    y_mv = model.mvEncoder(model.opticFlow(current, reference))
    prior = model.mvpriorDecoder(torch.round(model.mvpriorEncoder(y_mv)))
    y_mv_hat, mv_symbols = _raster(y_mv, prior, model.auto_regressive_mv, model.entropy_parameters_mv)
    flow = model.mvDecoder_part1(y_mv_hat)
    flow = flow + model.mvDecoder_part2(torch.cat((flow, reference), dim=1))
    context = model.context_refine(warp(model.feature_extract(reference), flow))
    y = model.contextualEncoder(torch.cat((current, context), dim=1))
    hyper = model.priorDecoder(torch.round(model.priorEncoder(y)))
    prior = torch.cat((model.temporalPriorEncoder(context), hyper), dim=1)
    y_hat, symbols = _raster(y, prior, model.auto_regressive, model.entropy_parameters)
    x_hat = model.contextualDecoder_part2(torch.cat((model.contextualDecoder_part1(y_hat), context), dim=1))
    return x_hat.clamp(0, 1), {"mv_y": mv_symbols, "y": symbols}
