"""`dcvc prepare`: the segments hold the same frames and name their sources."""

import json
from fractions import Fraction

import av
import pytest
import sample_videos
import torch

from dcvc.cli import main
from dcvc.data import VideoGOPDataset, VideoReader
from dcvc.video.file_index import index_file


def test_prepare_keeps_frames_and_names_sources(videos, tmp_path, capsys):
    source, out = videos["h264_open.mp4"][0], tmp_path / "out"
    assert main(["prepare", str(source), str(out), "--segment", "20", "--quality", "lossless", "--quiet"]) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert [(s["first"], s["frames"]) for s in manifest["segments"]] == [(0, 20), (20, 20), (40, 8)]
    before = VideoReader(source).read(20, 20).float()
    after = VideoReader(out / manifest["segments"][1]["file"])
    assert torch.diff(torch.tensor(after.index.keys)).unique().numel() == 1
    assert len(after.index.keys) == 5
    # Lossless in 4:2:0: what differs is the chroma subsampled anew, much less than one frame from the next.
    got = after.read(0, 20).float()
    assert (got - before).abs().mean() < 0.5 * (got[1:] - before[:-1]).abs().mean()
    assert len(VideoGOPDataset(out, 7, None, 64)) == 3
    assert main(["prepare", str(source), str(out), "--quiet"]) == 1
    assert "needed an empty or new folder" in capsys.readouterr().err
    scaled = tmp_path / "scaled"
    assert main(["prepare", str(source), str(scaled), "--short_side", "32", "--quiet"]) == 0
    assert VideoReader(next(scaled.glob("*.mp4"))).size == (32, 48)


@pytest.mark.parametrize(("turned", "transfer", "primaries"), [(0, 16, 9), (90, 18, 12)])
def test_prepare_carries_aspect_and_colour_tags_along(tmp_path, turned, transfer, primaries):
    with av.open(str(tmp_path / "in.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.sample_aspect_ratio = transfer, primaries, Fraction(4, 3)
        if turned:
            stream.set_display_rotation(turned)
        for image in sample_videos.textures(3, 48, 64):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv420p")))
        out.mux(stream.encode(None))
    assert main(["prepare", str(tmp_path / "in.mp4"), str(tmp_path / "out"), "--quiet"]) == 0
    index = index_file(next((tmp_path / "out").glob("*.mp4")))
    assert index.tags == ((3, 4) if turned else (4, 3)) + (primaries, transfer)
    assert index.matrix == "bt709"


@pytest.mark.parametrize(("form", "transfer", "primaries", "lost"), [
    ("yuv420p10le", 16, 9, "10 bits, taken as 8"), ("yuva420p", 2, 12, "alpha"), ("yuva420p10le", 18, 2,
                                                                            "10 bits, taken as 8, alpha"),
    ("yuv420p", 18, 9, None), ("gbrp12le", 2, 2, "12 bits, taken as 8")])
def test_what_prepared_videos_do_not_keep_is_told_once_a_file(tmp_path, capsys, form, transfer, primaries, lost):
    """Tags come along, so that transfer and primaries are not lost."""
    (tmp_path / "in").mkdir()
    for name in ("a.mkv", "b.mkv"):
        with av.open(str(tmp_path / "in" / name), "w") as out:
            stream = out.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, form
            stream.codec_context.color_trc, stream.codec_context.color_primaries = transfer, primaries
            for image in sample_videos.textures(2, 48, 64):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=form)))
            out.mux(stream.encode(None))
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "out"), "--quiet"]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert told == ([f"note: {tmp_path / 'in' / name}: not kept: {lost}" for name in ("a.mkv", "b.mkv")] if lost
                    else [])
