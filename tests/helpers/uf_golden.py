"""Golden numbers of the published UF models, whose weights are made by rule (benchmarks/kit/uf_weights.py), and what
the tests of both models compare with."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dcvc.entropy.checkerboard import Latents
from dcvc.layers import ycbcr_to_rgb

# salt of the weights -> folder of the golden numbers, below the folder of the golden data
FOLDERS = {"public": "vectors/uf", "heldout": "heldout/uf"}


def uf_shapes(shared: Path, kind: str) -> dict[str, list[int]]:
    return json.loads((shared / "vectors" / "uf" / f"uf_{kind}_shapes.json").read_text())


def uf_numbers(shared: Path, salt: str) -> dict[str, np.ndarray]:
    """The golden numbers of one salt; skips the test where they are not there."""
    file = shared / FOLDERS[salt] / "uf_io.npz"
    if not file.is_file():
        pytest.skip(f"golden numbers not found at {file}")
    return np.load(file)


class RecordedLatents(Latents):
    """The differentiable path, which keeps what the golden numbers are about. With `golden` noise (name -> array)
    its rates are the noisy ones, without it those of rounded values."""

    def __init__(self, golden: dict[str, np.ndarray] | None = None) -> None:
        super().__init__(noise=golden is not None)
        self.golden = golden
        self.seen: dict[str, Tensor] = {}

    def noisy(self, name: str, x: Tensor) -> Tensor:
        return x + torch.from_numpy(self.golden[name])

    def factorized(self, name: str, model: nn.Module, z: Tensor, row: Tensor, shape: tuple[int, ...]) -> Tensor:
        self.seen["z_sym"] = super().factorized(name, model, z, row, shape)
        return self.seen["z_sym"]

    def count(self, name: str, residual: Tensor, symbols: Tensor, scale: Tensor) -> None:
        super().count(name, residual, symbols, scale)
        self.seen |= {"y_sym": symbols, "scales": scale}


def uf_distortion(x_hat: Tensor, x: Tensor) -> Tensor:
    """The published trainer's distortion of YCbCr pictures less 1/2, mean over the batch."""
    planes = (x_hat - x).square().mean((2, 3)).clamp_min(1e-6)
    weights = torch.tensor([10.0, 1.0, 1.0])
    colours = (ycbcr_to_rgb(x_hat) - ycbcr_to_rgb(x)).square().mean((2, 3)).sum(1)
    return (2.4 * torch.exp(0.0833 * (planes.log() * weights).sum(1)) + 0.2 * colours).mean()


def relative(found: Tensor, expected: np.ndarray) -> float:
    """Frobenius norm of the difference over that of what is expected."""
    expected = torch.from_numpy(np.asarray(expected, dtype=np.float32))
    return float((found.detach() - expected).norm() / expected.norm())


def same_share(found: Tensor, expected: np.ndarray) -> float:
    return float((found.detach().numpy() == expected).mean())


def gradient_errors(model: nn.Module, numbers: dict[str, np.ndarray], kind: str) -> dict[str, float]:
    """Relative error of each entry's gradient norm that is beyond the tolerance of 1e-2."""
    names, norms = numbers[f"train/{kind}/grad_names"], numbers[f"train/{kind}/grad_norms"]
    parameters = dict(model.named_parameters())
    assert sorted(names) == sorted(parameters)
    errors = {name: abs(float(parameters[name].grad.norm()) - norm) / max(norm, 1e-12)
              for name, norm in zip(names.tolist(), norms.tolist(), strict=True)}
    return {name: error for name, error in errors.items() if error > 1e-2}
