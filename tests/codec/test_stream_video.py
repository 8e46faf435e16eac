"""Streams as videos: VideoReader, data sets, evaluation and the commands take .dcvc files like any other video."""

import json
import multiprocessing
import pickle
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from kit.light_models import tiny_light_codec, wandering_quality
from torch.utils.data import DataLoader

from dcvc.checkpoint import load_codec, save_pretrained
from dcvc.cli import main
from dcvc.codec.encoder import Encoder
from dcvc.codec.stream_edit import cut
from dcvc.codec.stream_reader import StreamReader
from dcvc.data import VideoGOPDataset, VideoReader, VideoValidationDataset
from dcvc.data.eval_sequences import open_sequences
from dcvc.errors import InputError, MissingError, ReadError, UnfinishedError
from dcvc.models.catalog import STREAM_MODELS

HEIGHT, WIDTH, FRAMES, PERIOD = 48, 80, 11, 4


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DCVC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(STREAM_MODELS, raising=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_pretrained(tiny_light_codec(), folder)
    return str(folder)


@pytest.fixture(scope="module")
def streams(model, tmp_path_factory) -> Path:
    """With an index, without one, a cut with hidden frames, one whose encoder was stopped, of another version."""
    folder, codec = tmp_path_factory.mktemp("streams"), load_codec(model)
    frames = torch.randint(256, (FRAMES, 3, 6, 10), dtype=torch.uint8).float()
    frames = torch.nn.functional.interpolate(frames, (HEIGHT, WIDTH), mode="bilinear").round().to(torch.uint8)
    for name, index in (("whole", True), ("plain", False)):
        encoder = Encoder(codec, (HEIGHT, WIDTH), 25, intra_period=PERIOD, quality=wandering_quality, index=index,
                          source=name[:4].encode())
        (folder / f"{name}.dcvc").write_bytes(b"".join(packet.data for packet in encoder.packets(frames)))
    with open(folder / "whole.dcvc", "rb") as whole, open(folder / "cut.dcvc", "wb") as target:
        cut(StreamReader(whole), target, 3, 6)
    (folder / "stopped.dcvc").write_bytes((folder / "plain.dcvc").read_bytes()[:-30])
    with open(folder / "version3.dcvc", "wb") as file:
        header = codec.header((HEIGHT, WIDTH), 25, FRAMES, PERIOD, source=b"old ")
        for _ in codec.encode(iter(frames), header, file, quality=20):
            pass
    return folder


NAMES = ("whole", "plain", "cut", "stopped", "version3")


def decoded(path: Path, model: str) -> torch.Tensor:
    """As `dcvc decode` does it, in order from the beginning."""
    frames = []
    with open(path, "rb") as file, suppress(UnfinishedError):
        frames.extend(load_codec(model).decode(StreamReader(file)))
    return torch.stack(frames)


@pytest.mark.parametrize("name", NAMES)
def test_every_frame_from_every_start_is_that_of_a_whole_decode(name, streams, model):
    path = streams / f"{name}.dcvc"
    whole, reader = decoded(path, model), VideoReader(path, model=model)
    assert (len(reader), reader.size, reader.fps) == (len(whole), (HEIGHT, WIDTH), 25)
    assert (("cut short",) if name == "stopped" else ()) == reader.index.notes
    assert torch.equal(torch.stack(list(reader)), whole)
    for start in (*range(len(whole)), *reversed(range(len(whole)))):
        for count in (1, 3):
            if start + count <= len(whole):
                assert torch.equal(reader.read(start, count), whole[start: start + count])
    crops = [(0, 0, 9, 7), (31, 63, 17, 17)]
    for crop, found in zip(crops, reader.read_crops(2, 4, crops), strict=True):
        top, left, height, width = crop
        assert torch.equal(found, whole[2:6, :, top: top + height, left: left + width])
    assert torch.equal(reader.read(1, 2, out="yuv").rgb(), whole[1:3])
    assert torch.equal(pickle.loads(pickle.dumps(reader)).read(4, 2), whole[4:6])
    with pytest.raises(InputError, match=f"found {len(whole)} frames"):
        reader.read(len(whole), 1)


def test_no_more_is_decoded_than_from_the_entry_on(streams, model):
    for start in range(FRAMES):
        for name, since in (("whole", start % PERIOD), ("cut", 3 + start if start < 1 else (3 + start) % PERIOD)):
            reader = VideoReader(streams / f"{name}.dcvc", model=model)
            if start < len(reader):
                reader.read(start, 1)
                assert reader._coded.decoded == since + 1
    reader = VideoReader(streams / "whole.dcvc", model=model)
    for start in (4, 5, 7):
        reader.read(start, 1)
    assert reader._coded.decoded == 4
    reader.read(6, 1)
    assert reader._coded.decoded == 4 + 3


def test_the_model_is_found_or_named_missing(streams, model, tmp_path, monkeypatch):
    path = streams / "whole.dcvc"
    with pytest.raises(MissingError, match="whole.dcvc: made .* which no model here has; .*--stream_model"):
        VideoReader(path)
    other = tmp_path / "other"
    save_pretrained(tiny_light_codec(seed=1), other)
    with pytest.raises(MissingError, match="which .*other does not have"):
        VideoReader(path, model=other)
    monkeypatch.setenv(STREAM_MODELS, f"{other}:{model}")
    assert len(VideoReader(path)) == FRAMES
    monkeypatch.delenv(STREAM_MODELS)
    # By name, as the models in the package and pulled ones are.
    monkeypatch.setenv("DCVC_HOME", str(tmp_path))
    shutil.copytree(model, tmp_path / "models" / "mine")
    assert len(VideoReader(path)) == FRAMES


@pytest.mark.parametrize("name", ["whole", "version3"])
def test_damage_is_an_error_that_names_the_frame(name, streams, model, tmp_path):
    data = bytearray((streams / f"{name}.dcvc").read_bytes())
    with open(streams / f"{name}.dcvc", "rb") as file:
        offset = StreamReader(file).index().entries[1].offset
    data[offset + 8] ^= 1
    path = tmp_path / "damaged.dcvc"
    path.write_bytes(data)
    whole, reader = decoded(streams / f"{name}.dcvc", model), VideoReader(path, model=model)
    for _ in range(2):
        assert torch.equal(reader.read(1, 3), whole[1:4])
        with pytest.raises(ReadError, match=r"damaged.dcvc: frame 4: checksum"):
            reader.read(5, 1)
        assert torch.equal(reader.read(8, 2), whole[8:10])
    with pytest.raises(ReadError, match="frame 4"):
        list(reader)
    path.write_bytes(bytes(data[:-1]))
    with pytest.raises(ReadError, match="as when it was indexed"):
        VideoReader(path, index=reader.index, model=model).read(0, 1)
    path.write_bytes(b"DCVC" + b"\xff" * 60)
    with pytest.raises(ReadError, match="damaged.dcvc: header"):
        VideoReader(path, model=model)


def with_a_video(streams: Path, folder: Path, videos) -> Path:
    folder.mkdir()
    for name in ("whole", "stopped"):
        shutil.copy(streams / f"{name}.dcvc", folder)
    shutil.copy(videos["h264_open.mp4"][0], folder)
    return folder


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_data_sets_and_their_workers_take_streams(start, streams, model, tmp_path, videos, monkeypatch):
    folder = with_a_video(streams, tmp_path / "set", videos)
    monkeypatch.setenv(STREAM_MODELS, model)
    data = VideoGOPDataset(folder, gop_size=3, crop_size=32, seed=1, samples_per_video=2)
    names = [Path(data.table.path(row)).name for row in range(3)]
    assert names == ["h264_open.mp4", "stopped.dcvc", "whole.dcvc"]
    here = [data[number] for number in range(6)]
    loader = DataLoader(data, batch_size=None, num_workers=1, timeout=100,
                        multiprocessing_context=multiprocessing.get_context(start))
    assert all(torch.equal(a, b) for a, b in zip(here, loader, strict=True))
    whole, sets = decoded(folder / "whole.dcvc", model), VideoValidationDataset(folder)
    assert torch.equal((sets[2]["frames"] * 255).round().to(torch.uint8), whole)
    sequence, = open_sequences([folder / "whole.dcvc"])
    assert torch.equal(torch.stack(list(sequence.stream())), whole)
    assert sequence.colour == "rgb, full range, gbrp"


def test_a_stream_made_with_more_threads_is_read_by_a_forked_worker(streams, model, tmp_path, monkeypatch):
    """A fork has none of OpenMP's threads; waiting for them would take for ever."""
    monkeypatch.setenv(STREAM_MODELS, model)
    codec, path = load_codec(model), tmp_path / "threads.dcvc"
    frames = decoded(streams / "whole.dcvc", model)
    header = replace(codec.header((HEIGHT, WIDTH), 25, FRAMES, PERIOD), threads=2)
    with open(path, "wb") as file:
        for _ in codec.encode(iter(frames), header, file):
            pass
    data = VideoGOPDataset(path, gop_size=2, crop_size=None, seed=1)
    here = data[0]
    loader = DataLoader(data, batch_size=None, num_workers=1, timeout=60,
                        multiprocessing_context=multiprocessing.get_context("fork"))
    assert torch.equal(next(iter(loader)), here)


def test_index_eval_compare_encode_and_prepare_take_streams(streams, model, tmp_path, videos, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with_a_video(streams, tmp_path / "set", videos)
    assert main(["index", "set", "--json", "--quiet"]) == 1
    excluded = json.loads(capsys.readouterr().out)["excluded"]
    assert sorted(excluded) == ["set/stopped.dcvc", "set/whole.dcvc"]
    assert "--stream_model" in excluded["set/whole.dcvc"]
    # What was missing is here now: nothing of the index is stale.
    assert main(["index", "set", "--json", "--quiet", "--verify", "--stream_model", model]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["codecs"]["dcvc gbrp"] == 2
    assert summary["damaged"] == {}
    assert list(summary["suspicious"]) == ["cut short: set/stopped.dcvc"]
    rest = ["--stream_model", model, "--quiet"]
    assert main(["compare", "set", "--max_frames", "2", "--anchors", "x264:30", "--no_cache", *rest]) == 0
    assert main(["eval", "set/whole.dcvc", "set/h264_open.mp4", "--model", model, "--max_frames", "3",
                 "--device", "cpu", "--processes", "2", *rest]) == 0
    assert [point["name"] for point in json.loads(Path("results.json").read_text())["points"][0]["sequences"]] == [
        "whole", "h264_open"]
    assert main(["encode", "set/whole.dcvc", "again.dcvc", "--model", model, "--device", "cpu", *rest]) == 0
    assert len(VideoReader("again.dcvc", model=model)) == FRAMES
    assert main(["prepare", "set/whole.dcvc", "ready", "--quality", "lossless", *rest]) == 0
    assert len(VideoReader("ready/0000000_whole_0000000.mp4")) == FRAMES
    capsys.readouterr()
    # Told for one command, not for the next.
    assert main(["eval", "set/whole.dcvc", "--model", model, "--quiet", "-o", "b.json"]) == 1
    assert "no model here has" in capsys.readouterr().err
