"""Exact streams of DCVC-2021 and of the published light codecs: on request, and then the same bytes under every
setting."""

import copy
import functools
import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from kit.damage import TINY, DeflatedIntra, calmed
from kit.exact_settings import onednn
from kit.exact_streams import GOLDEN_ON_REQUEST, golden_on_request, moving_frames
from kit.light_models import tiny_light_codec, tiny_published_codec
from torch import nn

from dcvc.checkpoint import give_ranges, load_codec, save_pretrained, write_codecs
from dcvc.cli import main
from dcvc.codec import exact_ranges
from dcvc.codec.encoder import Encoder
from dcvc.codec.exact_ranges import RANGES
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.video_codec import VideoCodec
from dcvc.device import computing_threads
from dcvc.entropy.factorized import CumulativeModel
from dcvc.entropy.tables import factorized_tables, tables_crc
from dcvc.errors import BitstreamError, InputError
from dcvc.inter import DCVC
from dcvc.inter.dcvc2021.config import DCVCConfig
from dcvc.interfaces import codes_in_lanes
from dcvc.layers import GDN, block_float
from dcvc.video.writer import VideoWriter
from dcvc.weights import read_checkpoint

# Padded to 64 x 128 in P-frames of DCVC-2021.
SIZE, COUNT = (42, 70), 3
FRAMES = moving_frames(COUNT, SIZE)
CONFIGS = {"laplace": DCVCConfig(26, 12, 16, 8, (8, 8, 8, 8), 8),
           "gaussian": DCVCConfig(8, 12, 16, 8, (8, 8, 8, 8), 8, "gaussian", "bottleneck", "scale_mean")}


KINDS = (*CONFIGS, "uf")


@functools.cache
def codec(kind: str = "laplace") -> VideoCodec:
    torch.manual_seed(3)
    if kind == "uf":
        return tiny_published_codec()
    p_frame = calmed(DCVC(CONFIGS[kind]))
    # Unlike untrained ones: nothing is near zero.
    with torch.no_grad():
        for name, value in p_frame.named_parameters():
            if not name.startswith(("bitEstimator", "opticFlow")):
                value.add_(0.02 * torch.randn_like(value))
    return VideoCodec(p_frame, tiny_light_codec().intra)


def coded(form: VideoCodec) -> tuple[bytes, list]:
    file = io.BytesIO()
    header = form.header(SIZE, Fraction(25), COUNT, COUNT, source=b"test")
    found = list(form.encode(FRAMES, header, file))
    return file.getvalue(), found


@functools.cache
def stream(kind: str = "laplace") -> bytes:
    return coded(codec(kind).exact_form())[0]


def digest(frames: Iterator[torch.Tensor]) -> str:
    found = sha256()
    for frame in frames:
        found.update(frame.contiguous().numpy())
    return found.hexdigest()


def shown(of: VideoCodec, data: bytes) -> list[torch.Tensor]:
    """Every frame's CRC is compared too."""
    return list(of.decode(StreamReader(io.BytesIO(data))))


# ---- the same bytes everywhere

@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_decodes_to_what_the_encoder_had_under_every_setting(kind):
    data, found = coded(codec(kind).exact_form())
    assert StreamReader(io.BytesIO(data)).header.exact
    expected = digest(frame.x_hat for frame in found)
    assert len({digest([frame.x_hat]) for frame in found}) == COUNT
    plain = codec(kind)
    relaid = VideoCodec(*(copy.deepcopy(part).to(memory_format=torch.channels_last)
                          for part in (plain.p_frame, plain.intra)))
    for of, threads, enabled, band in ((plain, 1, True, 3072), (plain, 2, False, 1500), (relaid, 3, True, 10**6)):
        with computing_threads(threads), onednn(enabled), patch.object(block_float, "BAND", band):
            assert digest(shown(of, data)) == expected
    with torch.autocast("cpu", torch.bfloat16):
        assert digest(shown(plain, data)) == expected


@pytest.mark.parametrize("kind", GOLDEN_ON_REQUEST)
def test_golden_streams_decode(kind):
    """Coded by the version that had these forms first; `python benchmarks/golden_exact.py tests/codec` writes them
    anew. Tables, integers of weights and every frame are compared by their CRCs."""
    frames = shown(golden_on_request(kind), (Path(__file__).parent / GOLDEN_ON_REQUEST[kind]).read_bytes())
    assert len(frames) == 4
    assert len({digest([frame]) for frame in frames}) == 4


PROGRAM = """
import sys, torch
from hashlib import sha256
from dcvc.checkpoint import load_codec
from dcvc.codec.stream_reader import StreamReader

torch.backends.mkldnn.enabled = False
torch.set_num_threads(3)
for model, stream in zip(sys.argv[1::2], sys.argv[2::2]):
    found = sha256()
    for frame in load_codec(model).decode(StreamReader(open(stream, "rb"))):
        found.update(frame.contiguous().numpy())
    print(found.hexdigest())
"""


