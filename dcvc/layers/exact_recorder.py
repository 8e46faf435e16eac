"""Watches a network at work and keeps how large its tensors become (dcvc/codec/exact_ranges.py)."""

import torch
from torch import Tensor, nn

from dcvc.layers.blocks import DepthConvBlock

# Layers of a block between which all channels have one limit.
BRANCHES = (".dc.0", ".dc.2", ".ffn.0")


class RangeRecorder:
    """found: the largest magnitudes, by the names of exact_blocks.py: of each channel (C,), or (1,) within a
    branch. "NAME:0" is the first input of block NAME, or of a layer that makes a picture larger."""

    def __init__(self, network: nn.Module) -> None:
        self.found: dict[str, Tensor] = {}
        self._network, self._hooks = network, []

    def __enter__(self) -> "RangeRecorder":
        for name, module in self._network.named_modules():
            if isinstance(module, DepthConvBlock):
                self._hooks.append(module.register_forward_hook(self._block_hook(name)))
            elif isinstance(module, nn.Conv2d):
                self._hooks.append(module.register_forward_hook(self._layer_hook(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _keep(self, name: str, x: Tensor, single: bool = False) -> None:
        largest = x.detach().abs().amax((0, 2, 3)).float().cpu()
        largest = largest.max()[None] if single else largest
        self.found[name] = torch.maximum(self.found.get(name, largest), largest)

    def _block_hook(self, name: str):
        def hook(block: DepthConvBlock, inputs: tuple, output: Tensor) -> None:
            self._keep(name, output)
            for number, part in enumerate(inputs[0] if isinstance(inputs[0], tuple) else inputs):
                if block.adaptor is not None:
                    self._keep(f"{name}:{number}", part)

        return hook

    def _layer_hook(self, name: str):
        block, branch = next(((name.removesuffix(end), end) for end in BRANCHES if name.endswith(end)), (name, ""))

        def hook(layer: nn.Conv2d, inputs: tuple, output: Tensor) -> None:
            if branch:
                self._keep(name, output, single=True)
            # The trunk, where a branch begins.
            if branch in (".dc.0", ".ffn.0"):
                self._keep(block, inputs[0])
            elif not name.endswith((".dc.3", ".ffn.2", ".adaptor")) and not branch:
                self._keep(name, output)
            # y_hat in units of pixels, which no layer makes.
            if name.endswith(".up.conv.0"):
                self._keep(f"{name}:0", inputs[0])

        return hook
