"""I-frames coded from pictures in the model: which frames are, what they cost, bytes, damage, files."""

import io
import subprocess
import sys
from fractions import Fraction

import pytest
import torch
from kit.light_models import TINY_LIGHT_INTRA, tiny_light_codec

from dcvc.checkpoint import load_codec, save_pretrained
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.video_codec import VideoCodec
from dcvc.entropy.frame_head import split_head
from dcvc.errors import BitstreamError, InputError
from dcvc.inter import DCVC
from dcvc.inter.registry import codec_entry
from dcvc.interfaces import FrameCodec
from dcvc.intra.light.loading import load_light_intra
from dcvc.intra.scene import SceneConfig, load_scene, scene_of

SIZE = (48, 80)


def place(seed: int = 0, size: tuple[int, int] = SIZE) -> torch.Tensor:
    """A picture that costs many bits: noise, a little smoothed. uint8 (3, H, W)."""
    noise = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1, count_include_pad=False)
    return smooth[0].mul(255).round().to(torch.uint8)


def frame(seed: int = 0, size: tuple[int, int] = SIZE) -> torch.Tensor:
    """The place with somebody in it, float (1, 3, H, W)."""
    x = place(seed, size)[None].float() / 255
    x[..., 16:40, 24:40] = 0.5
    return x


def bound(light, pictures):
    scene = scene_of(light.intra, pictures)
    scene.bind(light.p_frame)
    return scene


@pytest.fixture(scope="module")
def light():
    return tiny_light_codec()


@pytest.fixture(scope="module")
def scene(light):
    return bound(light, [place(0), place(1)])


def test_it_is_a_frozen_frame_codec(scene):
    assert isinstance(scene, FrameCodec)
    assert not scene.train().training
    assert not any(parameter.requires_grad for parameter in scene.parameters())


@pytest.mark.parametrize("seed", [0, 1])
def test_a_known_place_costs_what_is_new_in_it(light, scene, seed):
    x = frame(seed)
    assert scene.choose(x, 40) == seed + 1
    payload, x_hat = scene.compress(x, 40)
    plain, plain_x_hat = light.intra.compress(x, 40)
    assert len(payload) < 0.7 * len(plain)
    assert (x_hat - x).square().mean() < 1.5 * (plain_x_hat - x).square().mean()
    assert torch.equal(scene.decompress(payload), x_hat)


@pytest.mark.parametrize("x", [frame(7), frame(0, (32, 32)), frame(0, (49, 80))],
                         ids=["another place", "another size", "almost the size"])
def test_other_frames_are_coded_as_ever(light, scene, x):
    payload, x_hat = scene.compress(x, 40)
    plain, plain_x_hat = light.intra.compress(x, 40)
    assert payload == plain[:1] + b"\0" + plain[1:]
    assert torch.equal(x_hat, plain_x_hat)
    assert torch.equal(scene.decompress(payload), x_hat)


def test_estimates_are_those_of_what_is_written(scene):
    x = torch.cat([frame(0), frame(7), frame(1)])
    qualities = torch.tensor([20.0, 50.0, 63.0])
    output = scene.reconstruct(x, qualities)
    coded = [scene.compress(one[None], float(quality)) for one, quality in zip(x, qualities, strict=True)]
    assert torch.equal(output.x_hat, torch.cat([x_hat for _, x_hat in coded]))
    written = 8 * sum(len(payload) for payload, _ in coded)
    assert written == pytest.approx(float(output.total_bits), rel=0.02, abs=3 * 200)


def test_a_stream_is_decoded_from_any_i_frame_by_another_process(light, scene, tmp_path):
    codec = VideoCodec(light.p_frame, scene)
    save_pretrained(codec, tmp_path / "model")
    frames = [place(0).roll(shift, 2) if shift == 3 else (frame(shift % 2)[0] * 255).round().to(torch.uint8)
              for shift in range(6)]
    header = codec.header(SIZE, Fraction(25), len(frames), gop=2)
    with open(tmp_path / "clip.dcvc", "wb") as file:
        shown = [coded.x_hat for coded in codec.encode(frames, header, file, verify=True)]
    code = ("import sys, torch\n"
            "from dcvc.checkpoint import load_codec\nfrom dcvc.codec.stream_reader import StreamReader\n"
            "reader = StreamReader(open(sys.argv[2], 'rb'), sys.argv[2])\n"
            "torch.save(list(load_codec(sys.argv[1]).decode(reader, start=2)), sys.argv[3])")
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "model"),
                    str(tmp_path / "clip.dcvc"), str(tmp_path / "shown.pt")], check=True)
    for found, expected in zip(torch.load(tmp_path / "shown.pt", weights_only=True), shown[2:], strict=True):
        assert torch.equal(found, expected)


