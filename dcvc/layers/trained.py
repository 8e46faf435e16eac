"""Blocks and 1x1 convolutions with gradients on a CPU, as one function of autograd each, by the compiled
loops of training_loops.py. A training step of light-m on two cores takes so much less time
(benchmarks/light_training_speed.json).

    if trains_in_loops(x, weight):
        return trained_pointwise(x, weight, bias)

Pictures lie channels last. Where torch computes with several threads and there are several pictures,
each thread takes its own pictures and its own sums of the weights' gradients; they are added at the end.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dcvc.device.workers import share
from dcvc.layers.packed import FULL


def in_float32_on_cpu(*tensors: Tensor) -> bool:
    """Whether gradients may be wanted, and the loops have this kind of numbers."""
    return (torch.is_grad_enabled() and not torch.compiler.is_compiling()
            and all(x.device.type == "cpu" and x.dtype == torch.float32 for x in tensors)
            and (not torch.is_autocast_enabled("cpu") or rounds_to_pairs()))


def rounds_to_pairs() -> bool:
    """Inside autocast to bfloat16: whether the loops have products of such numbers on this processor. What
    goes from layer to layer stays float32, and so do all sums; torch's own layers round these as well."""
    if not torch.is_autocast_enabled("cpu") or torch.get_autocast_dtype("cpu") != torch.bfloat16:
        return False
    return processor_has_pairs()


def processor_has_pairs() -> bool:
    # Here, since Numba takes long to import.
    from dcvc.layers import half_loops

    return half_loops.processor_has_pairs()


def trains_in_loops(x: Tensor, *weights: Tensor) -> bool:
    """Whether gradients of these are wanted, and the loops have this kind: float32 on a CPU, channels in
    multiples of 16. Inside autocast x may be what another layer has rounded."""
    return (in_float32_on_cpu(*weights) and x.dtype in (torch.float32, torch.bfloat16)
            and (x.dtype == torch.float32 or rounds_to_pairs())
            and (x.requires_grad or any(weight.requires_grad for weight in weights))
            and all(size % FULL == 0 for weight in weights for size in weight.shape[:2])
            and all(weight.is_contiguous() for weight in weights))


def trained_pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The 1x1 convolution (B, inputs, H, W) -> (B, outputs, H, W) with weight (outputs, inputs, 1, 1)."""
    return _Pointwise.apply(x.float(), weight, bias)


def trained_block(x: Tensor, dc: nn.Sequential, ffn: nn.Sequential, shortcut: bool) -> Tensor:
    """What a DepthConvBlock makes of x (B, C, H, W) behind its adaptor; its activation must be "clip"."""
    (into, _, taps, back), (wide, _, narrow) = dc, ffn
    layers = (into, taps, back, wide, narrow)
    return _Block.apply(x.float(), shortcut, *(value for layer in layers for value in (layer.weight, layer.bias)))


def trained_patches(x: Tensor, side: int) -> Tensor:
    """pixel_unshuffle of a picture plane by plane; the result lies channels last."""
    return _Moved.apply(x, side, "planes_to_patches")


def trained_planes(x: Tensor, side: int) -> Tensor:
    """The inverse of `trained_patches`."""
    return _Moved.apply(x, side, "patches_to_planes")


def trained_squares(x: Tensor, side: int) -> Tensor:
    """pixel_shuffle, channels last before and behind."""
    return _Moved.apply(x, side, "rows_to_squares")


def trained_rows(x: Tensor, side: int) -> Tensor:
    """The inverse of `trained_squares`: pixel_unshuffle."""
    return _Moved.apply(x, side, "squares_to_rows")


def _in_memory(x: Tensor) -> Tensor:
    """The same picture, channels last. Python's share of a small block is as large as its sums, so all
    that follows takes as few calls as can be."""
    return x.contiguous(memory_format=torch.channels_last)


def _parts(batch: int) -> int:
    return min(batch, torch.get_num_threads())


def _in_parts(work: Callable[[int, int, int], None], batch: int) -> None:
    """work(first, last, number of the part) on each thread for pictures of its own."""
    count = _parts(batch)
    if count == 1:
        work(0, batch, 0)
    else:
        share(lambda number: work(batch * number // count, batch * (number + 1) // count, number),
              range(count))


def _zeros(parts: int, weights: Sequence[Tensor]) -> Tensor:
    """For the weights' gradients, one behind the other: a row for each part."""
    return torch.zeros(parts, sum(weight.numel() for weight in weights))


