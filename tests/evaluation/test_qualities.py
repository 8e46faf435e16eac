"""One model with many rates gives the whole curve: `dcvc eval --qualities`, and anchors at the same qualities."""

import json

import pytest
import torch
from kit.eval_memory import write_untrained_model
from kit.light_models import SMALL_LIGHT
from kit.round_trip import make_runs

from dcvc.cli import main
from dcvc.data.eval_sequences import open_sequences
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.report.results import curves, read_results

# Untrained models of so small a width show no more detail beyond.
QUALITIES = (0, 8, 16.25, 24, 30)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with clips/, and light models by their I-frame codec."""
    folder = tmp_path_factory.mktemp("qualities")
    write_synthetic_clips(folder / "clips", 2, 4, (96, 64), seed=4)
    make_runs(folder, SMALL_LIGHT)
    return folder


def evaluated(workplace, *more, runs=("light",), out="results.json"):
    models = [str(workplace / f"{name}_run.pt") for name in runs]
    assert main(["eval", str(workplace / "clips"), "--model", *models, "--qualities", *map(str, QUALITIES),
                 "--intra_period", "3", "--quiet", "--device", "cpu", "-o", str(workplace / out), *more]) == 0
    return read_results(workplace / out)["points"]


def test_every_quality_is_a_point_of_one_curve(workplace):
    points = evaluated(workplace)
    assert [point["setting"] for point in points] == ["q0", "q8", "q16.25", "q24", "q30"]
    assert [point["settings"]["quality"] for point in points] == list(QUALITIES)
    assert {point["codec"] for point in points} == {"dcvc"}
    curve = curves(points, "psnr")["dcvc"]
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in zip(curve, curve[1:], strict=False))
    # Its bits are those of the file that encode writes at this quality.
    sequence, stream = open_sequences(workplace / "clips")[0], workplace / "one.dcvc"
    assert main(["encode", sequence.path, str(stream), "--model", str(workplace / "light_run.pt"), "--quality", "16.25",
                 "--intra_period", "3", "--quiet", "--device", "cpu"]) == 0
    assert points[2]["sequences"][0]["bits"] == 8 * stream.stat().st_size


def test_estimates_show_the_same_pictures_and_nearly_the_same_bits(workplace):
    """|file - estimate| is at most 1 % and the container; what the coder adds to a tiny frame counts as that."""
    written, estimated = evaluated(workplace, "--refresh", "2"), evaluated(workplace, "--refresh", "2", "--estimate")
    for file, estimate in zip(written, estimated, strict=True):
        for a, b in zip(file["sequences"], estimate["sequences"], strict=True):
            container = 8 * (60 + 40 + a["frames"] * (14 + 4))      # 40: end and index
            assert abs(a["bits"] - b["bits"]) <= 0.01 * b["bits"] + container
            assert a["psnr"] == pytest.approx(b["psnr"], abs=1e-4)
        assert file["settings"]["refresh"] == 2


def test_several_models_are_several_curves_and_processes_do_not_matter(workplace):
    runs = ("light", "vqgan")
    one = evaluated(workplace, runs=runs)
    assert {name: len(curve) for name, curve in curves(one, "psnr").items()} == {
        "dcvc light_run": 5, "dcvc vqgan_run": 5}
    two = evaluated(workplace, "--processes", "2", runs=runs, out="two.json")
    assert [[row["bits"] for row in point["sequences"]] for point in one] == [
        [row["bits"] for row in point["sequences"]] for point in two]
    # A VQGAN has one rate: its I-frames are the same at every quality.
    assert len({row["per_frame"]["bits"][0] for point in one[5:] for row in point["sequences"][:1]}) == 1
    assert len({row["per_frame"]["bits"][0] for point in one[:5] for row in point["sequences"][:1]}) == 5


def test_report_and_deltas_work_as_for_one_model_a_rate(workplace, capsys):
    evaluated(workplace)
    words = ["--anchors", "x264", "x265:30", "--qualities", "0", "5", "10", "15", "20", "--intra_period", "3"]
    assert main(["compare", str(workplace / "clips"), *words, "--no_cache", "--quiet",
                 "-o", str(workplace / "anchors.json")]) == 0
    anchors = read_results(workplace / "anchors.json")["points"]
    # The largest CRF is 51; an anchor with a value of its own keeps it.
    assert [(point["codec"], point["setting"]) for point in anchors] == [
        *(("x264", f"crf {crf}") for crf in (51, 47, 43, 39, 35)), ("x265", "crf 30")]
    capsys.readouterr()
    page = workplace / "report.html"
    assert main(["report", str(workplace / "results.json"), str(workplace / "anchors.json"), "-o", str(page),
                 "--json"]) == 0
    deltas = [delta for delta in json.loads(capsys.readouterr().out)["bd"] if delta["sequence"] == "mean curve"]
    (ours,) = [delta for delta in deltas if delta["codec"] == "dcvc" and delta["metric"] == "psnr"]
    assert ours["problem"] == ""
    assert isinstance(ours["bd_rate"], float)
    assert page.stat().st_size > 50_000


@pytest.mark.parametrize(("command", "words", "message"), [
    ("eval", ["--model", "one.pt", "--qualities", "32"], "one.pt: quality: found 32.0, but dcvc2021 has one rate"),
    ("eval", ["--model", "one.pt", "--refresh", "4"], "one.pt: refresh: found 4, but dcvc2021 has none"),
    ("eval", ["--model", "light_run.pt", "--qualities", "1", "64"], "quality: found 64, streams hold 0...63"),
    ("eval", ["--model", "light_run.pt", "--qualities", "32", "32.1"], "'dcvc q32' twice"),
    ("eval", ["--intra_only", "--i_frame", "compressai:bmshj2018-factorized:1", "--qualities", "3"], "of a --model"),
    ("compare", ["--qualities", "nan"], "--qualities: found nan, needed 0...63"),
])
def test_what_a_model_does_not_take_is_one_line(workplace, monkeypatch, capsys, command, words, message):
    monkeypatch.chdir(workplace)
    torch.manual_seed(0)
    write_untrained_model(workplace / "old").rename("one.pt")
    assert main([command, "clips", *words, "--quiet", "-o", "no.json"]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (workplace / "no.json").exists()


def test_what_is_no_number_is_wrong_usage(capsys):
    with pytest.raises(SystemExit):
        main(["eval", "clips", "--model", "light_run.pt", "--qualities", "high"])
    assert "argument --qualities: invalid float value: 'high'" in capsys.readouterr().err
