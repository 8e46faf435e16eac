"""The commands of docs/evaluation.md run as they stand there, on small files of these names."""

import json
import re
import shlex
import shutil
from pathlib import Path

from kit.eval_memory import write_untrained_model
from kit.light_models import SMALL_LIGHT
from kit.round_trip import make_runs
from kit.vqgan import make_rated_vqgan

from dcvc.cli import main
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.report.results import read_results

PAGE = Path(__file__).resolve().parents[2] / "docs" / "evaluation.md"


def test_the_commands_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))                # where anchors are kept
    monkeypatch.chdir(tmp_path)
    write_synthetic_clips("VIDEOS", 2, 3, (64, 48))
    model = write_untrained_model(tmp_path)
    for run in ("RUN", "RUN2"):
        (tmp_path / run / "stage4_gop2").mkdir(parents=True)
        shutil.copy(model, tmp_path / run / "stage4_gop2" / "best.pt")
    shutil.copy(make_runs(tmp_path, SMALL_LIGHT)["light"], "LIGHT")
    config, weights = make_rated_vqgan(tmp_path / "vqgan")
    shutil.copy(config, "CONFIG")
    shutil.copy(weights, "WEIGHTS")
    blocks = re.findall(r"^```\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    assert [len(block.splitlines()) for block in blocks] == [6, 4]                       # a results section is four
    commands = [line for block in blocks for line in block.splitlines()]
    for command in commands:
        words = shlex.split(command, comments=True)
        assert words[0] == "dcvc"
        offline = ["--no-i_frame_pretrained"] if "--intra_only" in words else []
        assert main([*words[1:], *offline]) == 0
    assert [p["setting"] for p in read_results("ours.json")["points"]] == ["RUN", "RUN", "RUN2"]
    assert [p["setting"] for p in read_results("light.json")["points"]] == ["q0", "q16", "q32", "q48", "q63"]
    assert len(read_results("anchors.json")["points"]) == 9
    assert len(read_results("intra.json")["points"]) == 5
    assert {p["codec"] for p in read_results("strong.json")["points"]} == {"x265 lowdelay", "x265 random-access"}
    assert "x264,crf 22," in Path("points.csv").read_text()
    table = Path("bd.tex").read_text()
    assert "x265 random-access" in table
    assert "96 frames" not in table
    assert "3 frames, an I-frame every 32, conditions: microsoft" in table       # what was measured, not a usual
    cost = read_results("planes.json")["points"][0]["settings"]["cost"]
    assert cost["parameters"] > cost["kmac_encoder"] >= cost["kmac_decoder"] > 0
    assert Path("curves.pdf").read_bytes().startswith(b"%PDF")
    assert "psnr_planes" in read_results("planes.json")["points"][0]["mean"]
    assert (tmp_path / "report.html").stat().st_size > 50_000
    assert (tmp_path / "intra.png").is_file()
    assert json.loads(Path("ours.json").read_text())["command"]
