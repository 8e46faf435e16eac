"""CompressAI's zoo as I-frame codec."""

import pytest
import torch

from dcvc.errors import BitstreamError, InputError, MissingError
from dcvc.intra import build_intra_codec, compress_i_frame_with_padding
from dcvc.intra.compressai import import_zoo
from dcvc.intra.config import IntraConfig


@pytest.fixture(scope="module")
def codec():
    return build_intra_codec(IntraConfig(model_name="bmshj2018-hyperprior", quality=1, pretrained=False))


def test_stream_equals_decoder_and_damage_is_found(codec):
    x = torch.rand(1, 3, 70, 90)
    payload, x_hat = codec.compress(x)
    assert torch.equal(codec.decompress(payload), x_hat)
    assert x_hat.shape == x.shape
    for damaged in (payload[:-1], payload[:3], b"", bytes([payload[0] ^ 1]) + payload[1:], payload[:-1] + b"\0\0"):
        with pytest.raises(BitstreamError):
            codec.decompress(damaged)


def test_a_stream_of_other_weights_is_named(codec):
    torch.manual_seed(5)
    other = build_intra_codec(IntraConfig(model_name="bmshj2018-hyperprior", quality=1, pretrained=False))
    with pytest.raises(BitstreamError, match="made with model [0-9a-f]{8}, this one is [0-9a-f]{8}"):
        other.decompress(codec.compress(torch.rand(1, 3, 70, 90))[0])


def test_bits_over_unpadded_pixels_as_for_a_bare_model(codec):
    x = torch.rand(2, 3, 70, 90)
    ours, bpp = compress_i_frame_with_padding(codec, x)
    bare, bare_bpp = compress_i_frame_with_padding(codec.model, x)
    assert bpp == pytest.approx(float(ours.total_bits) / (2 * 70 * 90))
    assert bare_bpp == pytest.approx(bpp, rel=1e-5)
    assert torch.allclose(ours["x_hat"], bare["x_hat"], atol=1e-5)
    assert not codec.train().model.training


def test_bad_names_and_files(tmp_path):
    with pytest.raises(InputError, match="did you mean 'bmshj2018-hyperprior'"):
        build_intra_codec(IntraConfig(model_name="bmshj2018-hyperprio", pretrained=False))
    with pytest.raises(InputError, match="--i_frame_quality"):
        build_intra_codec(IntraConfig(model_name="bmshj2018-hyperprior", quality=99, pretrained=False))
    with pytest.raises(MissingError):
        build_intra_codec(IntraConfig(model_name="bmshj2018-hyperprior", checkpoint=str(tmp_path / "none.pth")))
    torch.save({"a": torch.zeros(1)}, tmp_path / "bad.pth")
    with pytest.raises(InputError, match="does not fit"):
        build_intra_codec(IntraConfig(model_name="bmshj2018-hyperprior", checkpoint=str(tmp_path / "bad.pth")))


def test_weights_from_a_file(tmp_path, codec):
    torch.save(codec.model.state_dict(), tmp_path / "w.pth")
    again = build_intra_codec(IntraConfig(model_name="bmshj2018-hyperprior", quality=1,
                                          checkpoint=str(tmp_path / "w.pth")))
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(again(x).x_hat, codec(x).x_hat)
    assert "cheng2020-anchor" in import_zoo()
