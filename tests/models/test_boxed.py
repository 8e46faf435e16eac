"""The models of the package: small, whole, and what their cards say."""

import hashlib
import json
from pathlib import Path

import pytest

from dcvc.bench.macs import i_frame_parts, p_frame_parts, total
from dcvc.checkpoint import load_codec
from dcvc.models.catalog import BOXED, CARD, DEFAULT_MODEL, MODEL_FILE, WORDS
from dcvc.weights import weights_hash

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(folder.name for folder in BOXED.iterdir() if folder.is_dir())


def test_the_default_model_is_in_the_package():
    assert DEFAULT_MODEL in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_boxed_model_is_what_its_card_says(name):
    card, file = json.loads((BOXED / name / CARD).read_text()), BOXED / name / MODEL_FILE
    data = file.read_bytes()
    assert card["bytes"] == len(data) <= 6_000_000
    assert card["sha256"] == hashlib.sha256(data).hexdigest()
    codec = load_codec(name)
    assert card["weights"] == {"I": weights_hash(codec.intra.state_dict())[:16],
                               "P": weights_hash(codec.p_frame.state_dict())[:16]}
    parts = {"I": total(i_frame_parts(codec.intra)), "P": total(p_frame_parts(codec.p_frame))}
    for kind, part in parts.items():
        assert card["parameters"][kind] == part.parameters
        assert card["kmac"][kind]["encoder"] == pytest.approx(part.encoder, abs=0.01)
        assert card["kmac"][kind]["decoder"] == pytest.approx(part.decoder, abs=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_a_card_tells_where_the_model_stands_and_where_it_comes_from(name):
    card, words = json.loads((BOXED / name / CARD).read_text()), (BOXED / name / WORDS).read_text()
    for structure in ("intra 32", "one I-frame"):
        for anchor in ("x264", "x265"):
            assert card["rates"][structure][anchor]["psnr"]["mean curve"] == pytest.approx(
                card["bd_rate"][anchor][structure], abs=0.06)
            assert f"{card['rates'][structure][anchor]['psnr']['mean curve']:+.1f} %" in words
    assert all(row["licence"] and row["source"] and "not stated" not in row["note"] for row in card["data"])
    assert card["training"]["command"] in words
    # The validation clips judge: none of them was trained on.
    judged = set(next(iter(card["rates"].values()))["x264"]["psnr"]["clips"])
    assert len(judged) == card["clips"]
    assert not judged & {Path(row["file"]).stem for row in card["data"]}
