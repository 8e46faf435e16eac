"""The light P-frame codec: bytes, qualities, gradients, cost, where training begins, foreign weights."""

import copy
import dataclasses
import io
from fractions import Fraction

import pytest
import torch
from kit.uf_weights import uf_weights
from other_process import decode_elsewhere, moving_frames
from uf_golden import uf_shapes

from dcvc.checkpoint import i_frame_content, load_codec, load_p_frame_checkpoint, load_p_frame_model, write_codecs
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.video_codec import VideoCodec
from dcvc.data import VideoReader
from dcvc.device import computing_threads
from dcvc.errors import BitstreamError, InputError
from dcvc.inter.light.config import SIZES, LightConfig
from dcvc.inter.light.loading import is_light, light_from_state_dict
from dcvc.inter.light.model import QUALITY, LightPFrameModel
from dcvc.inter.registry import inter_entry
from dcvc.interfaces import PFrameCodec, to_levels
from dcvc.intra.config import IntraConfig
from dcvc.intra.light.config import LightIntraConfig
from dcvc.intra.light.model import LightIFrameModel
from dcvc.intra.registry import build_intra_codec
from dcvc.weights import weights_hash, write_checkpoint

SMALL = LightConfig(width=32, latent_channels=24, hyper_channels=16)


@pytest.fixture
def small() -> LightPFrameModel:
    return LightPFrameModel(SMALL)


