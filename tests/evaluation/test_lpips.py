"""LPIPS on made weights against the formula in numpy, and every layout and fault of its files."""

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from dcvc.cli import main
from dcvc.errors import InputError, MissingError, ReadError
from dcvc.evaluation.lpips import BACKBONES, LPIPS, load_lpips
from dcvc.report.results import read_results

# As torchvision lays out its classifiers: index, stride, padding of each convolution; pooling after which of them.
ALEX = (((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)), (0, 3), 3, (0, 3, 6, 8, 10))
VGG = (tuple((k, 1, 1) for k in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)),
       (2, 7, 14, 21), 2, (2, 7, 14, 21, 28))


def made_weights(net, folder):
    """Random weights in torchvision's and the lpips package's names: paths of the backbone's file and the heads'."""
    torch.manual_seed(3)
    metric = LPIPS(net)
    classifier = {f"features.{index}.{part}": getattr(layer, part).detach().clone() * (3 if part == "weight" else 1)
                  for index, layer in metric.features.items() for part in ("weight", "bias")}
    classifier["classifier.1.weight"] = torch.zeros(4, 4)
    heads = {f"lin{k}.model.1.weight": torch.rand(head.shape) for k, head in enumerate(metric.heads)}
    paths = str(folder / "classifier.pth"), str(folder / "heads.pth")
    torch.save(classifier, paths[0])
    torch.save(heads, paths[1])
    return paths, {key: value.double().numpy() for key, value in {**classifier, **heads}.items()}


def convolved(x, weight, bias, stride, padding):
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    windows = sliding_window_view(padded, weight.shape[-2:], axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("chwij,ocij->ohw", windows, weight, optimize=True) + bias[:, None, None]


def formula(weights, layers, x_hat, x):
    """Zhang et al. (2018), eq. 1, in float64."""
    convolutions, pooled, side, taps = layers
    shift, scale = (np.array(v)[:, None, None] for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))
    maps = []
    for frame in (x_hat, x):
        frame, found = (2 * frame.double().numpy() - 1 - shift) / scale, []
        for index, stride, padding in convolutions:
            weight, bias = (weights[f"features.{index}.{part}"] for part in ("weight", "bias"))
            frame = np.maximum(convolved(frame, weight, bias, stride, padding), 0)
            if index in taps:
                found.append(frame / (np.sqrt((frame**2).sum(0, keepdims=True)) + 1e-10))
            if index in pooled:
                frame = sliding_window_view(frame, (side, side), axis=(1, 2))[:, ::2, ::2].max((-1, -2))
        maps.append(found)
    return sum((weights[f"lin{k}.model.1.weight"][0] * (a - b) ** 2).sum(0).mean()
               for k, (a, b) in enumerate(zip(*maps, strict=True)))


@pytest.mark.parametrize(("net", "layers", "size"), [("alex", ALEX, (67, 75)), ("vgg", VGG, (17, 22))])
def test_the_metric_is_the_published_formula(net, layers, size, tmp_path):
    paths, weights = made_weights(net, tmp_path)
    metric = load_lpips(paths)
    assert metric.net == net
    assert sum(layer[0] >= 0 for layer in BACKBONES[net].convolutions) == len(layers[0])
    x = torch.rand(3, *size)
    for noise in (0.02, 0.3):
        x_hat = (x + noise * torch.randn(x.shape)).clamp(0, 1)
        assert metric(x_hat, x) == pytest.approx(formula(weights, layers, x_hat, x), rel=1e-4)
    assert metric(x, x) == 0
    assert load_lpips(paths[::-1])(x_hat, x) == metric(x_hat, x)             # the files in any order
    # The lpips package's own state dict holds both, under other names.
    slices = {f"net.slice1.{key.removeprefix('features.')}": torch.from_numpy(value).float()
              for key, value in weights.items() if key.startswith("features.")}
    heads = {key: torch.from_numpy(value).float() for key, value in weights.items() if key.startswith("lin")}
    torch.save({**slices, **heads, "scaling_layer.shift": torch.zeros(1)}, tmp_path / "whole.pth")
    assert load_lpips((str(tmp_path / "whole.pth"),))(x_hat, x) == metric(x_hat, x)


def test_files_that_do_not_fit_are_named(tmp_path):
    (classifier, heads), _ = made_weights("alex", tmp_path)
    with pytest.raises(InputError, match=r"classifier\.pth: found no heads"):
        load_lpips((classifier,))
    with pytest.raises(InputError, match=r"heads\.pth: found no convolutions"):
        load_lpips((heads,))
    state = torch.load(classifier, weights_only=True)
    torch.save({**state, "features.3.weight": torch.zeros(2, 2)}, tmp_path / "shape.pth")
    with pytest.raises(InputError, match=r"features\.3\.weight: found \(2, 2\), needed \(192, 64, 5, 5\)"):
        load_lpips((str(tmp_path / "shape.pth"), heads))
    torch.save({**state, "features.3.bias": torch.full((192,), torch.nan)}, tmp_path / "nan.pth")
    with pytest.raises(InputError, match=r"features\.3\.bias: found NaN"):
        load_lpips((str(tmp_path / "nan.pth"), heads))
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ReadError, match=r"text\.pth"):
        load_lpips((str(tmp_path / "text.pth"), heads))
    with pytest.raises(MissingError, match=r"gone\.pth"):
        load_lpips((str(tmp_path / "gone.pth"), heads))
    with pytest.raises(InputError, match="found frames of 40x30, needed at least 31x31"):
        load_lpips((classifier, heads))(torch.rand(3, 30, 40), torch.rand(3, 30, 40))


def test_the_commands_measure_it_where_its_weights_are_given(tmp_path, capsys):
    from dcvc.demo.synthetic import write_synthetic_clips

    paths, _ = made_weights("alex", tmp_path)
    write_synthetic_clips(tmp_path / "clips", 1, 2, (64, 48))
    common = ["compare", str(tmp_path / "clips"), "--anchors", "x264:20,40", "--quiet",
              "--cache", str(tmp_path / "cache")]
    assert main([*common, "-o", str(tmp_path / "with.json"), "--lpips_weights", *paths]) == 0
    assert "LPIPS" in capsys.readouterr().out
    results = read_results(tmp_path / "with.json")
    assert results["settings"]["lpips"] == {"net": "alex", "files": ["classifier.pth", "heads.pth"]}
    fine, coarse = (point["mean"]["lpips"] for point in results["points"])
    assert 0 < fine < coarse
    assert len(results["points"][0]["sequences"][0]["per_frame"]["lpips"]) == 2
    assert main([*common, "-o", str(tmp_path / "without.json")]) == 0            # the kept results are not mixed up
    assert "lpips" not in read_results(tmp_path / "without.json")["points"][0]["mean"]
    assert main([*common, "-o", str(tmp_path / "no.json"), "--lpips_weights", "gone.pth"]) == 1
    assert "gone.pth: no such file" in capsys.readouterr().err
    write_synthetic_clips(tmp_path / "small", 1, 2, (32, 16))
    assert main(["compare", str(tmp_path / "small"), "--anchors", "x264:20", "--no_cache", "--quiet", "-o",
                 str(tmp_path / "no.json"), "--lpips_weights", *paths]) == 1
    assert "LPIPS (alex): found frames of 32x16" in capsys.readouterr().err
