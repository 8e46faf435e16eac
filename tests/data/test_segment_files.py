"""How `dcvc prepare` writes: every codec, 10 bits, chroma where it belongs, licences, the report."""

import csv
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import sample_videos
import torch

from dcvc.cli import main
from dcvc.data import segment_encoders
from dcvc.data.prepare_options import PrepareOptions
from dcvc.data.segment_encoders import ENCODERS, encoder_of, is_offered
from dcvc.errors import InputError
from dcvc.video.deep_planes import deep_planes
from dcvc.video.frame_stack import Planes
from dcvc.video.reader import VideoReader
from dcvc.video.yuv_to_rgb import Colour

LOSSLESS = [name for name in ENCODERS if name != "av1"]


@pytest.fixture(scope="module")
def deep(tmp_path_factory) -> Path:
    """A video of 10 bits, 4:2:0, BT.2020 and PQ; beside it one of 8 bits."""
    folder = tmp_path_factory.mktemp("deep")
    frames = sample_videos.textures(10, 64, 96)
    with av.open(str(folder / "deep.mkv"), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = 9, 9, 16
        for image in frames:
            frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv420p10le", dst_colorspace=9)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    sample_videos.encode(folder / "plain.mp4", "libx264", frames, options={"qp": "0"})
    return folder


@pytest.mark.parametrize("codec", ENCODERS)
def test_every_codec_writes_quick_segments_and_the_same_again(deep, tmp_path, codec):
    if not is_offered(codec):
        pytest.skip(f"this PyAV has no {ENCODERS[codec].library}")
    words = ["prepare", str(deep), "--codec", codec, "--segment", "6", "--keyframe", "3", "--keep_10bit", "--quiet"]
    words += ["--quality", "lossless"] if codec in LOSSLESS else []
    for name in ("one", "two"):
        assert main([*words, str(tmp_path / name)]) == 0
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(files) == 5
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    for entry in json.loads((tmp_path / "one" / "manifest.json").read_text())["segments"]:
        written, source = VideoReader(tmp_path / "one" / entry["file"]), VideoReader(entry["source"])
        assert len(written) == entry["frames"]
        assert len(written.index.keys) == -(-entry["frames"] // 3)
        if source.index.pix_fmt == "yuv420p10le":
            assert (written.index.pix_fmt, written.index.matrix) == ("yuv420p10le", "bt2020")
            assert written.index.tags == source.index.tags == (1, 1, 9, 16)
            got, wanted = (reader.read(first, len(written), out="yuv")
                           for reader, first in ((written, 0), (source, entry["first"])))
            for plane in "yuv":
                difference = (getattr(got, plane) - getattr(wanted, plane)).abs().float()
                assert difference.mean() < 8
                assert codec == "av1" or not difference.any()
        else:
            assert (written.index.pix_fmt, written.index.matrix) == ("yuv420p", "bt709")


def test_a_codec_that_is_not_there_and_settings_that_contradict_are_named(monkeypatch):
    with pytest.raises(InputError, match=r"--crf: found with --codec ffv1"):
        PrepareOptions(codec="ffv1", crf=12)
    with pytest.raises(InputError, match=r"--quality: found lossless with --codec av1"):
        ENCODERS["av1"].make_options(PrepareOptions(codec="av1", quality="lossless"))
    monkeypatch.setattr(segment_encoders, "is_offered", lambda codec: codec in ("h264", "ffv1"))
    with pytest.raises(InputError, match=r"--codec: found hevc, but this PyAV has no libx265; .* h264, ffv1"):
        encoder_of(PrepareOptions(codec="hevc"))


@pytest.mark.parametrize(("subsampling", "siting", "depth"), [((1, 1), "left", 10), ((0, 1), "left", 12),
                                                             ((0, 0), "left", 10), ((1, 1), "centre", 16)])
def test_scaled_chroma_stays_where_it_was(subsampling, siting, depth):
    """A slope in luma and chroma alike: at every place of the output, both must show the slope's value there."""
    rows, columns = 48, 80
    at = {"left": (0.5, 0.0), "centre": (0.5, 0.5)}[siting]

    def slope(y, x):
        return 100 + 3 * y[:, None] + 5 * x[None, :]

    chroma = [np.arange(length >> shift) * (1 << shift) + ((1 << shift) - 1) * place
              for length, shift, place in zip((rows, columns), subsampling, at, strict=True)]
    gain = 1 << (depth - 10)
    y, u = (torch.from_numpy(np.rint(plane * gain).astype(np.int32))[None]
            for plane in (slope(np.arange(rows), np.arange(columns)), slope(*chroma)))
    colour = Colour("bt709", False, depth, subsampling, siting)
    for size in ((24, 40), (32, 54)):
        got_y, got_u, got_v = deep_planes(Planes(y, u, u, colour), 0, size, scaled=True)
        scale = [old / new for old, new in zip((rows, columns), size, strict=True)]
        luma = [(np.arange(new) + 0.5) * s - 0.5 for new, s in zip(size, scale, strict=True)]
        # 4:2:0 is written with chroma between rows, on columns.
        sites = [(np.arange(new // 2) * 2 + o + 0.5) * s - 0.5
                 for new, o, s in zip(size, (0.5, 0.0), scale, strict=True)]
        inner = np.s_[3:-3, 3:-3]
        assert np.abs(got_y - slope(*luma))[inner].max() <= 1.5
        assert np.abs(got_u - slope(*sites))[inner].max() <= 1.5
        assert np.array_equal(got_u, got_v)
    same = deep_planes(Planes(y, u, u, colour), 0, (rows, columns), scaled=False)
    assert np.array_equal(same[0], y[0] // gain)


def test_licences_and_the_report_of_what_was_left_out(tmp_path, capsys):
    (tmp_path / "set").mkdir()
    frames = sample_videos.textures(40, 48, 64)
    sample_videos.encode(tmp_path / "set" / "a.mp4", "libx264", np.concatenate((frames, frames[:5] * 0)))
    sample_videos.encode(tmp_path / "set" / "small.mp4", "libx264", frames[:, :32, :32])
    with open(tmp_path / "set" / "licences.csv", "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "licence", "author"))
        writer.writerows([("a.mp4", "CC BY 4.0", 'Ana, and "Bo"'), ("gone.mp4", "", "")])
    words = ["prepare", str(tmp_path / "set"), str(tmp_path / "out"), "--min_size", "40", "--drop_black", "--quiet"]
    assert main([*words, "--licences", str(tmp_path / "set" / "licences.csv")]) == 0
    told = capsys.readouterr()
    assert "has no row for 1 of 2 videos" in told.err
    assert "left out: 40 frames of 1 videos, smaller than min_size 40" in told.out
    assert "left out: 5 frames of 1 videos, black" in told.out
    assert "kept: 40 of 85 frames" in told.out
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["sources"][0]["columns"] == {"licence": "CC BY 4.0", "author": 'Ana, and "Bo"'}
    assert [(one["first"], one["frames"], one["reason"]) for one in manifest["dropped"]] == [
        (40, 5, "black"), (0, 40, "smaller than min_size 40")]
    assert VideoReader(tmp_path / "out" / manifest["segments"][0]["file"]).fps == Fraction(25)
    (tmp_path / "bad.csv").write_text("name,licence\na.mp4,CC0\n")
    assert main([*words, "--licences", str(tmp_path / "bad.csv")]) == 1
    assert "found the columns name, licence, needed one named file" in capsys.readouterr().err
