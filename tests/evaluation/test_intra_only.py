"""`dcvc eval --intra_only`: CompressAI models and qualities and a VQGAN with each rate model, side by side."""

import json

import numpy as np
import pytest
import torch
from kit.vqgan import make_rated_vqgan
from PIL import Image

from dcvc.cli import main
from dcvc.data.eval_sequences import open_sequences
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.evaluation.code_count import CodeCount
from dcvc.intra import VQGANIFrameModel
from dcvc.intra.vqgan.model import VQGAN
from dcvc.report.crops import busiest_square
from dcvc.report.page import shown_metrics
from dcvc.report.results import read_results

SIZE = (80, 48)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with clips/, vqgan.json, bare.pt (uniform only) and rated.pt (a histogram and a prior that fit)."""
    folder = tmp_path_factory.mktemp("intra")
    write_synthetic_clips(folder / "clips", 2, 3, SIZE, seed=8)
    config, rated = make_rated_vqgan(folder)
    config.rename(folder / "vqgan.json")
    content = torch.load(rated, weights_only=True)
    torch.save({"model": content["model"]}, folder / "bare.pt")
    rated.rename(folder / "rated.pt")
    return folder


def run(place, *arguments, name="intra.json"):
    out = place / name
    assert main(["eval", str(place / "clips"), "--intra_only", "--quiet", "--device", "cpu", "-o", str(out),
                 "--no-i_frame_pretrained", *arguments]) == 0
    return read_results(out)["points"]


def test_every_codec_in_one_table_and_one_plot(place, capsys):
    points = run(place, "--i_frame", "compressai:bmshj2018-factorized:1,3",
                 f"vqgan:{place / 'vqgan.json'}:{place / 'rated.pt'}")
    table = capsys.readouterr().out
    names = [(p["codec"], p["setting"]) for p in points]
    assert names == [("bmshj2018-factorized", "q1"), ("bmshj2018-factorized", "q3"),
                     *((f"VQGAN {rate}", "rated") for rate in ("uniform", "static", "prior"))]
    assert all(codec in table for codec, _ in names)
    assert "enc fps" in table
    with Image.open(place / "intra.png") as plot:
        assert min(plot.size) > 300
    # What the codec writes for each frame, model by model, with the file's own codec.
    vqgan = points[2:]
    for point, rate in zip(vqgan, ("uniform", "static", "prior"), strict=True):
        codec = VQGANIFrameModel(place / "vqgan.json", place / "rated.pt", rate_model=rate)
        for sequence, row in zip(open_sequences(place / "clips"), point["sequences"], strict=True):
            payloads = [codec.compress(frame[None].float() / 255)[0] for frame in sequence.stream()]
            assert row["per_frame"]["bits"] == [8 * len(payload) for payload in payloads]
            assert row["bits"] == 8 * row["file_bytes"] == sum(row["per_frame"]["bits"])
            assert row["bpp"] == row["bits"] / (SIZE[0] * SIZE[1] * 3)
            assert row["decode_seconds"] > 0
            codes = torch.stack([codec.codes_of(frame[None].float() / 255)[0] for frame in sequence.stream()])
            _, counts = codes.unique(return_counts=True)
            share = counts / counts.sum()
            assert row["codes_used"] == len(counts)
            assert row["perplexity"] == pytest.approx(float(torch.exp(-(share * share.log()).sum())), rel=1e-5)
            assert row["bits_per_frame"] == row["bits"] / 3
    assert all("perplexity" not in point["mean"] for point in points[:2])
    # A square of the original and one of each codec, for both sequences; the rate models share one.
    with Image.open(place / "intra_frames" / "crops.png") as crops:
        assert crops.width > 1.2 * crops.height
    assert "perplexity" in table
    # The pictures are the same, the learned models are smaller.
    assert len({json.dumps(p["mean"]["psnr"]) for p in vqgan}) == 1
    uniform, static, prior = (p["mean"]["bpp"] for p in vqgan)
    assert max(static, prior) < uniform


def test_the_networks_run_once_for_all_rate_models(place, monkeypatch):
    calls = {"encode": 0, "decode": 0}
    for way in calls:
        original = getattr(VQGAN, way)
        monkeypatch.setattr(VQGAN, way, lambda self, *rest, way=way, original=original: (
            calls.update({way: calls[way] + 1}), original(self, *rest))[1])
    run(place, "--max_frames", "1", "--i_frame", f"vqgan:{place / 'vqgan.json'}:{place / 'rated.pt'}")
    assert calls == {"encode": 2, "decode": 4}      # two sequences of a frame; shown by the encoder and by the decoder


def test_estimates_and_a_choice_of_rate_models(place):
    chosen = f"vqgan:{place / 'vqgan.json'}:{place / 'rated.pt'}:prior,uniform"
    written = run(place, "--i_frame", chosen)
    estimates = run(place, "--i_frame", chosen, "--estimate", name="estimate.json")
    assert [p["codec"] for p in written] == [p["codec"] for p in estimates] == ["VQGAN prior", "VQGAN uniform"]
    for file, estimate in zip(written, estimates, strict=True):
        assert estimate["rates"] == "estimate"
        assert estimate["mean"]["psnr"] == pytest.approx(file["mean"]["psnr"], abs=1e-6)
        for a, b in zip(file["sequences"], estimate["sequences"], strict=True):
            assert abs(a["bits"] - b["bits"]) <= 3 * (0.005 * b["bits"] / 3 + 8 * 16)      # 0.5 % + 16 bytes a frame


@pytest.mark.parametrize(("codec", "words"), [
    ("vqgan:{0}/vqgan.json:{0}/bare.pt:prior", "holds no rate model 'prior', found uniform"),
    ("vqgan:{0}/vqgan.json:{0}/bare.pt:huffman", "found rate models 'huffman', needed some of uniform, static, prior"),
    ("compressai:bmshj2018-factorized:1,2:weights.pt", "found 2 qualities with one checkpoint"),
    ("compressai:bmshj2018-factorized:best", "needed compressai:NAME:QUALITY"),
    ("vqgan:{0}/vqgan.json:{0}/bare.pt vqgan:{0}/vqgan.json:{0}/bare.pt", "twice, needed every codec once"),
])
def test_bad_codecs_are_named(place, capsys, codec, words):
    assert main(["eval", str(place / "clips"), "--intra_only", "--quiet", "--device", "cpu",
                 "-o", str(place / "no.json"), "--no-i_frame_pretrained", "--i_frame",
                 *codec.format(place).split()]) == 1
    assert words in capsys.readouterr().err
    assert not (place / "no.json").exists()


def test_codes_are_counted_level_by_level():
    count = CodeCount()
    count.add(np.array([[[[3, 3]], [[0, 1]]]]))
    count.add(np.array([[[[3, 5]], [[7, 1 << 40]]]]))
    # Level 0: 3 3 3 5, of which 2 are used, 2^0.811; level 1: four codes once each.
    assert count.result() == {"codes_used": 3.0, "perplexity": pytest.approx((1.7548 + 4) / 2, abs=1e-4)}
    assert CodeCount().result() == {}


def test_the_crop_is_where_the_detail_is(tmp_path):
    frame = np.full((96, 160, 3), 90, np.uint8)
    frame[48:80, 96:128] = np.random.default_rng(0).integers(0, 256, (32, 32, 3))
    assert busiest_square(frame, 32) == (48, 96, 32)
    assert busiest_square(frame[:20, :16], 32) == (0, 0, 16)


def test_a_perceptual_metric_comes_first_for_codecs_with_codes():
    vqgan = {"mean": {"psnr": 20.0, "lpips": 0.1, "perplexity": 9.0}}
    other = {"mean": {"psnr": 30.0}}
    assert next(iter(shown_metrics([vqgan, other]))) == "lpips"
    assert next(iter(shown_metrics([other]))) == "psnr"
    assert next(iter(shown_metrics([{"mean": {"psnr": 20.0, "perplexity": 9.0}}, vqgan]))) == "psnr"
