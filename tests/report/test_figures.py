"""`dcvc report --picture`: the curves as a PNG, without a browser."""

import json

import numpy as np
import pytest
from kit.report_page import invented_results
from PIL import Image

from dcvc.cli import main
from dcvc.report.figures import draw_rate_distortion
from dcvc.report.results import write_results


def test_the_command_draws_the_curves_of_all_results(tmp_path, capsys):
    table = invented_results(tmp_path / "frames")
    ours, anchors = ({**table, "points": [p for p in table["points"] if p["kind"] == kind]}
                     for kind in ("neural", "anchor"))
    assert ours["points"]
    assert anchors["points"]
    for name, part in (("ours", ours), ("anchors", anchors)):
        write_results(tmp_path / f"{name}.json", part)
    files = [str(tmp_path / "ours.json"), str(tmp_path / "anchors.json"), "-o", str(tmp_path / "report.html")]
    assert main(["report", *files, "--picture", str(tmp_path / "curves.png")]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [str(tmp_path / "report.html"), str(tmp_path / "curves.png")]
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300
    assert main(["report", *files, "--picture", str(tmp_path / "again.png"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["page"], told["picture"]) == (str(tmp_path / "report.html"), str(tmp_path / "again.png"))
    assert main(["report", *files, "--json"]) == 0
    assert "picture" not in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("kind", ["neural", "anchor"])
def test_every_curve_is_in_the_picture(kind, tmp_path):
    """Taking a curve away changes the picture."""
    points = invented_results(tmp_path / "frames")["points"]
    whole = draw_rate_distortion(points, tmp_path / "whole.png")
    part = draw_rate_distortion([p for p in points if p["kind"] == kind], tmp_path / "part.png")
    assert not np.array_equal(*(np.asarray(Image.open(path).convert("L").resize((600, 300))) for path in (whole, part)))


def test_estimates_say_so_in_the_legend(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    labels, plot = [], Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda self, *a, **k: labels.append(k["label"]) or plot(self, *a, **k))
    points = [{**p, "rates": "estimate" if p["kind"] == "neural" else "written"}
              for p in invented_results(tmp_path / "frames")["points"]]
    draw_rate_distortion(points, str(tmp_path / "curves.png"))
    assert set(labels) == {"dcvc (estimate)", "x264"}
