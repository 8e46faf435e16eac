"""`dcvc table` and published points: the numbers of the page, in words that LaTeX and spreadsheets take."""

import csv
import io
import json
import re

import pytest
from kit.report_page import invented_results

from dcvc.cli import main
from dcvc.report.page import page_data, report_data
from dcvc.report.published import differences, read_published
from dcvc.report.results import write_results
from dcvc.report.tables import as_csv, as_latex, as_markdown, bd_table, cost_table, points_table

PAPER = "codec,setting,bpp,psnr,source,frames,intra_period,conditions\n" + "".join(
    f'Theirs & co_{{1}},q{r},{0.04 * 2**r},{30.15 + 2.2 * r - 0.05 * r * r},"Paper, table 3",96,32,microsoft\n'
    for r in range(4))


@pytest.fixture
def paper(tmp_path):
    (tmp_path / "paper.csv").write_text(PAPER)
    return tmp_path / "paper.csv"


def test_csv_holds_every_number_as_it_is(tmp_path):
    results = invented_results(tmp_path)
    rows = list(csv.DictReader(io.StringIO(as_csv(points_table([results])))))
    assert len(rows) == len(results["points"]) * 3                        # two clips and the mean
    point, row = results["points"][2], rows[8]
    assert (row["codec"], row["setting"], row["sequence"]) == ("dcvc", "q2", "mean")
    assert [float(row[name]) for name in ("bpp", "psnr", "ms_ssim")] == [
        point["mean"][name] for name in ("bpp", "psnr", "ms_ssim")]
    assert (row["frames"], row["intra_period"], row["conditions"], row["rates"]) == ("8", "4", "none", "written")


def test_bd_rates_are_those_of_the_page(tmp_path):
    results = invented_results(tmp_path)
    table = bd_table([results], "psnr")
    page = {row["sequence"]: row["bd_rate"] for row in page_data([results], [tmp_path], None)["bd"]["psnr"]}
    assert table.heads == ("codec", "clip0", "clip1", "mean curve")
    assert table.rows == (("dcvc", page["clip0"], page["clip1"], page["mean curve"]),)
    assert "8 frames, an I-frame every 4, conditions: none" in table.caption
    assert f"| dcvc | {page['clip0']:.2f} |" in as_markdown(table)


def test_latex_is_whole_and_names_are_no_commands(tmp_path, paper):
    text = as_latex(bd_table([invented_results(tmp_path)], "psnr", published=read_published(paper)))
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1]
    body = text[text.index(r"\hline"):text.index(r"\end{tabular}")]
    for line in body.splitlines():
        assert line == r"\hline" or len(re.findall(r"(?<!\\)&", line)) == len(columns) - 1
        assert line == r"\hline" or line.endswith(r" \\")
    assert r"Theirs \& co\_\{1\} & -- & -- &" in text                     # published as a mean alone
    for opened in ("table", "tabular"):
        assert text.count(f"\\begin{{{opened}}}") == text.count(f"\\end{{{opened}}}") == 1
    assert len(re.findall(r"(?<!\\)\{", text)) == len(re.findall(r"(?<!\\)\}", text))
    assert not re.search(r"(?<!\\)[%#_$~^]", text)


def test_published_points_stand_beside_ours_and_other_conditions_are_told(tmp_path, paper):
    write_results(tmp_path / "results.json", invented_results(tmp_path))
    data = report_data([tmp_path / "results.json"], None, read_published(paper))
    theirs = [point for point in data["points"] if point["kind"] == "published"]
    assert theirs[0]["settings"]["source"] == "Paper, table 3"
    row = next(row for row in data["bd"]["psnr"] if row["codec"] == "Theirs & co_{1}")
    assert row["bd_rate"] == pytest.approx(100 * (0.04 / 0.055 - 1), abs=0.01)    # equal but for the rate
    assert [note for note in data["notes"] if "published" in note] == [
        "Theirs & co_{1} is published with frames 96, these results have 8",
        "Theirs & co_{1} is published with intra_period 32, these results have 4",
        "Theirs & co_{1} is published with conditions microsoft, these results have none"]
    page = tmp_path / "r.html"
    assert main(["report", str(tmp_path / "results.json"), "--published", str(paper), "-o", str(page)]) == 0
    assert "Theirs & co_{1}" in page.read_text()


