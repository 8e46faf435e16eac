"""CompressAI's models: symbols that integers alone decide, on whatever machine they are read."""

import copy
import hashlib
import io
import os
import struct
import subprocess
import sys
from fractions import Fraction

import pytest
import torch
from kit.light_models import tiny_light_codec
from kit.zoo_models import sensible_zoo_model, soft_picture

from dcvc.codec.clip_coders import ClipDecoder
from dcvc.codec.drift import Drift
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.video_codec import VideoCodec
from dcvc.device import computing_threads
from dcvc.entropy.exact_convolution import ExactConvolutions
from dcvc.entropy.fixed_point import UNIT, to_grid
from dcvc.entropy.scales import scale_levels
from dcvc.entropy.tables import conditional_tables
from dcvc.errors import BitstreamError, InputError
from dcvc.interfaces import to_levels
from dcvc.intra.compressai import HEADER, CompressAIIFrameModel, _with_crc
from dcvc.intra.zoo_symbols import ZooSymbols
from dcvc.layers import pad_to_multiple

FRAME = soft_picture(64, 90, seed=5)
# A model without z, one with scales, one with means, one with context, one with shuffles.
NAMES = ("bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean", "mbt2018", "cheng2020-anchor")


@pytest.fixture(scope="module")
def codecs():
    return {name: sensible_zoo_model(name) for name in NAMES}


def y_hat_of(codec: CompressAIIFrameModel, payload: bytes) -> torch.Tensor:
    *_, height, width, count = HEADER.unpack_from(payload[4:])
    assert count == 0
    with torch.no_grad():
        return codec.symbols.decode(payload[4 + HEADER.size:], (height, width))


# In a process of its own: other instructions, no oneDNN.
ELSEWHERE = """
import hashlib, sys, torch
from pathlib import Path
from dcvc.intra.compressai import HEADER, CompressAIIFrameModel
torch.backends.mkldnn.enabled = False
for folder in map(Path, sys.argv[1:]):
    codec = CompressAIIFrameModel(folder.name, 1, checkpoint=str(folder / "weights.pth"))
    payload = (folder / "payload").read_bytes()
    model_id, *_, height, width, _ = HEADER.unpack_from(payload[4:])
    assert model_id == codec.model_id
    with torch.no_grad():
        y_hat = codec.symbols.decode(payload[4 + HEADER.size:], (height, width))
    x_hat = codec.decompress(payload)
    print(*(hashlib.sha256(x.contiguous().numpy().tobytes()).hexdigest() for x in (y_hat, x_hat)))
"""


def test_another_process_with_other_instructions_reads_the_same_symbols(codecs, tmp_path):
    expected, shown = [], []
    for name, codec in codecs.items():
        (tmp_path / name).mkdir()
        torch.save(codec.model.state_dict(), tmp_path / name / "weights.pth")
        payload, x_hat = codec.compress(FRAME)
        (tmp_path / name / "payload").write_bytes(payload)
        expected.append(hashlib.sha256(y_hat_of(codec, payload).contiguous().numpy().tobytes()).hexdigest())
        shown.append(hashlib.sha256(x_hat.contiguous().numpy().tobytes()).hexdigest())
    command = [sys.executable, "-c", ELSEWHERE, *(str(tmp_path / name) for name in codecs)]
    done = subprocess.run(command, env=os.environ | {"ATEN_CPU_CAPABILITY": "default"}, capture_output=True,
                          text=True, check=True)
    found = [line.split() for line in done.stdout.splitlines()]
    assert [symbols for symbols, _ in found] == expected
    # The pictures are what may differ: otherwise this would have shown nothing.
    assert [pictures for _, pictures in found] != shown


@pytest.mark.parametrize("name", NAMES)
def test_decoder_has_what_the_encoder_has_with_any_threads(codecs, name):
    codec = codecs[name]
    with torch.no_grad():
        coded, y_hat, shape = codec.symbols.encode(pad_to_multiple(FRAME, codec.multiple))
        for threads in (1, 2):
            with computing_threads(threads):
                assert torch.equal(codec.symbols.decode(coded, shape), y_hat)
    payload, x_hat = codec.compress(FRAME)
    assert torch.equal(codec.decompress(payload), x_hat)


def test_noise_in_synthesis_changes_pictures_and_no_symbol():
    """As on a machine whose floats are others: decoding goes on, and tells how many frames differ."""
    p_frame = tiny_light_codec().p_frame
    codec = VideoCodec(p_frame, sensible_zoo_model("mbt2018"))
    frames = [to_levels(soft_picture(64, 64, seed))[0] for seed in range(2)]
    file = io.BytesIO()
    coded = list(codec.encode(frames, codec.header((64, 64), Fraction(25), 2, 1, source=b"test"), file))
    reader, drift = StreamReader(io.BytesIO(file.getvalue()), "a.dcvc"), Drift()
    codec.intra.model.g_s[-1].bias.data.add_(2e-3)
    clip = ClipDecoder(codec, reader.header, reader.name, drift)
    found = [clip.decode(record) for record in reader]
    assert drift == Drift(compared=2, differing=2, first=0)
    for a, b in zip(found, coded, strict=True):
        assert 0 < (a.x_hat.int() - b.x_hat.int()).abs().max() <= 2
    with pytest.raises(BitstreamError, match="frame 0: reconstruction"):
        ClipDecoder(codec, reader.header, reader.name).decode(found[0].record)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES[1:])
