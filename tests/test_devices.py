"""What another device changes: streams, training, exact scales, warping. On the CPU, and on DCVC_TEST_DEVICE."""

import io
import os
from fractions import Fraction

import pytest
import torch
from kit.light_models import TINY_LIGHT, TINY_LIGHT_INTRA, stirred

from dcvc.checkpoint import load_codec
from dcvc.codec.encoder import Encoder
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.video_codec import VideoCodec
from dcvc.demo.footage import Take, record, write_takes
from dcvc.inter.light.block_warp import to_picture_grid, warp
from dcvc.inter.light.model import LightPFrameModel
from dcvc.interfaces import from_levels
from dcvc.intra.light.model import LightIFrameModel

DEVICES = sorted({"cpu", os.environ.get("DCVC_TEST_DEVICE", "cpu")})
SIZE = (96, 64)


def frames(count: int) -> list[torch.Tensor]:
    return [torch.from_numpy(frame).permute(2, 0, 1) for frame in record(Take(2, 0, False), SIZE, count)]


def light_codec(device: str) -> VideoCodec:
    torch.manual_seed(0)
    p_frame, intra = stirred(LightPFrameModel(TINY_LIGHT)), stirred(LightIFrameModel(TINY_LIGHT_INTRA))
    return VideoCodec(p_frame.to(device), intra.to(device))


@pytest.mark.parametrize("device", DEVICES)
def test_a_stream_decodes_to_the_encoders_pictures(device):
    codec, file, clip = light_codec(device), io.BytesIO(), frames(4)
    header = codec.header((64, 96), Fraction(25), 4, 4)
    coded = list(codec.encode(clip, header, file, quality=[20, 40.25, 63, 5], refresh={2}))
    file.seek(0)
    decoded = [frame.cpu() for frame in codec.decode(StreamReader(file))]
    assert all(torch.equal(a.x_hat.cpu(), b) for a, b in zip(coded, decoded, strict=True))


@pytest.mark.parametrize("device", DEVICES)
def test_what_one_device_codes_the_cpu_decodes_and_the_other_way_round(device):
    """Exact streams, which nobody has to ask for. Every picture's checksum is compared, too."""
    here, there = load_codec("light-s"), load_codec("light-s", device)
    for encoder, decoder in ((here, there), (there, here)):
        made = Encoder(encoder, (64, 96), 25, quality=40, refresh={2}, frames=4)
        data = b"".join(packet.data for packet in made.packets(frames(4)))
        assert made.header.exact
        assert len(list(decoder.decode(StreamReader(io.BytesIO(data))))) == 4


@pytest.mark.parametrize("device", DEVICES)
def test_scales_are_the_cpus_to_the_last_bit(device):
    """From the same symbols and the same trace."""
    from dcvc.entropy.exact import ExactNetworks
    from dcvc.inter.light.scales import exact_hyper, exact_scales

    torch.manual_seed(1)
    z_hat = torch.randn(1, TINY_LIGHT.hyper_channels, 2, 2).mul(3).round()
    trace = torch.rand(1, 2 * TINY_LIGHT.latent_channels, 8, 8)
    found = []
    for place in ("cpu", device):
        model = light_codec("cpu").p_frame.to(place)
        networks = ExactNetworks(hyper=model.hyper_decoder, scale=model.scale_prior)
        steps, unit = (torch.full((1, n, 1, 1), 0.7, dtype=torch.float64, device=place)
                       for n in (TINY_LIGHT.hyper_channels, TINY_LIGHT.latent_channels))
        hyper = exact_hyper(networks, z_hat.to(place), steps)
        found.append(exact_scales(networks, hyper, trace.to(place), unit).cpu())
    assert torch.equal(*found)


@pytest.mark.parametrize("device", DEVICES)
def test_warping_is_the_cpus_to_the_last_bit(device):
    torch.manual_seed(2)
    picture = to_picture_grid(torch.rand(2, 3, 64, 96) - 0.5)
    vectors = torch.randint(-90, 90, (2, 2, 8, 12), dtype=torch.int32)
    assert torch.equal(warp(picture.to(device), vectors.to(device)).cpu(), warp(picture, vectors))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_few_steps_of_training(device, precision, tmp_path):
    from dataclasses import replace

    from dcvc.data.config import DataConfig
    from dcvc.inter.registry import codec_entry
    from dcvc.intra.config import IntraConfig
    from dcvc.training.config import TrainConfig
    from dcvc.training.job import Job
    from dcvc.training.trainer import train_stage

    write_takes([Take(2, 0, False)], tmp_path / "videos", 6, size=SIZE)
    stage = replace(codec_entry("light").stages[1], epochs=None, max_steps=3)
    data = DataConfig(use_video_dataset=True, train_video_dir=(str(tmp_path / "videos"),), crop_size=64, batch_size=2,
                      num_workers=0)
    outcome = train_stage(Job(
        stage=stage, data=data, intra=IntraConfig(type="light", size="s"),
        train=TrainConfig(skip_eval=True, use_ema=True, mixed_precision=precision), checkpoint_dir=tmp_path / "run",
        inter=TINY_LIGHT, device=device, quiet=True))
    assert (outcome.steps, outcome.skipped) == (3, 0)


@pytest.mark.parametrize("device", DEVICES)
def test_the_codec_of_2021_trains_and_codes(device):
    from dcvc.inter.registry import build_p_frame, codec_entry

    model = build_p_frame(codec_entry("dcvc2021").size("tiny")).to(device)
    clip = torch.stack([from_levels(frame) for frame in frames(2)])[:, None].to(device)
    output, _ = model(model.start(clip[0]), clip[1])
    output.x_hat.square().mean().backward()
    model.eval()
    codec, file = VideoCodec(model, stirred(LightIFrameModel(TINY_LIGHT_INTRA)).to(device)), io.BytesIO()
    header = codec.header((64, 96), Fraction(25), 3, 3)
    coded = list(codec.encode(frames(3), header, file))
    file.seek(0)
    decoded = list(codec.decode(StreamReader(file)))
    assert all(torch.equal(a.x_hat, b) for a, b in zip(coded, decoded, strict=True))