@pytest.mark.parametrize(("text", "words"), [
    ("codec,bpp,psnt\nA,1,30\n", "found a column 'psnt', needed some of codec, setting, bpp"),
    ("codec,bpp\nA,1\n", "found the columns codec, bpp, needed codec, bpp and a quality"),
    ("codec,bpp,psnr\n", "found no rows"), ("", "found the columns none"),
    ("codec,bpp,psnr\nA,1,30\nA,much,30\n", "line 3: found bpp 'much', needed a number"),
    ("codec,bpp,psnr\nA,0,30\n", "line 2: found no codec, no bpp above 0"),
    ("codec,bpp,psnr\nA,1\n", "line 2: found another number of values"),
])
def test_files_of_another_layout_are_one_line(tmp_path, capsys, text, words):
    write_results(tmp_path / "results.json", invented_results(tmp_path))
    (tmp_path / "bad.csv").write_text(text)
    call = ["table", str(tmp_path / "results.json"), "--published", str(tmp_path / "bad.csv")]
    assert main(call) == 1
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


def test_the_command_writes_what_is_asked(tmp_path, capsys):
    results = str(tmp_path / "results.json")
    write_results(results, invented_results(tmp_path))
    for form, begins in (("csv", "codec,clip0"), ("latex", r"\begin{table}"), ("markdown", "BD rate in %")):
        out = tmp_path / f"table.{form}"
        assert main(["table", results, "--bd", "--format", form, "-o", str(out)]) == 0
        assert out.read_text().startswith(begins)
    assert main(["table", results, "--bd", "--metric", "vmaf"]) == 1
    assert "--metric: found 'vmaf', needed one that was measured: psnr" in capsys.readouterr().err


def microsoft_file(path, sequences, planes=True, periods=(3, 93)):
    """A results file of microsoft/DCVC's layout: four rates of each sequence."""
    own = {"psnr_y": 1.0, "psnr_u": 3.0, "psnr_v": 5.0} if planes else {}
    table = {"SET": {name: {f"{22 + 5 * r:03d}": {
        "i_frame_num": periods[0], "p_frame_num": periods[1], "frame_pixel_num": 6144, "test_time": 1.0,
        "ave_all_frame_bpp": 0.4 / 2**r + 0.01 * k, "ave_all_frame_psnr": 37.0 - 2 * r + k, "ave_all_frame_msssim": 0,
        **{f"ave_all_frame_{key}": 36.0 - 2 * r + more for key, more in own.items()}} for r in range(4)}
        for k, name in enumerate(sequences)}}
    path.write_text(json.dumps(table))
    return path


def test_results_of_microsofts_layout_are_points_on_our_sequences(tmp_path):
    write_results(tmp_path / "results.json", invented_results(tmp_path))
    file = microsoft_file(tmp_path / "vtm.json", ["clip1.yuv", "clip0.yuv", "more.yuv"], planes=False)
    points = read_published(file, ["clip0", "clip1"])
    assert [point["setting"] for point in points] == ["022", "027", "032", "037"]
    first = points[0]
    # clip1 is the file's first sequence, clip0 its second; the third is none of ours.
    assert {row["name"]: row["psnr"] for row in first["sequences"]} == {"clip1": 37.0, "clip0": 38.0}
    assert first["mean"] == {"bpp": pytest.approx(0.405), "psnr": 37.5}                   # a similarity of 0 is none
    assert first["settings"] == {"source": str(file), "frames": "96", "intra_period": "32",
                                 "conditions": "not told", "sequences": "the same"}
    data = report_data([tmp_path / "results.json"], None, points)
    assert {row["sequence"] for row in data["bd"]["psnr"] if row["codec"] == "vtm"} == {"mean curve", "clip0", "clip1"}
    assert "vtm is published with frames 96, these results have 8" in data["notes"]
    page, table = tmp_path / "r.html", tmp_path / "t.csv"
    assert main(["report", str(tmp_path / "results.json"), "--published", str(file), "-o", str(page)]) == 0
    assert main(["table", str(tmp_path / "results.json"), "--published", str(file), "--bd", "--format", "csv",
                 "-o", str(table)]) == 0
    assert [row for row in csv.reader(table.open()) if row[0] == "vtm"][0][1] not in ("", None)


