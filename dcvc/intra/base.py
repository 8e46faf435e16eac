"""What every I-frame codec shares: a frozen module, checked frames, an output that is also a dictionary."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dcvc.errors import InputError
from dcvc.interfaces import FrameOutput


@dataclass(frozen=True)
class IntraOutput(FrameOutput):
    """FrameOutput that also reads like CompressAI's dictionary: `out["x_hat"]`, `out["likelihoods"]["y"]`.

    likelihoods: named tensors; -log2 summed over all of them is `total_bits`.
    indices: codes of a VQGAN, int64 `(B, h, w)`, or `(B, D, h, w)` with D levels; None for other codecs.
    """

    likelihoods: dict[str, Tensor] | None = None
    indices: Tensor | None = None

    def keys(self) -> tuple[str, ...]:
        return tuple(name for name in ("x_hat", "likelihoods", "indices") if getattr(self, name) is not None)

    def __getitem__(self, key: str) -> Any:
        if key not in self.keys():
            raise KeyError(key)
        return getattr(self, key)

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self.keys() else default

    def items(self) -> list[tuple[str, Any]]:
        return [(key, self[key]) for key in self.keys()]


class FrozenCodec(nn.Module):
    """An I-frame codec: always in eval mode, without gradients, whatever the trainer does to its parents."""

    multiple: int

    def freeze(self) -> None:
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> "FrozenCodec":
        """Stays in eval mode: a codebook with running averages would change in training mode."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


def weights_checksum(module: nn.Module, start: int = 0) -> int:
    """CRC-32 over the names and values of every entry: what a payload must be decoded with."""
    checksum = start
    for name, value in module.state_dict().items():
        checksum = zlib.crc32(name.encode(), checksum)
        checksum = zlib.crc32(value.detach().cpu().contiguous().numpy().tobytes(), checksum)
    return checksum


def check_frames(x: Tensor, smallest: int = 1, single: bool = False) -> None:
    """Refuse what no codec takes: anything but float RGB `(B, 3, H, W)`, NaN or infinite values, sides < smallest."""
    if not isinstance(x, Tensor) or x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point():
        found = f"{tuple(x.shape)} {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"frame: found {found}, needed float RGB of shape (B, 3, H, W) in [0, 1]")
    if x.shape[0] < 1 or (single and x.shape[0] != 1):
        raise InputError(f"frame: found a batch of {x.shape[0]}, needed {'1' if single else 'at least 1'}")
    if min(x.shape[-2:]) < smallest:
        raise InputError(f"frame: found {x.shape[-1]}x{x.shape[-2]}, needed at least {smallest}x{smallest} "
                         "for this I-frame codec")
    if not bool(torch.isfinite(x).all()):
        raise InputError("frame: found NaN or infinite values, needed finite values in [0, 1]")
