"""`dcvc models`: what is here, from the cards alone; damage is told and stops nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from kit.light_models import tiny_light_codec

from dcvc.checkpoint import save_pretrained
from dcvc.cli import main
from dcvc.models import catalog

MORE = {"kmac": {"I": {"encoder": 10.31, "decoder": 7.1}, "P": {"encoder": 12.52, "decoder": 9.8}},
        "bd_rate": {"x264": {"intra 32": 48.04, "one I-frame": -3.21, "low rates": 5.0}, "x265": {"intra 32": 90}},
        "data": [{"name": "Xiph", "licence": "CC-BY"}, "synthetic clips"], "training": "40,000 steps\u001b[31m",
        "curve": {"x264": [[100, 30.5], [200, 33.0]]}, "note": None}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """boxed: in the package, a full card; plain: pulled, a card as save_pretrained writes it."""
    monkeypatch.setenv("DCVC_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(catalog, "BOXED", tmp_path / "boxed")
    card = save_pretrained(tiny_light_codec(), tmp_path / "boxed" / "boxed").with_name("model.json")
    card.write_text(json.dumps({**json.loads(card.read_text()), **MORE}))
    save_pretrained(tiny_light_codec(1), catalog.models_home() / "plain")
    return tmp_path


def rows(capsys) -> dict[str, list[str]]:
    """The table without its head and its legend: name -> cells."""
    lines = capsys.readouterr().out.split("\n\n")[0].splitlines()[1:]
    return {line.split()[0]: [cell for cell in line.split("  ") if cell.strip()] for line in lines}


def test_the_list_shows_what_the_cards_say(here, capsys):
    assert main(["models"]) == 0
    table = {name: [cell.strip() for cell in cells] for name, cells in rows(capsys).items()}
    size = f"{(here / 'boxed' / 'boxed' / 'model.safetensors').stat().st_size / 1e6:.1f}"
    counts = [json.loads((here / "boxed" / "boxed" / "model.json").read_text())["parameters"][kind] for kind in "IP"]
    parameters = " + ".join(f"{count / 1e6:.2f}" for count in counts)
    assert table["boxed"] == ["boxed", "in the package", parameters, "12.5, 9.8", size, "+48.0, -3.2", "+90.0, -",
                              "whole"]
    assert table["plain"] == ["plain", "pulled", parameters, "-", size, "-", "-", "whole"]


def test_the_list_needs_no_torch(here):
    code = "import sys; sys.modules['torch'] = None; import dcvc.cli; sys.exit(dcvc.cli.main(['models']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "plain" in done.stdout


def test_damage_is_told_and_the_others_are_listed(here, capsys):
    for seed, name in enumerate(("bits", "card", "cardless", "odd")):
        save_pretrained(tiny_light_codec(seed + 2), catalog.models_home() / name)
    bits = catalog.models_home() / "bits" / "model.safetensors"
    bits.write_bytes(bits.read_bytes()[:-1] + b"\x55")
    (catalog.models_home() / "card" / "model.json").write_text("{")
    (catalog.models_home() / "cardless" / "model.json").unlink()
    odd = {"parameters": 3, "kmac": {"P": {"encoder": 10**400, "decoder": float("nan")}},
           "bd_rate": {"x264": "much", "x265": {"intra 32": True}}}
    (catalog.models_home() / "odd" / "model.json").write_text(json.dumps(odd))
    assert main(["models"]) == 1
    table = rows(capsys)
    assert [cell.strip() for cell in table["odd"][2:4] + table["odd"][5:7]] == 4 * ["-"]
    assert {name: cells[-1].strip() for name, cells in table.items()} == {
        "boxed": "whole", "bits": "damaged (not the SHA-256 of its card)", "card": "damaged card",
        "cardless": "no SHA-256 in its card", "odd": "no SHA-256 in its card", "plain": "whole"}


def test_a_name_shows_the_card_in_full_and_the_words(here, capsys):
    (here / "boxed" / "boxed" / "README.md").write_text("# Boxed\n\nGood for talking heads.\n")
    assert main(["models", "boxed"]) == 0
    out = capsys.readouterr().out
    for part in ("in the package", "low rates 5.0", "Xiph", "CC-BY", "synthetic clips", "40,000 steps", "decoder 7.1",
                 "33.0", "Good for talking heads.", str(here / "boxed" / "boxed")):
        assert part in out
    assert "\u001b" not in out


def test_json_holds_it_all(here, capsys):
    assert main(["models", "--json"]) == 0
    models = json.loads(capsys.readouterr().out)
    assert [model["name"] for model in models] == ["boxed", "plain"]
    assert {key: models[0]["card"][key] for key in MORE} == MORE
    assert main(["models", "plain", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == {**models[1], "words": ""}
    assert shown["file"] == "whole"


def test_an_unknown_name_and_no_models_at_all(here, capsys, monkeypatch):
    assert main(["models", "boxd"]) == 1
    error = capsys.readouterr().err
    assert "boxd: no model of this name is here; did you mean 'boxed'?; models here: boxed, plain" in error
    assert error.count("\n") == 1
    monkeypatch.setenv("DCVC_HOME", str(here / "nowhere"))
    monkeypatch.setattr(catalog, "BOXED", here / "nothing")
    assert main(["models"]) == 0
    assert capsys.readouterr().out == "no model is here; dcvc pull URL brings one\n"
    assert main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