def test_other_sequences_and_judged_planes_of_that_layout_are_told(tmp_path):
    file = microsoft_file(tmp_path / "RT.json", ["a.yuv", "b.yuv"], periods=(1, 95))
    point, *_ = read_published(file, ["clip0", "clip1"])
    assert point["mean"] == {"bpp": pytest.approx(0.405), "psnr_planes": 37.5, "psnr_y": 37.0, "psnr_u": 39.0,
                             "psnr_v": 41.0}
    assert (point["settings"]["intra_period"], point["settings"]["conditions"]) == ("-1", "microsoft")
    assert point["sequences"] == []
    assert "RT is published of other sequences than these" in differences([point], invented_results(tmp_path))
    # Logs of other encoders call every frame an I-frame: their period is not known.
    unknown, *_ = read_published(microsoft_file(tmp_path / "HM.json", ["a"], periods=(96, 0)))
    assert (unknown["settings"]["frames"], unknown["settings"]["intra_period"]) == ("96", "not told")


@pytest.mark.parametrize(("text", "words"), [
    ("[1]", "found list at its top, needed data sets of sequences of rates with ave_all_frame_bpp"),
    ('{"A": {"s": {"22": {"ave_all_frame_bpp": 0.1}}}}', "found no number ave_all_frame_psnr in 's' 22"),
    ('{"A": {"s": {"22": {"ave_all_frame_psnr": 30, "ave_all_frame_bpp": "x"}}}}', "found no number ave_all_frame_bpp"),
    ('{"schema": "dcvc-results"}', "found str as the data set 'schema'"), ("{", "cannot be read as JSON"),
])
def test_json_of_another_layout_is_one_line(tmp_path, capsys, text, words):
    write_results(tmp_path / "results.json", invented_results(tmp_path))
    (tmp_path / "bad.json").write_text(text)
    assert main(["report", str(tmp_path / "results.json"), "--published", str(tmp_path / "bad.json"),
                 "-o", str(tmp_path / "r.html")]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


def test_classes_are_means_of_their_sequences(tmp_path):
    results = invented_results(tmp_path, sequences=3)
    for sequence, name in zip(results["sequences"], ("HEVC_B", "HEVC_B", "HEVC_C"), strict=True):
        sequence["class"] = name
    rows = list(csv.DictReader(io.StringIO(as_csv(points_table([results])))))
    shown = [row["sequence"] for row in rows[:6]]
    assert shown == ["clip0", "clip1", "clip2", "class HEVC_B", "class HEVC_C", "mean"]
    psnr = {row["sequence"]: float(row["psnr"]) for row in rows[:6]}
    assert psnr["class HEVC_B"] == pytest.approx((psnr["clip0"] + psnr["clip1"]) / 2)
    assert psnr["class HEVC_C"] == psnr["clip2"]
    table = bd_table([results], "psnr")
    assert table.heads == ("codec", "clip0", "clip1", "clip2", "class HEVC_B", "class HEVC_C", "mean curve")
    assert table.rows[0][4] == pytest.approx(table.rows[0][1])              # all clips have one distance here
    for sequence in results["sequences"]:
        sequence["class"] = "all"
    assert bd_table([results], "psnr").heads == ("codec", "clip0", "clip1", "clip2", "mean curve")


def test_costs_are_those_that_eval_counted(tmp_path, capsys):
    results = invented_results(tmp_path)
    for point in results["points"][:4]:
        point["settings"]["cost"] = {"parameters": 123456, "kmac_encoder": 12.5, "kmac_decoder": 7.25}
    table = cost_table([results])
    # Eight clips of 8 frames in one second each; nobody decoded.
    assert table.rows == (("dcvc", 123456, 12.5, 7.25, 8.0, None), ("x264", None, None, None, 8.0, None))
    assert "at 96x64 on the machine that measured; 8 frames, an I-frame every 4" in table.caption
    write_results(tmp_path / "r.json", results)
    assert main(["table", str(tmp_path / "r.json"), "--cost", "--format", "markdown"]) == 0
    assert "| dcvc | 123456 | 12.50 | 7.25 | 8.00 | – |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["table", str(tmp_path / "r.json"), "--cost", "--bd"])
    assert "not allowed with" in capsys.readouterr().err
