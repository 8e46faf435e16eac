"""`dcvc prepare` and `dcvc index` as commands; several crops from one decoding."""

import json

import pytest
import torch

from dcvc.cli import main
from dcvc.data import VideoGOPDataset, VideoReader
from dcvc.errors import InputError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DCVC_CACHE", str(tmp_path / "cache"))


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


def test_index_command(videos, tmp_path, capsys):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "good.mp4").write_bytes(videos["h264_open.mp4"][0].read_bytes())
    arguments = ["index", str(folder), "--json", "--quiet", "--verify"]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["files"], found["frames"], found["damaged"]) == (1, 48, {})
    spoiled = bytearray((folder / "good.mp4").read_bytes())
    spoiled[3000:6000] = bytes(3000)
    (folder / "spoiled.mp4").write_bytes(spoiled)
    (folder / "text.mp4").write_text("nothing")
    assert main(arguments) == 1
    found = json.loads(capsys.readouterr().out)
    assert [name.rsplit("/", 1)[-1] for name in found["excluded"]] == ["text.mp4"]
    assert [name.rsplit("/", 1)[-1] for name in found["damaged"]] == ["spoiled.mp4"]


def test_several_crops_from_one_decoding(videos):
    reader = VideoReader(videos["vp9_odd.webm"][0])
    crops = [(0, 0, 8, 8), (5, 3, 20, 11)]
    for crop, frames in zip(crops, reader.read_crops(4, 3, crops), strict=True):
        assert torch.equal(frames, reader.read(4, 3, crop))
    with pytest.raises(InputError):
        reader.read_crops(29, 3, crops)
