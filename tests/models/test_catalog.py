"""Models by name: which one a name means, and that what is saved is what is read back."""

import hashlib
import io
import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from kit.light_models import tiny_light_codec
from safetensors.torch import load_file
from torch import nn

from dcvc.checkpoint import from_pretrained, load_codec, save_pretrained
from dcvc.cli import main
from dcvc.codec.bitstream import SOURCE_BYTES
from dcvc.codec.video_codec import VideoCodec
from dcvc.data import VideoReader
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.errors import InputError, MissingError
from dcvc.models import catalog
from dcvc.models.catalog import find_model, model_folders, models_home


@pytest.fixture
def places(tmp_path, monkeypatch) -> Path:
    """An empty package and an empty DCVC_HOME; the current folder is empty too."""
    monkeypatch.setenv("DCVC_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(catalog, "BOXED", tmp_path / "boxed")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def stream_of(codec: VideoCodec, frames: int = 3) -> bytes:
    torch.manual_seed(0)
    clip = (torch.rand(frames, 3, 40, 56) * 255).to(torch.uint8)
    file = io.BytesIO()
    header = codec.header((40, 56), Fraction(25), frames, 10, True, bytes(SOURCE_BYTES))
    for _ in codec.encode(iter(clip), header, file):
        pass
    return file.getvalue()


# ---- saved and read back


def test_what_is_saved_is_read_back_with_the_same_weights_and_the_same_streams(tmp_path):
    codec = tiny_light_codec()
    file = save_pretrained(codec, tmp_path / "tiny")
    assert sorted(path.name for path in file.parent.iterdir()) == ["model.json", "model.safetensors"]
    for place in (file, file.parent, str(file.parent)):
        read = from_pretrained(place)
        assert (read.inter_hash, read.intra_hash) == (codec.inter_hash, codec.intra_hash)
    assert stream_of(read) == stream_of(codec)
    card = json.loads((tmp_path / "tiny" / "model.json").read_text())
    assert card["weights"] == {"I": codec.intra_hash.hex(), "P": codec.inter_hash.hex()}
    assert card["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert card["bytes"] == file.stat().st_size
    assert card["parameters"]["P"] == sum(value.numel() for value in codec.p_frame.parameters())


def test_half_is_half_the_size_and_differs_little(tmp_path):
    codec = tiny_light_codec()
    half = save_pretrained(codec, tmp_path / "half", half=True)
    full = save_pretrained(codec, tmp_path / "full")
    assert {value.dtype for value in load_file(half).values() if value.is_floating_point()} == {torch.float16}
    assert half.stat().st_size < 0.6 * full.stat().st_size
    read = from_pretrained(half)
    assert read.inter_hash != codec.inter_hash
    for part, other in ((codec.p_frame, read.p_frame), (codec.intra, read.intra)):
        for one, two in zip(part.parameters(), other.parameters(), strict=True):
            assert two.dtype == torch.float32
            assert torch.allclose(one, two, rtol=1e-3, atol=1e-6)
    # What was rounded once stays as it is.
    assert save_pretrained(read, tmp_path / "again", half=True).read_bytes() == half.read_bytes()


def test_a_folder_that_holds_a_model_is_left_alone(tmp_path):
    file = save_pretrained(tiny_light_codec(), tmp_path / "tiny")
    before = file.read_bytes()
    with pytest.raises(InputError, match="holds a model already; choose another folder"):
        save_pretrained(tiny_light_codec(seed=1), tmp_path / "tiny")
    assert file.read_bytes() == before


def test_an_i_frame_codec_with_files_of_its_own_is_refused(tmp_path):
    class OfFiles(nn.Module):
        name, rates, multiple = "vqgan", None, 1

    codec = tiny_light_codec()
    with pytest.raises(InputError, match="the I-frame codec vqgan has files of its own"):
        save_pretrained(VideoCodec(codec.p_frame, OfFiles()), tmp_path / "tiny")
    assert not (tmp_path / "tiny").exists()


# ---- names


def test_the_package_comes_first_and_a_path_before_both(places):
    for seed, folder in enumerate((catalog.BOXED / "one", models_home() / "one", models_home() / "two")):
        save_pretrained(tiny_light_codec(seed), folder)
    assert model_folders() == {"one": catalog.BOXED / "one", "two": models_home() / "two"}
    hashes = {seed: tiny_light_codec(seed).inter_hash for seed in range(4)}
    assert load_codec("one").inter_hash == hashes[0]
    assert load_codec("two").inter_hash == hashes[2]
    save_pretrained(tiny_light_codec(3), "one")
    assert load_codec("one").inter_hash == hashes[3]


def test_unfinished_folders_and_stray_files_have_no_name(places):
    save_pretrained(tiny_light_codec(), models_home() / ".tiny.pull")
    (models_home() / "empty").mkdir()
    (models_home() / "file").write_text("")
    assert model_folders() == {}


def test_an_unknown_name_tells_the_nearest(places):
    save_pretrained(tiny_light_codec(), models_home() / "light-m")
    with pytest.raises(MissingError, match=r"light-n: no such .*; did you mean 'light-m'\?; models here: light-m"):
        find_model("light-n")
    with pytest.raises(MissingError, match="runs/first: no such checkpoint file, run folder or model$"):
        find_model("runs/first")


# ---- commands without --model


def test_encode_takes_the_default_model_and_decode_finds_the_one_that_made_the_stream(places, capsys):
    save_pretrained(tiny_light_codec(0), catalog.BOXED / "light-m")
    save_pretrained(tiny_light_codec(1), models_home() / "pulled")
    # A damaged card of another model is in nobody's way.
    save_pretrained(tiny_light_codec(2), models_home() / "broken")
    (models_home() / "broken" / "model.json").write_text("{")
    write_synthetic_clips(".", 1, 2, (64, 48))[0].rename("in.mp4")
    short = ["--device", "cpu", "--quiet"]
    assert main(["encode", "in.mp4", "default.dcvc", *short]) == 0
    assert main(["encode", "in.mp4", "named.dcvc", "--model", "light-m", *short]) == 0
    assert Path("default.dcvc").read_bytes() == Path("named.dcvc").read_bytes()
    assert main(["encode", "in.mp4", "pulled.dcvc", "--model", "pulled", *short]) == 0
    for name in ("default", "pulled"):
        assert main(["decode", f"{name}.dcvc", f"{name}.mkv", *short]) == 0
        assert len(VideoReader(f"{name}.mkv")) == 2
    assert main(["info", "pulled"]) == 0
    (models_home() / "pulled").rename(places / "gone")
    capsys.readouterr()
    assert main(["decode", "pulled.dcvc", "again.mkv", *short]) == 1
    error = capsys.readouterr().err
    made_with = tiny_light_codec(1).inter_hash.hex()
    assert f"pulled.dcvc: made with weights {made_with}, which no model here has; give the model" in error
    assert error.count("\n") == 1
    assert not Path("again.mkv").exists()
