"""What exact streams cannot be made of or read with: one line each, which names the layer, file or device."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from kit.light_models import TINY_LIGHT, TINY_LIGHT_INTRA, stirred, tiny_light_codec

from dcvc.checkpoint import load_codec, save_pretrained, write_codecs
from dcvc.cli import main
from dcvc.codec import video_codec
from dcvc.codec.exact_ranges import RANGES_FILE, CodecRanges, write_ranges
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.video_codec import VideoCodec
from dcvc.inter.light.model import LightPFrameModel
from dcvc.intra.light.model import LightIFrameModel
from dcvc.models.run_folder import MODEL
from dcvc.video.writer import VideoWriter

GOLDEN_FILE = Path(__file__).with_name("golden_exact.dcvc")


@pytest.fixture
def video(tmp_path) -> Path:
    with VideoWriter(tmp_path / "in.mp4", (64, 48)) as writer:
        writer.write(torch.full((48, 64, 3), 90, dtype=torch.uint8).numpy())
    return tmp_path / "in.mp4"


def saved(codec: VideoCodec, folder: Path) -> Path:
    save_pretrained(codec, folder)
    return folder


def refusal(capsys, *words: str | Path) -> str:
    """The one line that a command ends with."""
    assert main([*map(str, words), "--quiet", "--device", "cpu"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def enlarged(codec: VideoCodec, kind: str, layer: str) -> VideoCodec:
    part = codec.p_frame if kind == "P" else codec.intra
    with torch.no_grad():
        part.get_submodule(layer).weight.mul_(1e9)
    return VideoCodec(codec.p_frame, codec.intra)


@pytest.mark.parametrize(("kind", "layer"), [("P", "recon_head.head"), ("P", "decoder.up.conv.0"),
                                             ("I", "dec.dec_2.dc.0")])
def test_weights_that_overflow_a_grid_are_refused_with_their_layer(kind, layer, video, tmp_path, capsys):
    model, target = saved(enlarged(tiny_light_codec(), kind, layer), tmp_path / "model"), tmp_path / "a.dcvc"
    told = refusal(capsys, "encode", video, target, "--model", model, "--exact")
    assert told.startswith(f"error: {layer}: sums ")
    assert "bits, 53 are exact; its weights are too large for exact arithmetic" in told
    assert not target.exists()


def test_a_calibration_of_another_model_is_refused_by_file(video, tmp_path, capsys):
    codec, model, target = tiny_light_codec(), tmp_path / "model", tmp_path / "a.dcvc"
    # A file without ranges of its own, which would count more.
    write_codecs(model / MODEL, codec.p_frame, codec.intra)
    write_ranges(model / RANGES_FILE, CodecRanges({}, {}), bytes(8), bytes(8))
    told = refusal(capsys, "encode", video, target, "--model", model, "--exact")
    assert told.startswith(f"error: {model / RANGES_FILE}: measured of weights ")
    assert told.endswith("measure its own ranges, or remove the file")
    assert not target.exists()


def test_a_header_that_claims_exact_with_a_codec_that_is_not(tmp_path, capsys):
    torch.manual_seed(0)
    codec = VideoCodec(stirred(LightPFrameModel(replace(TINY_LIGHT, exact_scales=False))),
                       stirred(LightIFrameModel(TINY_LIGHT_INTRA)))
    model, stream = saved(codec, tmp_path / "model"), tmp_path / "a.dcvc"
    shutil.copy(GOLDEN_FILE, stream)
    told = refusal(capsys, "decode", stream, tmp_path / "a.y4m", "--model", model)
    assert told.startswith(f"error: {stream}: header: exact arithmetic, which this model cannot: ")
    assert not (tmp_path / "a.y4m").exists()


def test_a_device_without_float64_leaves_the_work_to_the_cpu_and_says_so_once(monkeypatch, caplog):
    codec = load_codec("light-s")
    usual = list(codec.exact_form().decode(StreamReader(io.BytesIO(GOLDEN_FILE.read_bytes()))))
    # As if the device of these models were one of that kind.
    monkeypatch.setattr(video_codec, "holds_float64", lambda kind: False)
    video_codec._tell_of_the_cpu.cache_clear()
    for _ in range(2):
        plain = VideoCodec(codec.p_frame, codec.intra, codec.ranges)
        exact = plain.exact_form()
        assert exact.device == torch.device("cpu")
        assert exact.p_frame.model is not plain.p_frame
        assert exact.tables_crc == codec.exact_form().tables_crc
    assert caplog.messages == ["exact streams are computed on the CPU: device cpu has no float64"]
    found = exact.decode(StreamReader(io.BytesIO(GOLDEN_FILE.read_bytes())))
    assert all(torch.equal(a, b) for a, b in zip(found, usual, strict=True))
