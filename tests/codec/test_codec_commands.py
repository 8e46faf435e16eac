"""`dcvc encode`, `decode` and `info` on real clips, with both kinds of I-frame codec, decoded in a fresh process."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from dcvc.checkpoint import write_checkpoint
from dcvc.cli import main
from dcvc.codec import load_codec
from dcvc.config import MODEL_SIZES, IntraConfig, to_dict
from dcvc.data import VideoReader
from dcvc.data.video_writer import VideoWriter
from dcvc.inter import DCVC

CLIPS = ("chromeos_office.mkv", "flutter_bee.mp4", "gopro_karma.mp4", "nvidia_forest_dog.mp4", "sam2_02_cups.mp4",
         "udacity_vehicle.mp4")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, vectors):
    """One untrained checkpoint per kind of I-frame codec."""
    from dcvc.intra.compressai import import_zoo
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs")
    zoo = import_zoo()["bmshj2018-hyperprior"](quality=1, pretrained=False)
    torch.save(zoo.state_dict(), folder / "zoo.pt")
    small = vectors / "vqgan" / "fork_vqgan_emavq_small"
    intra = {
        "compressai": IntraConfig("compressai", "bmshj2018-hyperprior", 1, False, str(folder / "zoo.pt")),
        "vqgan": IntraConfig("vqgan", vqgan_config=f"{small}.json", vqgan_checkpoint=f"{small}.pt"),
    }
    model = DCVC(MODEL_SIZES["tiny"])
    for name, config in intra.items():
        write_checkpoint(folder / f"{name}.pt", {"model": model.state_dict(), "inter": to_dict(model.config),
                                                 "intra": to_dict(config), "settings": {}, "progress": {}})
    return folder


def check(clip, run, folder, frames, threads, capsys) -> dict:
    """encode --verify here, decode elsewhere with another number of threads: the same pictures; rates agree."""
    stream, pictures = folder / "a.dcvc", folder / f"png{threads}"
    arguments = [str(clip), str(stream), "--model", str(run), "--gop_size", "8", "--quiet", "--device", "cpu"]
    capsys.readouterr()
    assert main(["encode", *arguments, "--max-frames", str(frames), "--verify", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    subprocess.run([sys.executable, "-m", "dcvc.cli", "decode", str(stream), str(pictures), "--model", str(run),
                    "--quiet", "--device", "cpu"], check=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    codec = load_codec(run)
    header = codec.header(VideoReader(clip).size, 25, frames, 8)
    expected = [item.x_hat for item in codec.encode(_first(clip, frames), header, io.BytesIO())]
    files = sorted(pictures.iterdir())
    assert len(files) == frames
    for file, x_hat in zip(files, expected, strict=True):
        assert np.array_equal(np.asarray(Image.open(file)), x_hat.permute(1, 2, 0).numpy())
    assert abs(result["payload_bytes"] * 8 - sum(result["bits"].values())) <= 0.01 * sum(result["bits"].values()) + 64
    return result


def _first(clip, count):
    for _, frame in zip(range(count), VideoReader(clip), strict=False):
        yield frame


@pytest.mark.parametrize("kind", ["compressai", "vqgan"])
def test_decoding_elsewhere_gives_the_encoders_pictures(kind, runs, clips, tmp_path, capsys):
    # A corner of a real clip; the long form below takes the clips as they are.
    frames = VideoReader(clips / "val" / CLIPS[1]).read(0, 2, crop=(0, 0, 96, 150))
    with VideoWriter(tmp_path / "in.mkv", (150, 96)) as writer:
        for frame in frames:
            writer.write(frame.permute(1, 2, 0).numpy())
    check(tmp_path / "in.mkv", runs / f"{kind}.pt", tmp_path, 2, 2, capsys)
    assert main(["info", str(tmp_path / "a.dcvc"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["header"]["intra"] == kind
    assert [frame["type"] for frame in shown["frames"]] == ["I", "P"]


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["compressai", "vqgan"])
@pytest.mark.parametrize("name", CLIPS)
def test_every_validation_clip(name, kind, threads, runs, clips, tmp_path, capsys):
    check(clips / "val" / name, runs / f"{kind}.pt", tmp_path, 16, threads, capsys)


def test_damage_is_an_error_and_keep_going_keeps_what_came_before(runs, tmp_path, capsys):
    run, stream = str(runs / "vqgan.pt"), tmp_path / "a.dcvc"
    rest = ["--model", run, "--quiet", "--device", "cpu"]
    with VideoWriter(tmp_path / "in.mp4", (64, 48)) as writer:
        for number in range(3):
            writer.write(np.full((48, 64, 3), 60 * number, dtype=np.uint8))
    assert main(["encode", str(tmp_path / "in.mp4"), str(stream), *rest, "--gop_size", "2"]) == 0
    data = bytearray(stream.read_bytes())
    data[-10] ^= 4
    stream.write_bytes(data)
    assert main(["decode", str(stream), str(tmp_path / "a.mkv"), *rest]) == 1
    assert "frame 2: checksum" in capsys.readouterr().err
    assert not (tmp_path / "a.mkv").exists()
    assert main(["decode", str(stream), str(tmp_path / "a.mkv"), *rest, "--keep_going"]) == 1
    assert "2 of 3 frames written" in capsys.readouterr().err
    assert len(VideoReader(tmp_path / "a.mkv")) == 2
    assert not list(tmp_path.glob(".*"))
    assert main(["decode", str(stream), str(tmp_path / "a.avi"), *rest]) == 1
    assert "suffix '.avi'" in capsys.readouterr().err
    assert main(["decode", str(tmp_path / "none.dcvc"), str(tmp_path / "b.mkv"), *rest]) == 1
