"""`dcvc plot`: the file opens, its letters are embedded, and every curve lies where its numbers are."""

import re
import zlib

import numpy as np
import pytest
from kit.report_page import invented_results
from PIL import Image

from dcvc.cli import main
from dcvc.errors import InputError
from dcvc.report.paper_figure import PaperFigure, draw_paper_figure, paper_curves
from dcvc.report.results import make_point, write_results
from dcvc.report.runs import joined_runs


def seeds(folder, count=3):
    """Results files of several runs of `dcvc` beside the same anchor."""
    tables = []
    for seed in range(count):
        table = invented_results(folder / "frames")
        for number, point in enumerate(table["points"]):
            if point["codec"] == "dcvc":
                rows = [{**row, "psnr": row["psnr"] + 0.1 * seed} for row in point["sequences"]]
                table["points"][number] = make_point("dcvc", "neural", point["setting"], "written", {}, rows)
        write_results(folder / f"seed{seed}.json", table)
        tables.append(table)
    return tables


def test_several_runs_are_one_curve_with_deviations(tmp_path):
    tables = seeds(tmp_path)
    points = joined_runs(tables)
    ours, anchor = (next(p for p in points if p["codec"] == name) for name in ("dcvc", "x264"))
    own = [table["points"][0]["mean"]["psnr"] for table in tables]
    assert (ours["runs"], anchor["runs"]) == (3, 1)           # the anchor was measured once, and read three times
    assert ours["mean"]["psnr"] == pytest.approx(np.mean(own))
    assert ours["mean"]["deviation"]["psnr"] == pytest.approx(np.std(own, ddof=1)) == pytest.approx(0.1)
    assert anchor["mean"]["deviation"]["psnr"] == 0
    curve = paper_curves(points, "psnr", "clip1")[0]
    assert curve.label == "dcvc (3 runs)"
    assert curve.values[0] == pytest.approx(tables[1]["points"][0]["sequences"][1]["psnr"])
    with pytest.raises(InputError, match="found 'dcvc q0' twice in one results file"):
        joined_runs([{**tables[0], "points": tables[0]["points"][:1] * 2}])


def test_the_pdf_opens_and_holds_its_letters(tmp_path, capsys):
    seeds(tmp_path)
    files, out = [str(tmp_path / f"seed{n}.json") for n in range(3)], tmp_path / "fig.pdf"
    call = ["plot", *files, "--difference", "-o", str(out)]
    assert main(call) == 0
    caption = capsys.readouterr().out.splitlines()[0]
    assert caption == ("Rate and quality, mean of 2 sequences; 8 frames, an I-frame every 4, conditions: none. "
                       "Beneath: quality against x264 at equal rate.")
    data = out.read_bytes()
    assert data.startswith(b"%PDF-")
    assert data.rstrip().endswith(b"%%EOF")
    # The table of objects is where the end of the file says, and every font carries its TrueType file.
    assert data[int(re.search(rb"startxref\s+(\d+)", data)[1]):].startswith(b"xref")
    assert len(re.findall(rb"/FontDescriptor \d", data)) == len(re.findall(rb"/FontFile2 ", data)) >= 1
    assert b"/Type3" not in data
    assert caption[:40].encode() in data
    width, height = (float(side) / 72 for side in re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", data).groups())
    assert (width, height) == pytest.approx((3.5, 3.5))
    streams = re.findall(rb"/Filter /FlateDecode.*?stream\r?\n(.*?)endstream", data, re.S)
    assert any(b" l\n" in zlib.decompress(stream) for stream in streams)         # lines are drawn
    assert main(call) == 0                                                     # its own file is replaced
    assert out.read_bytes() == data                                            # and the same again
    (tmp_path / "letter.pdf").write_bytes(b"%PDF-1.4 somebody else's")
    assert main([*call[:-1], str(tmp_path / "letter.pdf")]) == 1
    assert "is not a picture of curves" in capsys.readouterr().err


@pytest.mark.parametrize(("rate", "ending"), [("log", "svg"), ("linear", "png")])
def test_markers_lie_at_their_numbers(tmp_path, monkeypatch, rate, ending):
    """Read back from the axes that are saved: a logarithmic axis, or one that begins at 0."""
    from matplotlib.figure import Figure

    kept, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: kept.append(self) or save(self, *a, **k))
    tables = seeds(tmp_path)
    strange = {"codec": "_a $x$", "kind": "published", "setting": "1", "rates": "published", "sequences": [],
               "settings": {}, "mean": {"bpp": 0.1, "psnr": 33.0}}
    path = tmp_path / f"fig.{ending}"
    draw_paper_figure(tables, path, PaperFigure(rate=rate, metrics=("psnr",)), [strange])
    axis, = kept[0].axes
    assert axis.get_xscale() == rate
    assert rate == "log" or axis.get_xlim()[0] == 0
    curves = {curve.name: curve for curve in paper_curves(joined_runs([*tables, {"points": [strange]}]), "psnr")}
    drawn = [line for line in axis.lines if line.get_marker() in "os^"]
    assert [list(line.get_ydata()) for line in drawn] == [list(curve.values) for curve in curves.values()]
    assert [list(line.get_xdata()) for line in drawn] == [list(curve.rates) for curve in curves.values()]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["dcvc (3 runs)", "x264", "_a $x$"]
    assert len({line.get_color() for line in drawn}) == len({line.get_marker() for line in drawn}) == 3
    if ending == "png":
        with Image.open(path) as picture:
            assert picture.size == pytest.approx((3.5 * 300, 2.4 * 300), abs=1)


@pytest.mark.parametrize(("words", "found"), [
    (["-o", "fig.jpeg"], "found the ending '.jpeg', needed one of .pdf, .svg, .png"),
    (["--metric", "lpips"], "--metric: found 'lpips', needed one that was measured: psnr"),
    (["--sequence", "clip2"], "--sequence: found 'clip2', needed one of clip0, clip1; did you mean"),
    (["--anchor", "x266"], "--anchor: found 'x266', needed one of dcvc, x264"),
])
def test_what_cannot_be_drawn_is_one_line(tmp_path, monkeypatch, capsys, words, found):
    monkeypatch.chdir(tmp_path)
    seeds(tmp_path, 1)
    assert main(["plot", "seed0.json", *words]) == 1
    error = capsys.readouterr().err
    assert found in error
    assert len(error.splitlines()) == 1
