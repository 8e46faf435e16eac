"""Streams on a machine that computes other last bits: what can be read on is read on, and what differs is told."""

import io
from fractions import Fraction

import pytest
import torch
from kit.damage import tiny_codec
from kit.exact_streams import SIZE, moving_frames
from kit.light_models import TINY_LIGHT, stirred, tiny_light_codec
from kit.vqgan import make_rated_vqgan

from dcvc.cli import main
from dcvc.codec.bitstream import P_FRAME
from dcvc.codec.clip_coders import ClipDecoder, CodedFrame
from dcvc.codec.drift import Drift
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.video_codec import VideoCodec
from dcvc.commands import decode
from dcvc.errors import BitstreamError
from dcvc.inter.light.model import LightPFrameModel
from dcvc.intra.vqgan.codec import VQGANIFrameModel

# An I-frame, two P-frames, and the same again.
FRAMES, PERIOD = 6, 3


def coded(codec: VideoCodec) -> tuple[bytes, list[CodedFrame]]:
    file = io.BytesIO()
    header = codec.header(SIZE, Fraction(25), FRAMES, PERIOD, source=b"test")
    frames = list(codec.encode(moving_frames(FRAMES), header, file))
    return file.getvalue(), frames


def read(codec: VideoCodec, data: bytes, drift: Drift | None) -> list[CodedFrame]:
    reader = StreamReader(io.BytesIO(data), "a.dcvc")
    clip = ClipDecoder(codec, reader.header, reader.name, drift)
    return [clip.decode(record, measure=True) for record in reader]


def on_another_machine(codec: VideoCodec) -> VideoCodec:
    """The hash of its weights was taken: from now on its networks compute other numbers. What is shown and what
    is remembered differ a little."""
    with torch.no_grad():
        codec.p_frame.recon_head.head.bias.add_(2e-4)
        codec.p_frame.feature_extractor.conv[0].dc[0].bias.add_(1e-4)
    return codec


def test_pictures_drift_until_the_next_i_frame_while_symbols_stay_what_they_were():
    data, frames = coded(tiny_light_codec())
    usual, drift = read(tiny_light_codec(), data, None), Drift()
    found = read(on_another_machine(tiny_light_codec()), data, drift)
    # What every latent's symbols cost by their tables: other symbols or other scales would cost something else.
    assert [frame.bits for frame in found] == [frame.bits for frame in usual]
    apart = [(a.x_hat.int() - b.x_hat.int()).abs().max().item() for a, b in zip(found, frames, strict=True)]
    assert apart[0] == apart[PERIOD] == 0
    assert 0 < max(apart) <= 3
    differing = [number for number, most in enumerate(apart) if most]
    assert drift == Drift(compared=FRAMES, differing=len(differing), first=differing[0])
    assert all(frames[number].record.kind == P_FRAME for number in differing)
    with pytest.raises(BitstreamError, match=rf"a\.dcvc: frame {differing[0]}: reconstruction"):
        read(on_another_machine(tiny_light_codec()), data, None)


def test_nothing_differs_where_nothing_does():
    data, _ = coded(tiny_light_codec())
    drift = Drift()
    read(tiny_light_codec(), data, drift)
    assert drift == Drift(compared=FRAMES)


def test_streams_whose_symbols_hang_on_floats_stop_as_ever():
    data, _ = coded(tiny_codec())
    codec = tiny_codec()
    with torch.no_grad():
        codec.p_frame.contextualDecoder_part2[-1].bias.add_(0.02)
    with pytest.raises(BitstreamError, match="frame 1: reconstruction"):
        read(codec, data, Drift())


def test_an_exact_stream_that_differs_is_a_defect():
    data, _ = coded(tiny_light_codec().exact_form())
    codec = tiny_light_codec()
    codec.check(StreamReader(io.BytesIO(data)).header, "a.dcvc")
    # The tables CRC was taken as well.
    codec.exact_form().p_frame.networks.head.linear.bias += 2**20
    with pytest.raises(BitstreamError, match="frame 1: reconstruction"):
        read(codec, data, Drift())


def test_codes_of_a_vqgan_are_read_anywhere(tmp_path):
    files = make_rated_vqgan(tmp_path)

    def vqgan_codec() -> VideoCodec:
        torch.manual_seed(0)
        return VideoCodec(stirred(LightPFrameModel(TINY_LIGHT)), VQGANIFrameModel(*files))

    data, frames = coded(vqgan_codec())
    codec, drift = vqgan_codec(), Drift()
    with torch.no_grad():
        codec.intra.model.decoder.conv_out.bias.add_(2e-3)
    found = read(codec, data, drift)
    assert drift.first == 0
    assert drift.compared == FRAMES
    usual = read(vqgan_codec(), data, None)
    assert [frame.bits for frame in found] == [frame.bits for frame in usual]
    assert max((a.x_hat.int() - b.x_hat.int()).abs().max().item() for a, b in zip(found, frames, strict=True)) <= 3


def test_decode_tells_what_differs_and_strict_stops(tmp_path, capsys, monkeypatch):
    data, _ = coded(tiny_light_codec())
    (tmp_path / "a.dcvc").write_bytes(data)
    monkeypatch.setattr(decode, "codec_from", lambda options: on_another_machine(tiny_light_codec()))
    words = ["decode", str(tmp_path / "a.dcvc"), str(tmp_path / "a.y4m"), "--model", "any", "--quiet"]
    assert main([*words, "--strict"]) == 1
    assert "frame 1: reconstruction" in capsys.readouterr().err
    assert not (tmp_path / "a.y4m").exists()
    assert main(words) == 0
    told = capsys.readouterr().err
    assert told.startswith(f"note: {tmp_path / 'a.dcvc'}: ")
    assert "of 6 frames are not the encoder's to the last bit, the first is frame 1:" in told
    assert told.count("\n") == 1
    assert (tmp_path / "a.y4m").exists()