def _summed(sums: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    total = sums[0] if len(sums) == 1 else sums.sum(0)
    return torch._C._nn.unflatten_dense_tensors(total, weights)


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # Here, since Numba takes long to import.
        from dcvc.layers.training_loops import pointwise

        x = _in_memory(x)
        (batch, inputs, height, width), outputs = x.shape, len(weight)
        out = torch.empty((batch, outputs, height, width), memory_format=torch.channels_last)
        added = weight.new_zeros(outputs) if bias is None else bias
        pointers = [tensor.data_ptr() for tensor in (x, weight, added, out)]

        half = ctx.half = rounds_to_pairs() or None

        def work(first: int, last: int, _: int) -> None:
            pointwise(*pointers, first * height * width, last * height * width, inputs, outputs, half)

        _in_parts(work, batch)
        ctx.save_for_backward(x, weight, bias)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        from dcvc.layers.training_loops import pointwise_back

        x, weight, bias = ctx.saved_tensors
        (batch, inputs, height, width), outputs = x.shape, len(weight)
        g, g_x = _in_memory(g), torch.empty_like(x)
        weights = (weight, weight.new_empty(outputs) if bias is None else bias)
        sums = _zeros(_parts(batch), weights)
        pointers = [tensor.data_ptr() for tensor in (g, x, weight, g_x)]

        def work(first: int, last: int, number: int) -> None:
            pointwise_back(*pointers, sums[number].data_ptr(), first * height * width,
                           last * height * width, inputs, outputs, ctx.half)

        _in_parts(work, batch)
        g_weight, g_bias = _summed(sums, weights)
        return g_x, g_weight, None if bias is None else g_bias


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shortcut: bool, *weights: Tensor) -> Tensor:
        from dcvc.layers.training_loops import block

        x = _in_memory(x)
        (batch, channels, height, width), (inner, _, size, _) = x.shape, weights[2].shape
        out, kept = torch.empty_like(x), x.new_empty(batch * height * width * (6 * inner + channels))
        addresses = np.array([weight.data_ptr() for weight in weights])
        pointers = x.data_ptr(), addresses, kept.data_ptr(), out.data_ptr()
        ctx.dimensions = (batch, height, width, channels), inner, size, shortcut, rounds_to_pairs() or None

        def work(first: int, last: int, _: int) -> None:
            block(*pointers, first, last, *ctx.dimensions)

        _in_parts(work, batch)
        ctx.save_for_backward(x, kept, *weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        from dcvc.layers.training_loops import block_back

        x, kept, *weights = ctx.saved_tensors
        g, g_x, sums = _in_memory(g), torch.empty_like(x), _zeros(_parts(len(x)), weights)
        addresses = np.array([weight.data_ptr() for weight in weights])
        pointers = g.data_ptr(), x.data_ptr(), addresses, kept.data_ptr(), g_x.data_ptr()

        def work(first: int, last: int, number: int) -> None:
            block_back(*pointers, sums[number].data_ptr(), first, last, *ctx.dimensions)

        _in_parts(work, len(x))
        return g_x, None, *_summed(sums, weights)


# What moves numbers, and what moves their gradients back.
_BACK = {"planes_to_patches": "patches_to_planes", "rows_to_squares": "squares_to_rows"}
_BACK |= {back: there for there, back in _BACK.items()}


class _Moved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, side: int, move: str) -> Tensor:
        ctx.side, ctx.move = side, move
        return _moved(x.detach(), side, move)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return _moved(g, ctx.side, _BACK[ctx.move]), None, None


def _moved(x: Tensor, side: int, move: str) -> Tensor:
    from dcvc.layers import shuffle_loops

    batch, channels, height, width = x.shape
    if move in ("planes_to_patches", "squares_to_rows"):
        shape = batch, channels * side**2, height // side, width // side
    else:
        shape = batch, channels // side**2, height * side, width * side
    before, behind = move.split("_to_")
    x = x.contiguous() if before == "planes" else _in_memory(x)
    layout = torch.contiguous_format if behind == "planes" else torch.channels_last
    out = torch.empty(shape, memory_format=layout)
    arrays = [(tensor if name == "planes" else tensor.permute(0, 2, 3, 1)).numpy()
              for tensor, name in ((x, before), (out, behind))]
    getattr(shuffle_loops, move)(arrays[0], side, arrays[1])
    return out