def stirred(model: LightPFrameModel) -> LightPFrameModel:
    """Every network takes part, as after training: blocks, prior and z of an untrained model are silent."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith(("q_", "bit_estimator_z.h")):
                parameter.add_(0.01 * torch.randn_like(parameter))
        model.hyper_encoder.conv[-1].down.weight.mul_(4)
    return model.eval()


def test_it_is_a_p_frame_codec(small):
    assert isinstance(small, PFrameCodec)
    assert small.part_parameters("all") == [name for name, _ in small.named_parameters()]
    with pytest.raises(InputError, match="part"):
        small.part_parameters("motion")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["own", "published"])
def test_another_process_decodes_the_same_pictures(tmp_path, shared, kind, threads):
    """Odd size, another quality at each frame, fractions too, and a refresh in the middle."""
    if kind == "own":
        model = stirred(LightPFrameModel(SMALL))
    else:
        model = light_from_state_dict(uf_weights("ld", uf_shapes(shared, "ld")), "rule").eval()
    frames = moving_frames(5, 70, 101)
    state, payloads, outputs = model.start(frames[:1]), [], []
    with computing_threads(threads):
        for t, quality in enumerate((32, 0, 62.37, 63), 1):
            payload, output, state = model.compress(state, frames[t:t + 1], quality, refresh=t == 2)
            payloads.append(payload)
            outputs.append(output)
    done = decode_elsewhere(tmp_path, kind="inter", config=model.config, weights=model.state_dict(),
                            payloads=payloads, threads=threads, first=frames[:1])
    for t, (payload, output) in enumerate(zip(payloads, outputs, strict=True)):
        assert torch.equal(done["shown"][t], output.x_hat), f"frame {t + 1}"
        assert output.x_hat.shape == frames[:1].shape
        assert (output.x_hat.min() >= 0) & (output.x_hat.max() <= 1)
        cost = done["costs"][t]
        assert set(cost) == set(model.terms)
        assert sum(cost.values()) == pytest.approx(8 * (len(payload) - 1), abs=64)
        assert cost["y"] == pytest.approx(float(output.bits["y"]), rel=0.01, abs=16)
        # These weights know nothing of their z: a good part of it is beyond its tables.
        assert cost["z"] == pytest.approx(float(output.bits["z"]), rel=0.1, abs=16)
    if kind == "own":
        # With another number of threads last bits differ, and a pixel by a quarter of a grey level
        # here and there, but no symbol.
        other = decode_elsewhere(tmp_path, kind="inter", config=model.config, weights=model.state_dict(),
                                 payloads=payloads, threads=3 - threads, first=frames[:1])
        for x_hat, output in zip(other["shown"], outputs, strict=True):
            assert torch.allclose(x_hat, output.x_hat, atol=1e-2)


@pytest.mark.parametrize("size", ["s", "m"])
def test_symbols_do_not_hang_on_last_bits(size):
    """A machine that computes a little differently reads the same symbols: only means move."""
    model = stirred(LightPFrameModel(SIZES[size]))
    frames = moving_frames(4, 48, 80)
    state = other = model.start(frames[:1])
    for t, quality in ((1, 20), (2, 50.25), (3, 33)):
        payload, output, state = model.compress(state, frames[t:t + 1], quality)
        # Far more than another number of threads does.
        memory = None if other.memory is None else other.memory + 1e-4 * torch.randn_like(other.memory)
        feature = other.feature + 1e-4 * torch.randn_like(other.feature)
        picture = other.picture + (torch.rand_like(other.picture) < 0.01) / 1024
        other = other._replace(memory=memory, feature=feature, picture=picture)
        x_hat, other = model.decompress(other, payload)
        assert torch.equal(other.trace, state.trace)
        assert torch.equal(other.vectors, state.vectors)
        assert 0 < float((x_hat - output.x_hat).abs().max()) < 0.02
    assert state.trace[:, :model.config.latent_channels].abs().sum() > 0


def test_reconstruct_shows_what_is_written(small):
    model = stirred(small)
    frames = moving_frames(3, 64, 50)
    state = other = model.start(frames[:1])
    for t, quality in ((1, 20.4), (2, None)):
        payload, written, state = model.compress(state, frames[t:t + 1], quality)
        shown, other = model.reconstruct(other, frames[t:t + 1], quality)
        assert torch.equal(shown.x_hat, written.x_hat)
        assert torch.equal(state.feature, other.feature)
        assert 8 * len(payload) == pytest.approx(float(shown.total_bits), rel=0.02, abs=64)
    assert payload[0] == 4 * QUALITY.default


def test_fractions_of_a_quality_lie_between_their_neighbours():
    table = torch.rand(64, 5) + 0.5
    values = QUALITY.vector(table, torch.tensor([7.0, 7.5, 63.0]))[:, :, 0, 0]
    assert torch.equal(values[0], table[7])
    assert torch.allclose(values[1], (table[7] * table[8]).sqrt())
    assert torch.equal(values[2], table[63])
    # An entry that crossed zero: training sees its sign above its row alone, where the highest has nothing.
    crossed = torch.tensor([[2.0, 2.0], [1.0, -1.0], [-0.5, 0.5]])
    values = QUALITY.vector(crossed, torch.tensor([31.5, 62.9999, 63.0]))[:, :, 0, 0]
    assert values[0].tolist() == [1.0, -1.0]
    assert torch.allclose(values[1], values[2], atol=1e-3)
    assert values[2].tolist() == [0.5, -0.5]
    # Eight rows lie nine qualities apart.
    assert torch.allclose(QUALITY.vector(table[:8], torch.tensor([18.0]))[0, :, 0, 0], table[2])


def test_each_sample_may_have_its_quality(small):
    model = stirred(small)
    frames = moving_frames(2, 48, 64)
    state = model.start(frames[:1].expand(2, -1, -1, -1))
    output, after = model(state, frames[1:].expand(2, -1, -1, -1), torch.tensor([5.0, 50.5]))
    for i, quality in enumerate((5.0, 50.5)):
        alone, state = model(model.start(frames[:1]), frames[1:], quality)
        assert torch.allclose(output.x_hat[i], alone.x_hat[0], atol=1e-4)
        assert torch.allclose(after.feature[i], state.feature[0], atol=1e-3)


def test_higher_quality_costs_and_shows_more():
    model = LightPFrameModel(SIZES["s"]).eval()
    frames = moving_frames(2, 64, 64)
    found = [model.reconstruct(model.start(frames[:1]), frames[1:], quality)[0] for quality in (0, 32, 63)]
    errors = [float((output.x_hat - frames[1:]).square().mean()) for output in found]
    assert errors[0] > errors[1] > errors[2]
    assert float(found[0].total_bits) < float(found[1].total_bits) < float(found[2].total_bits)


@pytest.mark.parametrize("autocast", [False, True])
def test_every_parameter_has_a_finite_gradient(small, autocast):
    model = small.train()
    frames = moving_frames(3, 70, 90)
    state, loss = model.start(frames[:1].expand(2, -1, -1, -1)), 0
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        for t in (1, 2):
            output, state = model(state, frames[t:t + 1].expand(2, -1, -1, -1), torch.tensor([10.0, 60.0]))
            assert output.x_hat.shape == (2, 3, 70, 90)
            assert all(value.dtype == torch.float32 and value.dim() == 0 for value in output.bits.values())
            loss = loss + output.total_bits + (output.x_hat.float() - frames[t:t + 1]).square().sum()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert all(value is None or not value.requires_grad for value in state.detach()[:2])


def test_a_few_steps_of_training_lower_the_loss(small):
    model = small.train()
    frames = moving_frames(3, 64, 64)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        state, loss = model.start(frames[:1]), 0
        for t in (1, 2):
            output, state = model(state, frames[t:t + 1], 40)
            loss = loss + output.total_bits / 64**2 + 300 * (output.x_hat - frames[t:t + 1]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("size", ["s", "m", "l"])
def test_an_untrained_model_is_a_transform_codec(clips, size):
    with VideoReader(clips / "val" / "udacity_vehicle.mp4") as reader:
        frames = reader.read(0, 3).float() / 255
    frames = torch.nn.functional.interpolate(frames, scale_factor=0.3, mode="area")
    model = LightPFrameModel(SIZES[size]).eval()
    state = model.start(frames[:1])
    for t in (1, 2):
        output, state = model.reconstruct(state, frames[t:t + 1], 32)
        assert float(-10 * torch.log10((output.x_hat - frames[t:t + 1]).square().mean())) >= 24
        pixels = frames.shape[-1] * frames.shape[-2]
        assert float(output.bits["z"]) / pixels < 0.006
        # The search finds the road: moving costs less than what is left to say.
        assert float(output.bits["mv"]) < float(output.bits["y"])
    # The prediction is a copy: what does not move costs nearly nothing.
    still, _ = model.reconstruct(state, model.reconstruct(state, frames[2:], 32)[0].x_hat, 0)
    assert float(still.bits["y"]) / pixels < 0.05


def test_a_changed_weight_is_coded_with(small):
    """The integer tables follow the weights without being asked to."""
    before = small.tables_crc
    assert small.tables.z(0) is small.tables.z(0)
    assert copy.deepcopy(small).tables_crc == before
    with torch.no_grad():
        small.bit_estimator_z.h.add_(0.5)
    assert small.tables_crc != before


def test_bad_input(small):
    model = small.eval()
    frames = moving_frames(2, 64, 64)
    state = model.start(frames[:1])
    with pytest.raises(InputError, match=r"needs 0\.\.\.63"):
        model(state, frames[1:], 64)
    with pytest.raises(InputError, match="as the frame before it"):
        model(state, frames[1:, :, :-1])
    with pytest.raises(InputError, match="predicts no picture"):
        model(state, frames[1:], until="prediction")
    with pytest.raises(InputError, match="finite"):
        model.compress(state, frames[1:] * float("nan"))
    with pytest.raises(InputError, match="one frame"):
        model.compress(model.start(frames), frames)
    payload, _, _ = model.compress(state, frames[1:])
    for wrong in (b"", b"\xff\xff", payload + b"\1\2\3\4\5\6\7\x08"):
        with pytest.raises(BitstreamError):
            model.decompress(state, wrong)


def test_bad_configurations():
    for changes in ({"width": 0}, {"latent_channels": 33}, {"kernel": 4}, {"activation": "wsilu"},
                    {"topology": "published", "exact_scales": False}):
        with pytest.raises(InputError, match="LightConfig"):
            dataclasses.replace(SMALL, **changes)


def test_streams_of_both_light_codecs(small):
    clip = to_levels(moving_frames(4, 40, 56))
    codec = VideoCodec(stirred(small), LightIFrameModel(LightIntraConfig(32, 48, 16)))
    file = io.BytesIO()
    header = codec.header((40, 56), Fraction(25), 4, 3)
    written = [frame.x_hat for frame in codec.encode(clip, header, file, verify=True)]
    file.seek(0)
    assert all(map(torch.equal, codec.decode(StreamReader(file, "stream")), written))


def test_checkpoints_and_published_files_are_loaded(small, tmp_path, shared):
    write_checkpoint(tmp_path / "own.pt", {"inter": inter_entry(SMALL), "model": small.state_dict()})
    loaded = load_p_frame_model(tmp_path / "own.pt")
    assert loaded.config == SMALL
    assert all(torch.equal(value, small.state_dict()[name]) for name, value in loaded.state_dict().items())
    state = {f"module.{name}": torch.zeros(shape) for name, shape in uf_shapes(shared, "ld").items()}
    torch.save({"state_dict": state}, tmp_path / "cvpr2026_video_ld.pth.tar")
    assert load_p_frame_model(tmp_path / "cvpr2026_video_ld.pth.tar").config == SIZES["uf-ld"]


def test_one_file_holds_both_codecs(small, tmp_path):
    """Wherever the folder is moved to; with --i_frame_type light the same file serves as an I-frame codec's."""
    intra = LightIFrameModel(LightIntraConfig(32, 48, 16))
    write_codecs(tmp_path / "uf" / "model.pt", small, intra)
    (tmp_path / "uf").rename(tmp_path / "moved")
    codec, loaded = load_codec(tmp_path / "moved"), load_p_frame_checkpoint(tmp_path / "moved")
    expected = VideoCodec(small, intra)
    assert (codec.inter_hash, codec.intra_hash) == (expected.inter_hash, expected.intra_hash)
    assert codec.intra.config == intra.config
    assert loaded.intra == IntraConfig(type="light", checkpoint=str(tmp_path / "moved" / "model.pt"))
    assert weights_hash(build_intra_codec(loaded.intra).state_dict()) == weights_hash(intra.state_dict())
    write_checkpoint(tmp_path / "intra.pt", i_frame_content(intra))
    other = load_codec(tmp_path / "moved", intra=IntraConfig(type="light", checkpoint=str(tmp_path / "intra.pt")))
    assert other.intra_hash == expected.intra_hash
    with pytest.raises(InputError, match="intra.pt: holds an I-frame codec alone"):
        load_codec(tmp_path / "intra.pt")


def test_foreign_entries_are_named():
    state = LightPFrameModel(SIZES["uf-ld"]).state_dict()
    assert is_light(state)
    assert not is_light({"opticFlow.moduleBasic.0.conv1.weight": torch.zeros(1)})
    with pytest.raises(InputError, match="weights.pt: entry conv.weight is not part"):
        light_from_state_dict({**state, "conv.weight": torch.zeros(1)}, "weights.pt")
    del state["recon_head.head.bias"]
    with pytest.raises(InputError, match="recon_head.head.bias is missing"):
        light_from_state_dict(state, "weights.pt")
