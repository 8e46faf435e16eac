"""The light I-frame codec: bytes, qualities, frozen or trainable, where training begins, files."""

import pytest
import torch
from kit.uf_weights import uf_weights
from other_process import decode_elsewhere, moving_frames
from uf_golden import uf_shapes

from dcvc.checkpoint import i_frame_content
from dcvc.data import VideoReader
from dcvc.device import computing_threads
from dcvc.errors import BitstreamError, InputError
from dcvc.interfaces import FrameCodec
from dcvc.intra.light.config import SIZES, LightIntraConfig
from dcvc.intra.light.loading import intra_from_state_dict, is_light_intra, load_light_intra
from dcvc.intra.light.model import LightIFrameModel
from dcvc.weights import write_checkpoint

SMALL = LightIntraConfig(width=32, latent_channels=48, hyper_channels=16)


def stirred(model: LightIFrameModel) -> LightIFrameModel:
    """Every network takes part, as after training: blocks, prior and z of an untrained model are silent."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith(("q_", "bit_estimator_z.h")):
                parameter.add_(0.01 * torch.randn_like(parameter))
        model.hyper_enc.conv[-1].down.weight.mul_(0.5)
    return model


def test_it_is_a_frozen_frame_codec():
    model = LightIFrameModel(SMALL)
    assert isinstance(model, FrameCodec)
    assert not model.train().training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    output = model.forward(moving_frames(1, 40, 40), 20)
    assert not output.x_hat.requires_grad
    assert (output.x_hat.min() >= 0) & (output.x_hat.max() <= 1)


@pytest.mark.parametrize("autocast", [False, True])
def test_a_trainable_one_has_finite_gradients(autocast):
    model = LightIFrameModel(SMALL, trainable=True).train()
    assert model.training
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = model(moving_frames(2, 70, 90), torch.tensor([10.0, 60.0]))
    (output.total_bits + output.x_hat.float().square().sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["own", "published"])
def test_another_process_decodes_the_same_pictures(tmp_path, shared, kind, threads):
    if kind == "own":
        model = stirred(LightIFrameModel(SMALL))
    else:
        model = intra_from_state_dict(uf_weights("intra", uf_shapes(shared, "intra")), "rule")
    payloads, shown = [], []
    with computing_threads(threads):
        # The published model is slow, and one frame shows as much.
        jobs = ((0, (70, 101)), (32.5, (16, 15)), (63, (33, 64)))
        for quality, (height, width) in jobs if kind == "own" else jobs[1:2]:
            x = moving_frames(1, height, width)
            payload, x_hat = model.compress(x, quality)
            payloads.append(payload)
            shown.append(x_hat)
            output = model.reconstruct(x, quality)
            assert torch.equal(output.x_hat, x_hat)
            assert x_hat.shape == x.shape
            if kind == "own":
                assert 8 * len(payload) == pytest.approx(float(output.total_bits), rel=0.02, abs=160)
    done = decode_elsewhere(tmp_path, kind="intra", config=model.config, weights=model.state_dict(),
                            payloads=payloads, threads=threads)
    for found, expected in zip(done["shown"], shown, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("size", ["s", "m", "l"])
def test_an_untrained_model_is_a_transform_codec(clips, size):
    with VideoReader(clips / "val" / "udacity_vehicle.mp4") as reader:
        frame = reader.read(0, 1).float() / 255
    frame = torch.nn.functional.interpolate(frame, scale_factor=0.3, mode="area")
    model = LightIFrameModel(SIZES[size])
    found = [model.forward(frame, quality) for quality in (0, 32, 63)]
    decibels = [float(-10 * torch.log10((output.x_hat - frame).square().mean())) for output in found]
    assert decibels[1] >= 24
    assert decibels[0] < decibels[1] < decibels[2]
    assert float(found[0].total_bits) < float(found[1].total_bits) < float(found[2].total_bits)
    # What the hyperprior says costs little, and less than a tenth of what it is about.
    assert float(found[1].bits["z"]) / (frame.shape[-1] * frame.shape[-2]) < 0.01
    assert float(found[1].bits["z"]) < 0.1 * float(found[1].bits["y"])


def test_damage_is_found():
    model = LightIFrameModel(SMALL)
    payload, _ = model.compress(moving_frames(1, 40, 56), 30)
    for wrong in (b"", payload[:9], payload[:-1], payload[:12] + bytes([payload[12] ^ 1]) + payload[13:]):
        with pytest.raises(BitstreamError, match="I-frame|begins with no quality"):
            model.decompress(wrong)


def test_bad_input():
    model = LightIFrameModel(SMALL)
    with pytest.raises(InputError, match=r"needs 0\.\.\.63"):
        model.forward(torch.rand(1, 3, 32, 32), -1)
    with pytest.raises(InputError, match="batch of 2"):
        model.compress(torch.rand(2, 3, 32, 32))
    with pytest.raises(InputError, match="LightIntraConfig.latent_channels"):
        LightIntraConfig(latent_channels=30)
    with pytest.raises(InputError, match="LightIntraConfig.steps"):
        LightIntraConfig(steps=4)


def test_files_hold_the_configuration(tmp_path):
    model = LightIFrameModel(SMALL)
    write_checkpoint(tmp_path / "intra.pt", i_frame_content(model))
    loaded = load_light_intra(tmp_path / "intra.pt")
    assert loaded.config == SMALL
    x = moving_frames(1, 32, 32)
    assert torch.equal(loaded.forward(x, 9).x_hat, model.forward(x, 9).x_hat)


def test_published_files_are_recognised(tmp_path, shared):
    state = {f"module.{name}": torch.zeros(shape) for name, shape in uf_shapes(shared, "intra").items()}
    for content in ({"state_dict": state}, {"epoch": 3, "net": state, "opt": {}}):
        torch.save(content, tmp_path / "cvpr2026_image.pth.tar")
        assert load_light_intra(tmp_path / "cvpr2026_image.pth.tar").config == SIZES["uf-intra"]
    assert not is_light_intra({"g_a.0.weight": torch.zeros(1)})
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="other.pt: found 1 entries, needed a light I-frame codec"):
        load_light_intra(tmp_path / "other.pt")