def test_another_process_with_other_instructions_decodes_the_same_bytes(tmp_path):
    words = []
    for kind in KINDS:
        write_codecs(tmp_path / f"{kind}.pt", codec(kind).p_frame, codec(kind).intra)
        (tmp_path / f"{kind}.dcvc").write_bytes(stream(kind))
        words += [tmp_path / f"{kind}.pt", tmp_path / f"{kind}.dcvc"]
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "3"}
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], text=True, capture_output=True, env=environment)
    assert done.stdout.split() == [digest(shown(codec(kind), stream(kind))) for kind in KINDS], done.stderr


@pytest.mark.parametrize("kind", ["laplace", "uf"])
def test_an_encoder_writes_the_same_payloads_with_any_number_of_threads(kind):
    """Its own networks are floats, but torch computes with one thread there."""
    form, found = codec(kind).exact_form(), []
    for threads in (1, 3):
        with computing_threads(threads):
            found.append([record.payload for record in StreamReader(io.BytesIO(coded(form)[0]))])
    assert found[0] == found[1]
    # Each group of pictures would need gigabytes of its own.
    assert not codes_in_lanes(form.p_frame)


@pytest.mark.parametrize("kind", ["laplace", "uf"])
def test_what_an_encoder_computes_in_floats_does_not_reach_the_decoder(kind, monkeypatch):
    """An encoder with other last bits makes another stream, and every decoder agrees with it."""
    form = VideoCodec(codec(kind).p_frame, codec(kind).intra).exact_form()
    if kind == "uf":
        p_frame, intra = form.p_frame.model, form.intra.model
        for network in (p_frame.encoder, p_frame.hyper_encoder, intra.enc, intra.hyper_enc):
            monkeypatch.setattr(network, "forward", lambda *x, run=network.forward: run(*x) * 1.01)
    else:
        for name in ("opticFlow", "mvEncoder", "contextualEncoder", "priorEncoder", "mvpriorEncoder"):
            network = getattr(form.p_frame, name)
            setattr(form.p_frame, name, lambda *x, network=network: network(*x) * 1.01)
    data, found = coded(form)
    monkeypatch.undo()
    assert data != stream(kind)
    assert digest(shown(codec(kind), data)) == digest(frame.x_hat for frame in found)


def test_sums_that_round_are_noticed(monkeypatch):
    """What the comparisons above look for: one network's integers in bfloat16."""
    data, sums = stream(), block_float.BlockFloatConvolution._sum
    monkeypatch.setattr(block_float.BlockFloatConvolution, "_sum", staticmethod(
        lambda integers, *rest: sums(integers.bfloat16().double(), *rest)))
    with pytest.raises(BitstreamError, match="frame 1: "):
        shown(codec(), data)


# ---- what it costs

@pytest.mark.parametrize("kind", KINDS)
def test_exact_streams_cost_what_floats_do_and_show_the_same(kind):
    """Of the same I-frame: P-frames alone are compared, one after the other from the exact form's states."""
    plain = codec(kind)
    exact = plain.exact_form()
    states = [form.p_frame.start(exact.intra.reconstruct(FRAMES[0][None] / 255, 30.0).x_hat) for form in (plain, exact)]
    for frame in FRAMES[1:]:
        found = [form.p_frame.compress(state, frame[None] / 255)
                 for form, state in zip((plain, exact), states, strict=True)]
        sizes, states = [len(payload) for payload, _, _ in found], [state for _, _, state in found]
        errors = [float((output.x_hat - frame / 255).square().mean()) for _, output, _ in found]
        assert sizes[1] == pytest.approx(sizes[0], rel=0.02)
        assert 10 * abs(math.log10(errors[0] / errors[1])) < 0.02
        # After several frames symbols may differ here and there.
        assert float((found[0][1].x_hat - found[1][1].x_hat).abs().mean()) < 0.5 / 255


# ---- on request, and of which codecs

