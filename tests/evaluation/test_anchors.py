"""The anchors: packet bytes are the bits, FFmpeg's own file agrees, results are kept by content."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from dcvc.cli import main
from dcvc.data.eval_sequences import open_sequences
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.errors import InputError
from dcvc.evaluation import anchors as module
from dcvc.evaluation.anchor_coding import encode, measure
from dcvc.evaluation.anchor_encoders import ANCHORS, AnchorSetting, missing_reason
from dcvc.evaluation.anchors import compare
from dcvc.evaluation.stopwatch import Stopwatch
from dcvc.report.results import read_results

SIZE = (96, 64)


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    write_synthetic_clips(folder, 2, 6, SIZE, seed=3)
    return open_sequences(folder)


@pytest.mark.parametrize("name", ["x264", "x265", "svt-av1", "vp9"])
def test_bits_are_the_packets_of_the_encoded_stream(sequences, name, tmp_path):
    anchor = ANCHORS[name]
    if missing_reason(anchor):
        pytest.skip(missing_reason(anchor))
    setting = AnchorSetting(anchor, anchor.qualities[2], intra_period=4)
    result = measure(setting, sequences[0], tmp_path / "shown.png")
    packets = list(encode(setting, sequences[0], Stopwatch()))
    # The same packets in a file, counted by FFmpeg's demuxer.
    path = tmp_path / "stream.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(anchor.encoder, rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for number, data in packets:
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            container.mux(packet)
    with av.open(str(path)) as container:
        demuxed = sum(packet.size for packet in container.demux(video=0))
    assert result["bits"] == 8 * sum(len(data) for _, data in packets) == sum(result["per_frame"]["bits"])
    assert result["bits"] == 8 * result["file_bytes"]
    assert demuxed == pytest.approx(result["bits"] / 8, rel=0.02)       # Matroska may move headers out of packets
    assert result["bpp"] == result["bits"] / (SIZE[0] * SIZE[1] * 6)
    assert result["per_frame"]["type"] == list("IPPPIP")
    assert 25 < result["psnr"] < 45
    assert (tmp_path / "shown.png").is_file()


def test_finer_settings_cost_more_and_look_better(sequences, tmp_path):
    table = compare(sequences, {"x264": (20, 34)}, tmp_path, intra_period=4)
    fine, coarse = (point["mean"] for point in table["points"])
    assert fine["bpp"] > 1.5 * coarse["bpp"]
    for metric in ("psnr", "psnr_of_mean_mse", "psnr_yuv", "ms_ssim"):
        assert fine[metric] > coarse[metric]
    rows = table["points"][0]["sequences"]
    assert fine["psnr"] == pytest.approx(sum(r["psnr"] for r in rows) / 2)


def test_odd_sizes_are_padded_for_the_encoder_only(tmp_path):
    from PIL import Image
    for number in range(2):
        (tmp_path / "odd").mkdir(exist_ok=True)
        Image.effect_noise((51, 33), 20 + number).convert("RGB").save(tmp_path / "odd" / f"{number}.png")
    sequence, = open_sequences(tmp_path / "odd")
    result = measure(AnchorSetting(ANCHORS["x264"], 20, intra_period=4), sequence, None)
    assert (result["width"], result["height"]) == (51, 33)
    assert result["bpp"] == result["bits"] / (51 * 33 * 2)
    assert result["psnr"] > 28


def test_results_are_kept_by_content_and_settings(sequences, tmp_path, monkeypatch):
    calls = []
    original = module.measure
    monkeypatch.setattr(module, "measure", lambda *a: calls.append(a) or original(*a))
    first = compare(sequences[:1], {"x264": (30,)}, tmp_path / "a", intra_period=4, cache=tmp_path / "cache")
    renamed = [replace(sequences[0], name="renamed")]
    second = compare(renamed, {"x264": (30,)}, tmp_path / "b", intra_period=4, cache=tmp_path / "cache")
    assert len(calls) == 1
    assert second["points"][0]["mean"] == first["points"][0]["mean"]
    assert second["points"][0]["sequences"][0]["name"] == "renamed"
    compare(sequences[:1], {"x264": (30,)}, tmp_path / "a", intra_period=3, cache=tmp_path / "cache")
    assert len(calls) == 2
    for entry in (tmp_path / "cache").glob("*.json"):
        entry.write_text("{")
    compare(sequences[:1], {"x264": (30,)}, tmp_path / "a", intra_period=4, cache=tmp_path / "cache")
    assert len(calls) == 3


def test_command_writes_results_and_names_what_is_missing(sequences, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(ANCHORS, "aom-av1", replace(ANCHORS["aom-av1"], encoder="no-such-encoder"))
    folder = str(Path(sequences[0].path).parent)
    out = tmp_path / "anchors.json"
    assert main(["compare", folder, "--anchors", "x264:28", "aom-av1", "--max-frames", "2", "--no_cache", "--quiet",
                 "-o", str(out)]) == 0
    assert "aom-av1: left out, this FFmpeg build has no encoder no-such-encoder" in capsys.readouterr().out
    results = read_results(out)
    assert results["missing"][0]["codec"] == "aom-av1"
    assert results["points"][0]["settings"]["x264-params"].startswith("keyint=10")
    assert main(["compare", folder, "--anchors", "x264x", "-o", str(out), "--quiet"]) == 1
    assert "did you mean 'x264'" in capsys.readouterr().err
    for anchors, words in ((["x264:a"], "whole numbers"), (["x264:20,52"], "found CRF 52 for x264, needed 0…51"),
                           (["x264:20", "x264:30"], "found x264 twice"), (["x264", "--speed", "4"], "found '4'")):
        assert main(["compare", folder, "--anchors", *anchors, "-o", str(out), "--quiet"]) == 1
        assert words in capsys.readouterr().err
    assert read_results(out) == results                                  # failures overwrite nothing


@pytest.mark.parametrize("name", ["x264", "x265", "svt-av1"])
def test_modes_are_curves_of_their_own_and_their_bits_are_packets(tmp_path, name):
    if missing_reason(ANCHORS[name]):
        pytest.skip(missing_reason(ANCHORS[name]))
    write_synthetic_clips(tmp_path / "clip", 1, 20, SIZE, seed=5)
    crf, modes, found = ANCHORS[name].qualities[1], ANCHORS[name].modes, {}
    table = compare(open_sequences(tmp_path / "clip"), {name: (crf,)}, tmp_path, intra_period=16, metrics=("psnr",),
                    modes=modes)
    for mode, point in zip(modes, table["points"], strict=True):
        row = point["sequences"][0]
        assert point["codec"] == (name if mode == "zerolatency" else f"{name} {mode}")
        assert point["settings"]["mode"] == mode
        assert row["bits"] == 8 * row["file_bytes"] == sum(row["per_frame"]["bits"])
        assert [t for t, kind in enumerate(row["per_frame"]["type"]) if kind == "I"] == [0, 16]
        assert row["psnr"] > 25
        found[mode] = row["per_frame"]["type"], row["bits"], row["psnr"]
    assert len({bits for _, bits, _ in found.values()}) == len(modes)
    if name.startswith("x26"):
        assert "B" not in found["lowdelay"][0]
        assert "B" in found["random-access"][0]


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv444p", "yuv444p10le"])
def test_deeper_and_finer_samples_keep_more_of_the_picture(sequences, pixels):
    plain, finer = (measure(AnchorSetting(ANCHORS["x265"], 4, 4, pixels=one), sequences[0], None, metrics=("psnr",))
                    for one in ("yuv420p", pixels))
    assert finer["psnr"] > plain["psnr"] + (0.02 if "420" in pixels else 0.2)


def test_a_mode_that_an_encoder_lacks_is_named(sequences, tmp_path):
    table = compare(sequences[:1], {"vp9": (40,)}, tmp_path, modes=("random-access",))
    assert (table["points"], table["missing"][0]["codec"]) == ([], "vp9 random-access")


def test_shared_out_over_processes_the_numbers_are_the_same(sequences, tmp_path):
    call = {"anchors": {"x264": (24, 34)}, "intra_period": 4, "metrics": ("psnr",)}
    one, two = (compare(sequences, folder=tmp_path / str(n), processes=n, **call) for n in (1, 2))
    for alone, shared in zip(one["points"], two["points"], strict=True):
        assert (alone["setting"], alone["mean"]) == (shared["setting"], shared["mean"])
        names = [[row["name"] for row in point["sequences"]] for point in (alone, shared)]
        assert names[0] == names[1] == [sequence.name for sequence in sequences]


def test_frames_are_read_once_for_all_points_and_anew_for_other_content(sequences, tmp_path, monkeypatch):
    read, original = [], type(sequences[0]).source_frames
    monkeypatch.setattr(type(sequences[0]), "source_frames", lambda self: read.append(self.name) or original(self))
    compare(sequences, {"x264": (24, 34), "x265": (30,)}, tmp_path, intra_period=4, metrics=("psnr",))
    assert len(read) == 2 * len(sequences)                     # to describe them, and to code them
    monkeypatch.setattr("dcvc.evaluation.anchor_coding.KEPT_BYTES", 1000)
    compare(sequences[:1], {"x264": (24, 34)}, tmp_path, intra_period=4, metrics=("psnr",))
    assert len(read) == 2 * len(sequences) + 3


def test_results_of_another_version_are_refused(tmp_path):
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"schema": "dcvc-results", "version": 99}))
    with pytest.raises(InputError, match="version 99, needed dcvc-results version 1"):
        read_results(path)