def test_another_picture_is_another_model(light, scene):
    codec = VideoCodec(light.p_frame, scene)
    file = io.BytesIO()
    list(codec.encode([place(0)], codec.header(SIZE, Fraction(25), 1, gop=1), file))
    other = VideoCodec(light.p_frame, scene_of(light.intra, [place(0), place(2)]))
    file.seek(0)
    with pytest.raises(BitstreamError, match="I-frame weights found .* give the model that made the stream"):
        list(other.decode(StreamReader(file, "clip.dcvc")))


@pytest.mark.parametrize("seed", [0, 7])
def test_damage_is_found(scene, seed):
    """Every byte changed, every length: of a frame from a picture and of one without."""
    payload, _ = scene.compress(frame(seed), 30)
    for place_of_damage in range(len(payload)):
        for wrong in (payload[:place_of_damage],
                      payload[:place_of_damage] + bytes([payload[place_of_damage] ^ 0x11])
                      + payload[place_of_damage + 1:]):
            with pytest.raises(BitstreamError, match="I-frame|begins with no quality|payload"):
                scene.decompress(wrong)
    with pytest.raises(BitstreamError):
        scene.decompress(payload + b"\0")


def test_a_picture_that_is_not_there_is_told(light, scene):
    one = bound(light, [place(0)])
    payload, _ = scene.compress(frame(1), 30)
    assert split_head(payload)[1][0] == 2
    with pytest.raises(BitstreamError, match="found picture 2 of size 80x48, this model has no such picture"):
        one.decompress(payload)


def test_without_its_p_frame_codec_frames_are_coded_as_ever(light, scene):
    alone, x = scene_of(light.intra, [place(0)]), frame(0)
    assert alone.choose(x, 30) == 0
    with pytest.raises(InputError, match="coded from a picture, needed the P-frame codec of its model"):
        alone.decompress(scene.compress(x, 30)[0])
    # One of other qualities cannot serve.
    alone.bind(DCVC(codec_entry("dcvc2021").size("tiny")))
    assert alone.choose(x, 30) == 0


def test_files_hold_pictures_and_the_codec_below_them(light, scene, tmp_path):
    file = save_pretrained(VideoCodec(light.p_frame, scene), tmp_path / "model", half=True)
    loaded = load_codec(tmp_path / "model").intra
    assert loaded.config == scene.config
    assert all(map(torch.equal, loaded.pictures(), [place(0), place(1)]))
    assert len(loaded.state_dict()) == len(light.intra.state_dict()) + 2
    assert all(map(torch.equal, load_scene(file).pictures(), scene.pictures()))
    inside, x = load_light_intra(file), frame(7)
    assert inside.config == TINY_LIGHT_INTRA
    assert inside.compress(x, 20)[0] == loaded.intra.compress(x, 20)[0]
    plain = save_pretrained(light, tmp_path / "plain")
    with pytest.raises(InputError, match="found I-frame codec light, needed scene"):
        load_scene(plain)


def test_bad_input(light, scene):
    with pytest.raises(InputError, match=r"SceneConfig.pictures: found 0, needed 1 ... 16"):
        scene_of(light.intra, [])
    with pytest.raises(InputError, match="SceneConfig.pictures: found 17"):
        SceneConfig(TINY_LIGHT_INTRA, ((8, 8),) * 17)
    with pytest.raises(InputError, match=r"picture: found torch.float32 .* needed uint8"):
        scene_of(light.intra, [torch.rand(3, 8, 8)])
    with pytest.raises(InputError, match=r"needs 0\.\.\.63"):
        scene.compress(frame(0), 64)
    with pytest.raises(InputError, match="batch of 2"):
        scene.compress(torch.rand(2, 3, *SIZE))
