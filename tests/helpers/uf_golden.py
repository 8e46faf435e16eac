"""Weights of the published UF models made by rule, so that golden numbers need no weights beside them; and what the
tests of both models compare with."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dcvc.entropy.checkerboard import Latents
from dcvc.layers import ycbcr_to_rgb

GAINS = {
    "intra": {"enc.enc_1.adaptor": 4, "enc.enc_2.6": 2, "y_spatial_prior_reduction": 0.4, "y_prior_fusion.conv.3": 0.07,
              "y_spatial_prior.conv.3": 0.2, "dec.dec_2.adaptor": 0.035},
    "ld": {"feature_adaptor_i.conv.0.adaptor": 5, "feature_adaptor_m.conv.0.adaptor": 0.8,
           "decoder.conv1.0.adaptor": 0.7, "y_prior_fusion.conv.3": 0.2, "y_spatial_prior.conv.2": 0.3,
           "recon_head.head": 0.1},
}


def _bias(kind: str, name: str, x: np.ndarray) -> np.ndarray:
    if (kind, name) == ("ld", "y_prior_fusion.conv.3.bias"):
        return np.concatenate((np.exp(0.5 * x[:128]), np.exp(x[128:256] - 0.3), 0.3 * x[256:]))
    if kind == "intra" and name in ("y_prior_fusion.conv.3.bias", "y_spatial_prior.conv.3.bias"):
        return np.concatenate((np.exp(x[:256] - 0.3), 0.3 * x[256:]))
    return 0.05 * x


def _entry(kind: str, name: str, x: np.ndarray) -> np.ndarray:
    if name.startswith("bit_estimator_z"):
        return (0.2 if name.endswith(".b") else 0.3) * x
    if name.startswith("q_"):
        slope = -0.01 if "dec" in name else 0.01
        return np.exp(slope * (np.arange(len(x)) - 32)[:, None] + 0.1 * x)
    if x.ndim == 1:
        return _bias(kind, name, x)
    x = x / np.sqrt(np.prod(x.shape[1:])) * GAINS[kind].get(name.removesuffix(".weight"), 1)
    x *= 0.35 if name.endswith("dc.3.weight") else 0.12 if name.endswith("ffn.2.weight") else 1
    if (kind, name) == ("ld", "encoder.conv1.0.adaptor.weight"):
        x[:, :192] *= 6
    return x


def uf_weights(kind: str, shapes: dict[str, list[int]], salt: str = "public") -> dict[str, Tensor]:
    """kind "intra" or "ld"; name -> shape of each entry."""
    weights = {}
    for name, shape in shapes.items():
        random = np.random.RandomState(zlib.crc32(f"{salt}:{kind}:{name}".encode()))
        weights[name] = torch.from_numpy(_entry(kind, name, random.standard_normal(shape)).astype(np.float32))
    return weights


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
