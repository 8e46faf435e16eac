"""Which streams are exact where nobody says: those of models that have an exact form."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from kit.exact_streams import moving_frames
from kit.light_models import TINY_LIGHT, stirred, tiny_light_codec

from dcvc.checkpoint import codecs_content, give_ranges, load_codec, save_pretrained, write_codecs
from dcvc.cli import main
from dcvc.codec import Decoder, Encoder
from dcvc.codec.bitstream import StreamHeader
from dcvc.codec.exact_ranges import RANGES, RANGES_FILE, CodecRanges, write_ranges
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.video_codec import VideoCodec
from dcvc.errors import InputError, ReadError
from dcvc.inter.light.model import LightPFrameModel
from dcvc.video.writer import VideoWriter
from dcvc.weights import read_checkpoint, write_checkpoint

FRAMES = moving_frames(3, (48, 64))


def stream(codec: VideoCodec, **options) -> bytes:
    encoder = Encoder(codec, (48, 64), 25, frames=3, source=b"test", **options)
    return b"".join(packet.data for packet in encoder.packets(FRAMES))


def header_of(data: bytes) -> StreamHeader:
    return StreamReader(io.BytesIO(data)).header


def shown(codec: VideoCodec, data: bytes) -> list[torch.Tensor]:
    decoder = Decoder(codec)
    frames = decoder.push(data)
    decoder.close()
    return frames


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """The file of a model with ranges."""
    return save_pretrained(tiny_light_codec(), tmp_path_factory.mktemp("saved") / "tiny")


def test_models_with_ranges_make_exact_streams_unless_floats_are_asked_for(saved):
    for codec in (load_codec(saved), load_codec("light-s")):
        usual, floats = stream(codec), stream(codec, exact=False)
        assert header_of(usual).exact
        assert not header_of(floats).exact
        assert usual == stream(codec, exact=True) == stream(codec.exact_form())
        assert floats == stream(codec.exact_form(), exact=False)
        assert len(shown(codec, usual)) == len(shown(codec.exact_form(), floats)) == 3


def test_a_model_file_that_is_copied_alone_reads_exact_streams(saved, tmp_path):
    alone = shutil.copy(saved, tmp_path / "alone.safetensors")
    data = stream(load_codec(saved))
    assert all(map(torch.equal, shown(load_codec(alone), data), shown(load_codec(saved), data)))


def test_a_model_keeps_its_ranges_when_it_is_saved_in_half(saved, tmp_path):
    codec = load_codec("light-s")
    half = save_pretrained(codec, tmp_path / "half", half=True)
    boxed = json.loads(Path(codec.ranges).read_text())
    assert read_checkpoint(half)[RANGES] == {"P": boxed["P"], "I": boxed["I"]}
    assert header_of(stream(load_codec(half))).exact


def test_models_without_an_exact_form_go_on_in_floats(saved, tmp_path):
    plain = tiny_light_codec()
    of_floats = VideoCodec(stirred(LightPFrameModel(replace(TINY_LIGHT, exact_scales=False))), plain.intra)
    stale = tmp_path / RANGES_FILE
    write_ranges(stale, CodecRanges({}, {}), bytes(8), plain.intra_hash)
    for codec in (plain, of_floats, VideoCodec(plain.p_frame, plain.intra, stale)):
        assert not header_of(stream(codec)).exact
    # Such a model has no ranges either.
    file = save_pretrained(of_floats, tmp_path / "floats")
    assert RANGES not in read_checkpoint(file)


def test_ranges_that_lie_inside_are_for_the_i_frame_codec_inside(saved):
    class Other(type(load_codec(saved).intra)):
        pass

    other = Other(load_codec(saved).intra.config)
    codec = load_codec(saved, intra="any", build=lambda config, device: other)
    assert codec.intra is other
    assert not header_of(stream(codec)).exact


def test_a_checkpoint_is_given_ranges_and_nothing_else_changes(tmp_path):
    codec, file = tiny_light_codec(), tmp_path / "best.pt"
    write_codecs(file, codec.p_frame, codec.intra)
    before = read_checkpoint(file)
    assert not header_of(stream(load_codec(file))).exact
    give_ranges(file)
    after = read_checkpoint(file)
    assert header_of(stream(load_codec(file))).exact
    assert after.keys() - before.keys() == {RANGES}
    assert all(torch.equal(value, after["model"][name]) for name, value in before["model"].items())
    # Codecs without an exact form: not a byte.
    of_floats = LightPFrameModel(replace(TINY_LIGHT, exact_scales=False))
    write_codecs(file, of_floats, codec.intra)
    data = file.read_bytes()
    give_ranges(file)
    assert file.read_bytes() == data


def test_ranges_that_are_none_and_ranges_of_other_networks_are_refused(tmp_path):
    codec, file = tiny_light_codec(), tmp_path / "best.pt"
    content = codecs_content(codec.p_frame, codec.intra)
    write_checkpoint(file, {**content, RANGES: {"P": {"decoder.conv2": -1}, "I": {}}})
    with pytest.raises(ReadError, match=r"best\.pt: exact: found a range that is no number above 0"):
        load_codec(file)
    for name, needed in (("decoder.conv2", "16 or one for all"), ("decoder.conv1.0.dc.0", "one for all channels")):
        write_checkpoint(file, {**content, RANGES: {"P": {name: [9, 9, 9]}, "I": {}}})
        with pytest.raises(InputError, match=f"{name}: found 3 ranges, needed {needed}"):
            stream(load_codec(file))


@pytest.mark.parametrize(("flag", "exact"), [(None, True), ("--exact", True), ("--no-exact", False)])
def test_the_commands_say_what_they_wrote(flag, exact, saved, tmp_path, capsys):
    with VideoWriter(tmp_path / "in.mp4", (64, 48)) as writer:
        for frame in FRAMES:
            writer.write(frame.permute(1, 2, 0).numpy())
    words = [*([flag] if flag else []), "--model", str(saved), "--quiet", "--json"]
    assert main(["encode", str(tmp_path / "in.mp4"), str(tmp_path / "a.dcvc"), "--bpp", "0.3", *words]) == 0
    assert json.loads(capsys.readouterr().out)["exact"] == exact
    assert header_of((tmp_path / "a.dcvc").read_bytes()).exact == exact
    assert main(["eval", str(tmp_path / "in.mp4"), "--metrics", "psnr", "-o", str(tmp_path / "r.json"), *words]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["points"][0]["sequences"][0]["exact"] == exact