@pytest.mark.parametrize("kind", ["laplace", "uf"])
def test_streams_are_floats_unless_exact_ones_are_asked_for(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(exact_ranges, "measure_ranges", lambda *_: pytest.fail("ranges were measured"))
    file = save_pretrained(codec(kind), tmp_path / "saved")
    write_codecs(tmp_path / "best.pt", codec(kind).p_frame, codec(kind).intra)
    give_ranges(tmp_path / "best.pt")
    for path in (file, tmp_path / "best.pt"):
        assert RANGES not in read_checkpoint(path)
        loaded = load_codec(path)
        for exact in (None, False, True):
            encoder = Encoder(loaded, SIZE, 25, frames=1, exact=exact, source=b"test")
            data = b"".join(packet.data for packet in encoder.packets(FRAMES[:1]))
            assert StreamReader(io.BytesIO(data)).header.exact == bool(exact)


@pytest.fixture
def video(tmp_path) -> Path:
    with VideoWriter(tmp_path / "in.mp4", SIZE[::-1]) as writer:
        for frame in FRAMES[:3]:
            writer.write(frame.permute(1, 2, 0).numpy())
    return tmp_path / "in.mp4"


@pytest.mark.parametrize("kind", ["laplace", "uf"])
def test_the_commands_write_and_read_them(kind, video, tmp_path, capsys):
    write_codecs(tmp_path / "best.pt", codec(kind).p_frame, codec(kind).intra)
    words = ["--model", str(tmp_path / "best.pt"), "--quiet", "--device", "cpu"]
    data, target = str(tmp_path / "a.dcvc"), str(tmp_path / "a.y4m")
    assert main(["encode", str(video), data, "--exact", "--verify", "--json", *words]) == 0
    assert json.loads(capsys.readouterr().out)["exact"]
    assert main(["decode", data, target, "--strict", *words]) == 0
    assert Path(target).stat().st_size > 3 * SIZE[0] * SIZE[1]


def test_i_frames_without_an_exact_form_are_refused_in_one_line():
    other = VideoCodec(codec().p_frame, DeflatedIntra())
    with pytest.raises(InputError, match=r"^exact arithmetic: found codec .*, needed light or dcvc2021 with light "
                                         "I-frames$"):
        other.exact_form()
    assert not other.form(None).exact


def test_weights_that_are_too_large_are_refused_with_their_layer(video, tmp_path, capsys):
    torch.manual_seed(0)
    cases = {"contextualDecoder_part2.1.conv2": r"found a weight of", "mvDecoder_part1.3": "found a weight of",
             "entropy_parameters.2": "found weights whose magnitudes add up to",
             "auto_regressive_mv": "found weights whose magnitudes add up to"}
    for layer, told in cases.items():
        p_frame = DCVC(TINY)
        module = p_frame.get_submodule(layer)
        with torch.no_grad():
            (module.weight if hasattr(module, "weight") else module.gamma).mul_(1e9)
        write_codecs(tmp_path / "best.pt", p_frame, codec().intra)
        words = ["--model", str(tmp_path / "best.pt"), "--exact", "--quiet", "--device", "cpu"]
        assert main(["encode", str(video), str(tmp_path / "a.dcvc"), *words]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {layer}: {told}")
        assert not (tmp_path / "a.dcvc").exists()


@pytest.mark.parametrize("kind", ["laplace", "uf"])
def test_other_rounded_weights_are_refused_before_the_first_frame(kind, monkeypatch):
    data = stream(kind)
    # As if another version rounded them in another way.
    monkeypatch.setattr(block_float, "WEIGHT_BITS", 19)
    other = VideoCodec(codec(kind).p_frame, codec(kind).intra)
    with pytest.raises(BitstreamError, match="integer tables found"):
        shown(other, data)


class ByPython(nn.Module):
    """The numbers of a CumulativeModel by Python's own functions, one by one."""

    def __init__(self, model: CumulativeModel) -> None:
        super().__init__()
        self.steps = [{name: value.flatten().tolist() for name, value in step.named_parameters()}
                      for step in (model.f1, model.f2, model.f3, model.f4)]
        self.register_buffer("medians", model.medians)

    def cumulative_logits(self, z: torch.Tensor) -> torch.Tensor:
        rows = [[self._logit(channel, value) for value in row] for channel, row in enumerate(z[0, :, 0].tolist())]
        return torch.tensor(rows, dtype=torch.float64)[None, :, None]

    def _logit(self, channel: int, x: float) -> float:
        for step in self.steps:
            x = x * math.log1p(math.exp(step["h"][channel])) + step["b"][channel]
            if "a" in step:
                x += math.tanh(x) * math.tanh(step["a"][channel])
        return x


def test_tables_of_z_are_the_same_by_another_library():
    """They are made in float64 from the weights on. With float32 functions of weights, another library's last bit
    would make other tables."""
    model, coder = codec().p_frame, codec().exact_form().p_frame.latent_coder()
    for name, part in (("z", model.bitEstimator_z), ("mv_z", model.bitEstimator_z_mv)):
        by_python = tables_crc(factorized_tables(ByPython(part)))
        assert by_python == tables_crc(coder.tables[name])
        # As streams in floats have them, and always had.
        assert by_python != tables_crc(model.latent_coder().tables[name])


def test_the_bits_of_every_layer_are_nearly_all_used():
    bounds = codec().exact_form().p_frame.bounds
    parts = ("mvpriorDecoder", "mvDecoder_part1", "mvDecoder_part2", "feature_extract", "context_refine",
             "priorDecoder", "temporalPriorEncoder", "contextualDecoder_part1", "contextualDecoder_part2")
    layers = [f"{part}.{name}" for part in parts for name, module in getattr(codec().p_frame, part).named_modules()
              if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | GDN)]
    assert sorted(bound.layer for bound in bounds) == sorted(layers)
    assert all(52 < bound.used <= bound.available == 53 for bound in bounds)
