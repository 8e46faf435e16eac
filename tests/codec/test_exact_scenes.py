"""I-frames coded from pictures in the model, by exact arithmetic."""

import io

import numpy as np
import pytest
import torch
from integer_decoder import IntegerDecoder
from kit.exact_settings import Setting, computed
from kit.light_models import tiny_light_codec
from torch import Tensor

from dcvc.checkpoint import load_codec, save_pretrained
from dcvc.codec.encoder import Encoder
from dcvc.codec.exact_ranges import measure_ranges
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.video_codec import VideoCodec
from dcvc.entropy.frame_head import split_head
from dcvc.interfaces import to_levels
from dcvc.intra.scene import scene_of

SIZE = (48, 80)


def place(seed: int) -> Tensor:
    """A picture that costs many bits, uint8 (3, H, W)."""
    noise = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1)[0].mul(255).round().to(torch.uint8)


def frame(seed: int) -> Tensor:
    """The place with somebody in it, float (1, 3, H, W)."""
    x = place(seed)[None].float() / 255
    x[..., 16:40, 24:40] = 0.5
    return x


@pytest.fixture(scope="module")
def light() -> VideoCodec:
    return tiny_light_codec()


@pytest.fixture(scope="module")
def exact(light):
    """A codec with a picture in exact form, ranges measured."""
    scene = scene_of(light.intra, [place(0)])
    codec = VideoCodec(light.p_frame, scene)
    return VideoCodec(light.p_frame, scene, measure_ranges(codec.p_frame, scene)).form()


def test_its_ranges_are_those_of_both_codecs_below(exact, light):
    alone = measure_ranges(light.p_frame, light.intra)
    inside = {f"intra.{name}" for name in alone.intra}
    assert (set(exact.ranges.p_frame), set(exact.ranges.intra)) == (set(alone.p_frame), inside)
    # Measured ones are what limits its numbers, not those of a model that nobody measured.
    assert exact.intra.crc == light.intra.exact_form(
        {name.removeprefix("intra."): value for name, value in exact.ranges.intra.items()}).crc


@pytest.mark.parametrize(("x", "number"), [(frame(0), 1), (frame(7), 0)], ids=["known place", "another place"])
def test_exact_frames_from_a_picture_and_without_decode_to_the_same_bytes_under_other_sums(exact, x, number):
    payload, x_hat = exact.intra.compress(x, 40)
    assert split_head(payload)[1][0] == number
    assert torch.equal(exact.intra.decompress(payload), x_hat)
    # As on other devices: torch's own sums, other threads, no loops.
    with computed(Setting(sums="im2col", threads=2, onednn=False)):
        assert torch.equal(exact.intra.decompress(payload), x_hat)
    assert torch.equal(to_levels(x_hat).float() / 255, x_hat)


def test_a_decoder_of_integers_alone_decodes_an_i_frame_from_a_picture(exact, light):
    payload, x_hat = exact.intra.compress(frame(0), 40)
    head, body = split_head(payload)

    def arrays(module):
        return {name: value.numpy() for name, value in module.state_dict().items()}

    decoder = IntegerDecoder((arrays(light.p_frame), exact.ranges.p_frame), (arrays(light.intra), {}))
    # Behind the picture's number, the checksum and the size it is a P-frame that follows the picture.
    decoder.show(place(0).numpy())
    shown = decoder.decode(2, head.to_bytes() + body[1 + 4 + 4:], SIZE)
    assert np.array_equal(shown, to_levels(x_hat)[0].numpy())


def test_a_model_with_pictures_is_saved_with_its_ranges_and_codes_exactly(light, tmp_path):
    codec = VideoCodec(light.p_frame, scene_of(light.intra, [place(0)]))
    read = load_codec(save_pretrained(codec, tmp_path / "model", half=True))
    clip, file = [place(0), place(1), place(0)], io.BytesIO()
    encoder = Encoder(read, SIZE, 25, intra_period=2, frames=3, verify=True)
    for packet in encoder.packets(clip):
        file.write(packet.data)
    assert encoder.header.exact
    reader = StreamReader(io.BytesIO(file.getvalue()))
    assert len(list(load_codec(tmp_path / "model").decode(reader))) == 3
