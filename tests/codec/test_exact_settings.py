"""Exact streams under every setting that a process can have; the long form is benchmarks/exact_settings.json."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from kit.exact_batches import differing_in_batch
from kit.exact_settings import SETTINGS, decoded, encoded
from kit.exact_streams import moving_frames

from dcvc.checkpoint import load_codec
from dcvc.codec.video_codec import VideoCodec

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).with_name("golden_exact.dcvc").read_bytes()


@functools.cache
def codec() -> VideoCodec:
    return load_codec("light-s").exact_form()


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_a_stream_decodes_to_the_same_bytes_under_every_setting(setting):
    """Every frame's CRC is compared, too."""
    assert decoded(codec(), GOLDEN, setting) == decoded(codec(), GOLDEN, SETTINGS[0])


@pytest.mark.parametrize("setting", [one for one in SETTINGS if one.sums == "im2col"], ids=lambda setting: setting.name)
def test_what_is_coded_under_one_setting_decodes_under_another(setting):
    data, shown = encoded(codec(), moving_frames(3, (64, 96)), 45.0, setting)
    assert decoded(codec(), data, SETTINGS[1]) == shown


def test_streams_decode_in_a_batch_as_they_do_alone():
    frames = moving_frames(4)
    streams = [encoded(codec(), frames if flipped else frames[::-1], quality, SETTINGS[0])[0]
               for quality in (3.0, 50.0) for flipped in (False, True)]
    assert differing_in_batch(codec(), streams) == 0


def test_sums_that_lose_bits_are_noticed(monkeypatch):
    """The comparison finds what it looks for: one layer's products in bfloat16."""
    from dcvc.layers.exact_blocks import ExactBlock
    from dcvc.layers.exact_linear import ExactLinear

    # The loop of a whole block has products of its own.
    monkeypatch.setattr(ExactBlock, "_in_one_loop", lambda block: False)
    products = ExactLinear.products
    monkeypatch.setattr(ExactLinear, "products", lambda linear, *parts: products(
        linear, *(part.bfloat16().float() for part in parts)))
    with pytest.raises(AssertionError, match="frame 0"):
        decoded(codec(), GOLDEN, SETTINGS[0])


@pytest.mark.slow
def test_the_long_form(clips, tmp_path):
    """Minutes: other instructions, sizes, models; see the record."""
    out = tmp_path / "record.json"
    subprocess.run([sys.executable, ROOT / "benchmarks/exact_settings.py", clips / "val", "--most_clips", "2", "--out",
                    out], check=True, cwd=ROOT)
    record = json.loads(out.read_text())
    assert record["combinations"] >= 200
    assert record["differing"] == 0, record["first_differing"]


def test_the_record_says_what_the_page_says():
    record = json.loads((ROOT / "benchmarks/exact_settings.json").read_text())
    assert record["combinations"] >= 200
    assert record["differing"] == sum(row["differing"] for row in record["rows"]) == 0
