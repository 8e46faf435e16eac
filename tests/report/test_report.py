"""The page: self-contained, refuses what does not belong together. In a browser: test_browser.py."""

import copy
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from kit.report_page import invented_picture, invented_results
from PIL import Image

from dcvc.cli import main
from dcvc.errors import InputError, ReadError
from dcvc.report import write_report
from dcvc.report.page import page_data
from dcvc.report.pictures import embed, heat_map
from dcvc.report.results import write_results


def test_the_page_refers_to_nothing_outside_and_escapes_names(tmp_path):
    table = invented_results(tmp_path / "frames")
    table["sequences"][0]["colour"] = "</script><script>alert(1)</script>"
    write_results(tmp_path / "results.json", table)
    page = write_report([tmp_path / "results.json"], tmp_path / "report.html", title="<b>Ours</b>").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["']?(?!data:)[a-z]+:|url\(|@import|fetch\(""", page)
    assert set(re.findall(r"https?://[^\s\"'`<)]+", page)) == {"http://www.w3.org/2000/svg"}
    assert "<script>alert" not in page
    assert "&lt;b&gt;Ours" in page
    # Frames and error maps; then squares of two originals, each beside one of each codec.
    assert page.count("data:image/webp") == 2 + 2 * 16 + 2 * (1 + len({p["codec"] for p in table["points"]}))


def test_importing_the_report_brings_no_torch():
    code = "import dcvc.report, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_bd_rows_of_the_page(tmp_path):
    table = invented_results(tmp_path)
    rows = page_data([table], [tmp_path], None)["bd"]["psnr"]
    assert {(r["sequence"], r["codec"]) for r in rows} == {(s, "dcvc") for s in ("mean curve", "clip0", "clip1")}
    assert rows[0]["bd_rate"] == pytest.approx(-100 / 11, abs=0.01)     # dcvc has 1/1.1 of the rate
    swapped = page_data([table], [tmp_path], "dcvc")["bd"]["psnr"][0]
    assert (swapped["codec"], swapped["bd_rate"]) == ("x264", pytest.approx(10, abs=0.01))
    table["points"] = table["points"][:3] + table["points"][4:]
    short = page_data([table], [tmp_path], None)["bd"]["psnr"][0]
    assert short["bd_rate"] is None
    assert "3 points, needed 4" in short["problem"]


def test_results_that_do_not_belong_together_are_refused(tmp_path):
    table = invented_results(tmp_path)
    other = copy.deepcopy(table)
    other["sequences"][0]["digest"] = "changed"
    with pytest.raises(InputError, match="'clip0' has other frames"):
        write_report([table, other], tmp_path / "no.html")
    del other["sequences"][0]
    with pytest.raises(InputError, match="'clip0' is in one results file only"):
        write_report([table, other], tmp_path / "no.html")
    with pytest.raises(InputError, match="needed dcvc-results version 1"):
        write_report([{**table, "version": 2}], tmp_path / "no.html")
    with pytest.raises(InputError, match="one of dcvc, x264"):
        write_report([table], tmp_path / "no.html", anchor="x265")
    with pytest.raises(InputError, match="no measured point"):
        write_report([{**table, "points": []}], tmp_path / "no.html")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ReadError, match=r"broken\.json"):
        write_report([tmp_path / "broken.json"], tmp_path / "no.html")
    assert not (tmp_path / "no.html").exists()


def test_pictures_stay_within_the_budget_and_lost_ones_are_told(tmp_path):
    original = tmp_path / "o.png"
    invented_picture(original, 1, (960, 540), noise=30)
    decoded = {f"x|{n}|s": ("s", tmp_path / f"{n}.png") for n in range(3)}
    for n, (_, path) in enumerate(decoded.values()):
        invented_picture(path, 1, (960, 540), noise=40 + n)
    full, _ = embed({"s": original}, decoded, 10**8)
    size = sum(len(text) for entry in full.values() for text in entry.values())
    small, lost = embed({"s": original}, {**decoded, "gone": ("s", tmp_path / "gone.png")}, size // 2)
    assert 0 < sum(len(text) for entry in small.values() for text in entry.values()) <= size // 2
    assert set(small) == set(full)
    assert lost == [str(tmp_path / "gone.png")]


def test_the_heat_map_is_dark_where_equal():
    first = np.zeros((32, 64, 3), np.uint8)
    second = first.copy()
    second[:, 32:] = 24
    heat = np.asarray(heat_map(Image.fromarray(second), Image.fromarray(first)))
    assert (heat[:, :30] == [0, 0, 4]).all()
    assert (heat[:, 34:] == [252, 255, 190]).all()


def test_points_given_twice_are_refused(tmp_path):
    table = invented_results(tmp_path)
    with pytest.raises(InputError, match="'dcvc q0' twice"):
        write_report([table, table], tmp_path / "no.html")


def test_a_codec_with_too_few_points_gets_one_row_that_says_so(tmp_path):
    table = invented_results(tmp_path)
    table["points"] = table["points"][:1] + table["points"][4:]
    row, = page_data([table], [tmp_path], None)["bd"]["psnr"]
    assert (row["sequence"], row["codec"], row["bd_rate"]) == ("all", "dcvc", None)
    assert row["problem"] == "the test curve has 1 point, needed 4"


def test_the_command_tells_the_deltas_with_interpolation_and_overlap(tmp_path, capsys):
    write_results(tmp_path / "results.json", invented_results(tmp_path / "frames"))
    out = str(tmp_path / "report.html")
    assert main(["report", str(tmp_path / "results.json"), "-o", out]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"dcvc against x264 by psnr: -9\.09 % rate, \+0\.\d{3} dB, akima interpolation, 100% overlap",
                        lines[0])
    assert lines[-1] == out
    assert main(["report", str(tmp_path / "results.json"), "-o", out, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["interpolation"] for row in found["bd"]} == {"akima"}
    assert {row["metric"] for row in found["bd"]} == {"psnr", "psnr_yuv", "ms_ssim"}


def test_squares_of_one_place_stand_side_by_side_at_about_one_rate(tmp_path):
    table = invented_results(tmp_path / "frames")
    rows = page_data([table], [tmp_path], None)["crops"]
    codecs = {point["codec"] for point in table["points"]}
    assert [row[0]["title"] for row in rows] == [sequence["name"] for sequence in table["sequences"]]
    assert all(len(row) == 1 + len(codecs) for row in rows)
    middle = sorted(point["mean"]["bpp"] for point in table["points"])[len(table["points"]) // 2]
    for tile in rows[0][1:]:
        codec = next(codec for codec in codecs if tile["title"].startswith(codec))
        own = [point for point in table["points"] if point["codec"] == codec]
        nearest = min(own, key=lambda point: abs(np.log(point["mean"]["bpp"] / middle)))
        assert tile["title"].startswith(f"{codec} {nearest['setting']}\n")
    for point in table["points"]:
        for row in point["sequences"]:
            row["snapshot"] = None
    assert page_data([table], [tmp_path], None)["crops"] == []
