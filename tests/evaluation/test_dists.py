"""DISTS on made weights against the formula in NumPy, and faults of its files."""

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from dcvc.cli import main
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.errors import InputError
from dcvc.evaluation.dists import DISTS, load_dists
from dcvc.report.results import read_results

# As torchvision lays out VGG16: indices of its convolutions; before which of them it pools; what is compared.
CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
POOLED, COMPARED = (5, 10, 17, 24), (2, 7, 14, 21, 28)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dists")
    torch.manual_seed(5)
    classifier = {f"features.{index}.{part}": getattr(layer, part).detach().clone() * (3 if part == "weight" else 1)
                  for index, layer in DISTS().features.items() for part in ("weight", "bias")}
    own = {name: torch.rand(1, 1475, 1, 1) for name in ("alpha", "beta")}
    torch.save(classifier, folder / "vgg16.pth")
    torch.save(own, folder / "weights.pt")
    return (str(folder / "vgg16.pth"), str(folder / "weights.pt")), {
        key: value.double().numpy() for key, value in {**classifier, **own}.items()}


def slide(x, side, stride):
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    return sliding_window_view(padded, (side, side), axis=(1, 2))[:, ::stride, ::stride]


def maps_of(weights, frame):
    found = [frame]
    frame = (frame - np.array([0.485, 0.456, 0.406])[:, None, None]) / np.array([0.229, 0.224, 0.225])[:, None, None]
    window = np.outer((1, 2, 1), (1, 2, 1)) / 16
    for index in CONVOLUTIONS:
        if index in POOLED:
            frame = np.sqrt(np.einsum("chwij,ij->chw", slide(frame**2, 3, 2), window) + 1e-12)
        weight, bias = (weights[f"features.{index}.{part}"] for part in ("weight", "bias"))
        frame = np.einsum("chwij,ocij->ohw", slide(frame, 3, 1), weight, optimize=True) + bias[:, None, None]
        frame = np.maximum(frame, 0)
        if index in COMPARED:
            found.append(frame)
    return found


def formula(weights, x_hat, x):
    """Ding et al. (2022), eq. 6, in float64."""
    terms = []
    for a, b in zip(*(maps_of(weights, frame.double().numpy()) for frame in (x_hat, x)), strict=True):
        for one, other in zip(a.reshape(len(a), -1), b.reshape(len(b), -1), strict=True):
            covariance = ((one - one.mean()) * (other - other.mean())).mean()
            terms.append(((2 * one.mean() * other.mean() + 1e-6) / (one.mean() ** 2 + other.mean() ** 2 + 1e-6),
                          (2 * covariance + 1e-6) / (one.var() + other.var() + 1e-6)))
    textures, structures = np.array(terms).T
    alpha, beta = weights["alpha"].ravel(), weights["beta"].ravel()
    return 1 - (alpha @ textures + beta @ structures) / (alpha.sum() + beta.sum())


def test_the_metric_is_the_published_formula(files):
    paths, weights = files
    metric = load_dists(paths[::-1])
    torch.manual_seed(6)
    x = torch.rand(2, 3, 21, 18)
    x_hat = (x + 0.1 * torch.randn_like(x)).clamp(0, 1).requires_grad_()
    distances = metric.distances(x_hat, x)
    assert distances.tolist() == pytest.approx([formula(weights, a, b) for a, b in zip(x_hat.detach(), x, strict=True)],
                                               abs=1e-4)
    distances.sum().backward()
    assert x_hat.grad.isfinite().all()
    assert x_hat.grad.abs().sum() > 0
    assert metric.distances(x, x).abs().max() < 1e-5


def test_files_and_frames_that_do_not_serve(files):
    with pytest.raises(InputError, match=r"--dists_weights vgg16.pth.*alpha"):
        load_dists(files[0][:1])
    with pytest.raises(InputError, match="DISTS: found frames of 8x20, needed at least 16x16"):
        DISTS().distances(torch.rand(1, 3, 20, 8), torch.rand(1, 3, 20, 8))


def test_eval_measures_it_with_stsim_and_flicker(files, tmp_path, capsys):
    write_synthetic_clips(tmp_path / "clips", 1, 2, (80, 64))
    common = ["eval", str(tmp_path / "clips"), "--model", "light-s", "--qualities", "8", "56", "--estimate", "--quiet",
              "--dists_weights", *files[0], "-o"]
    assert main([*common, str(tmp_path / "out.json"), "--metrics", "psnr", "stsim", "--flicker"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("DISTS", "STSIM", "flicker"))
    results = read_results(tmp_path / "out.json")
    assert results["settings"]["dists"] == {"net": "vgg", "files": ["vgg16.pth", "weights.pt"]}
    coarse, fine = (point["mean"] for point in results["points"])
    assert 0 < fine["dists"] < coarse["dists"]
    assert 1 > fine["stsim"] > coarse["stsim"]
    assert len(results["points"][0]["sequences"][0]["per_frame"]["dists"]) == 2
    assert main([*common, str(tmp_path / "no.json"), "--dists_weights", "gone.pth"]) == 1
    assert "--dists_weights gone.pth: no such file" in capsys.readouterr().err