def test_the_rate_is_that_of_floats(codecs, name):
    """What the same symbols would cost with scales and means from the model's own float networks."""
    codec = codecs[name]
    model, x = codec.model, pad_to_multiple(FRAME, codec.multiple)
    payload, _ = codec.compress(FRAME)
    y_hat, y = y_hat_of(codec, payload), model.g_a(x)
    z = model.h_a(y.abs() if name == "bmshj2018-hyperprior" else y)
    medians = codec.symbols.parts.medians
    prior = model.h_s(torch.round(z - medians) + medians)
    if name not in ("bmshj2018-hyperprior", "mbt2018-mean"):
        prior = model.entropy_parameters(torch.cat([prior, model.context_prediction(y_hat)], dim=1))
    scale, mean = (prior, torch.zeros_like(prior)) if name == "bmshj2018-hyperprior" else prior.chunk(2, dim=1)
    levels = scale_levels("gaussian", to_grid(scale).numpy())
    assert len(set(levels.flatten().tolist())) > 10
    bits_of_y = conditional_tables("gaussian").bits(torch.round(y_hat - mean).numpy(), levels)
    channels = torch.arange(z.shape[1])[:, None, None].expand(z.shape[1:])
    bits_of_z = codec.symbols.parts.tables.bits(torch.round(z - medians)[0].numpy(), channels.numpy())
    written = 8 * (len(payload) - 4 - HEADER.size)
    # The last word of the coder is not full.
    assert abs(written - bits_of_y - bits_of_z) < 0.001 * written + 64


def test_payloads_and_streams_of_before_are_read(codecs):
    codec = codecs["mbt2018"]
    with torch.no_grad():
        out = codec.model.compress(pad_to_multiple(FRAME, 64))
        body = HEADER.pack(codec.zoo_id, 64, 90, *out["shape"], 2)
        body += b"".join(struct.pack("<I", len(string)) + string for (string,) in out["strings"])
        expected = codec.model.decompress(out["strings"], out["shape"])["x_hat"]
    assert torch.equal(codec.decompress(_with_crc(body)), expected[..., :90].clamp(0, 1))
    # A stream of before names all entries, CompressAI's tables as well.
    video = VideoCodec(tiny_light_codec().p_frame, codec)
    header = video.header((64, 90), Fraction(25), 1, 1, source=b"test")
    new, old = video.intra_hashes
    assert header.intra_hash == new != old
    older = type(header)(**{**vars(header), "intra_hash": old})
    video.check(older, "a.dcvc")
    assert video.made(older)
    # What it holds may be noise elsewhere: no frame that differs is passed over.
    assert ClipDecoder(video, header, "a.dcvc", Drift())._drift is not None
    assert ClipDecoder(video, older, "a.dcvc", Drift())._drift is None
    other = type(header)(**{**vars(header), "intra_hash": b"\0" * 8})
    with pytest.raises(BitstreamError, match="I-frame weights found 0000000000000000"):
        video.check(other, "a.dcvc")


def test_exact_convolutions_compute_what_floats_compute(codecs):
    for name in NAMES[1:]:
        network = codecs[name].model.h_s
        z = 20 * torch.randn(1, next(network.parameters()).shape[0 if name != "cheng2020-anchor" else 1], 3, 5)
        exact = ExactConvolutions("h_s", network)(to_grid(z[0]))
        assert torch.equal(exact, exact.round())
        assert torch.allclose(exact.float() / UNIT, network(z).detach()[0], atol=2e-3)


@pytest.mark.parametrize(("layer", "change"), [
    ("h_s.0", 1e6), ("context_prediction", float("nan")), ("entropy_parameters.2", 1e6)])
def test_weights_too_large_for_the_grid_are_refused_by_layer(codecs, layer, change):
    model = copy.deepcopy(codecs["mbt2018"].model)
    with torch.no_grad():
        model.get_parameter(f"{layer}.weight")[0] += change
    with pytest.raises(InputError, match=rf"^{layer}: found weights whose magnitudes add up to"):
        _ = ZooSymbols(model).tables_crc


def test_models_of_many_rates_stay_with_their_own_coder():
    torch.manual_seed(0)
    codec = CompressAIIFrameModel("mbt2018-mean-vbr", 1, pretrained=False)
    payload, x_hat = codec.compress(FRAME)
    assert torch.equal(codec.decompress(payload), x_hat)
    assert not codec.symbols_exact
    assert len(codec.stream_weights()) == 1
