"""Exact streams: any arithmetic that does not round decodes them to the same bytes."""

import functools
import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from integer_decoder import IntegerDecoder
from kit.exact_streams import GOLDEN as GOLDEN_FILES
from kit.exact_streams import SIZE, exact_stream, golden_codec, moving_frames
from kit.light_models import TINY_LIGHT, tiny_light_codec

from dcvc.checkpoint import load_codec
from dcvc.codec.exact_ranges import RANGES_FILE, CodecRanges, read_ranges, write_ranges
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.video_codec import VideoCodec
from dcvc.errors import BitstreamError, InputError, ReadError
from dcvc.inter.light.model import LightPFrameModel
from dcvc.interfaces import from_levels

# Of light-s; `python benchmarks/golden_exact.py tests/codec` writes those of all sizes anew.
GOLDEN_FILE = Path(__file__).with_name("golden_exact.dcvc")
GOLDEN = GOLDEN_FILE.read_bytes()
load = functools.lru_cache(load_codec)


def shown(codec: VideoCodec, data: bytes) -> list[np.ndarray]:
    """Every picture is compared with the encoder's CRC too."""
    return [frame.numpy() for frame in codec.decode(StreamReader(io.BytesIO(data)))]


def integer_decoder(codec: VideoCodec) -> IntegerDecoder:
    """With the weights and ranges of a codec."""
    def arrays(module) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in module.state_dict().items()}

    ranges = read_ranges(codec.ranges, codec.inter_hash, codec.intra_hash)
    return IntegerDecoder((arrays(codec.p_frame), ranges.p_frame), (arrays(codec.intra), ranges.intra))


def by_integers(codec: VideoCodec, data: bytes) -> list[np.ndarray]:
    decoder = integer_decoder(codec)
    return [decoder.decode(record.kind, record.payload, SIZE) for record in StreamReader(io.BytesIO(data))]


@pytest.mark.parametrize("size", GOLDEN_FILES)
def test_a_decoder_of_integers_alone_decodes_the_golden_stream_of_every_size_to_the_same_bytes(size):
    name, frames = GOLDEN_FILES[size]
    codec, data = golden_codec(size), GOLDEN_FILE.with_name(name).read_bytes()
    pictures = shown(codec, data)
    assert len(pictures) == frames
    assert all(map(np.array_equal, pictures, by_integers(codec, data)))


def test_a_stream_of_large_ranges_too():
    """Without ranges nearly all sums are float64."""
    codec = VideoCodec(load("light-s").p_frame, load("light-s").intra)
    data = exact_stream(codec)
    assert all(map(np.array_equal, shown(codec, data), by_integers(codec, data)))


@pytest.mark.parametrize("instructions", ["default", "avx2"])
def test_other_instructions_make_no_difference(instructions):
    code = ("import sys\nfrom dcvc.checkpoint import load_codec\nfrom dcvc.codec.stream_reader import StreamReader\n"
            "print(len(list(load_codec('light-s').decode(StreamReader(open(sys.argv[1], 'rb'))))))")
    # MKL_CBWR has the matrix products of MKL take other instructions as well.
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": instructions, "OMP_NUM_THREADS": "2",
                   "MKL_CBWR": "COMPATIBLE" if instructions == "default" else "AVX2"}
    found = subprocess.run([sys.executable, "-c", code, GOLDEN_FILE], capture_output=True, text=True, env=environment)
    assert found.stdout.strip() == "6", found.stderr


def test_samples_of_a_batch_are_what_they_are_alone():
    exact = load("light-s").exact_form()
    frames = from_levels(torch.stack(moving_frames(2)))
    together = exact.intra.reconstruct(frames, 30.0).x_hat
    alone = [exact.intra.reconstruct(frame[None], 30.0).x_hat for frame in frames]
    assert torch.equal(together, torch.cat(alone))
    second, _ = exact.p_frame.reconstruct(exact.p_frame.start(together), frames.flip(0), 30.0)
    for number in (0, 1):
        one, _ = exact.p_frame.reconstruct(exact.p_frame.start(alone[number]), frames.flip(0)[number:number + 1], 30.0)
        assert torch.equal(second.x_hat[number:number + 1], one.x_hat)


def test_exact_pictures_are_near_those_of_floats():
    plain = load("light-s")
    frame = from_levels(moving_frames(1)[0][None])
    exact, usual = (codec.intra.reconstruct(frame, 50.0).x_hat for codec in (plain.exact_form(), plain))
    assert (exact - usual).abs().mean() < 0.004


def test_weights_that_could_round_are_refused_with_their_layer():
    codec = tiny_light_codec()
    with torch.no_grad():
        codec.p_frame.recon_head.head.weight.mul_(1e9)
    with pytest.raises(InputError, match=r"recon_head\.head: sums need .* bits, 53 are exact"):
        codec.exact_form()


def test_a_header_that_claims_exact_with_a_codec_that_is_not_is_refused():
    codec, header = load("light-s"), StreamReader(io.BytesIO(GOLDEN)).header
    scales_of_floats = LightPFrameModel(replace(TINY_LIGHT, exact_scales=False))
    with pytest.raises(BitstreamError, match=r"clip\.dcvc: header: exact arithmetic, which this model cannot"):
        VideoCodec(scales_of_floats, codec.intra).check(header, "clip.dcvc")
    other = VideoCodec(codec.p_frame, codec.intra)
    # Its ranges are others, which the tables CRC tells.
    with pytest.raises(BitstreamError, match="integer tables"):
        other.check(header, "clip.dcvc")
    with pytest.raises(BitstreamError, match="integer tables"):
        codec.check(replace(header, exact=False), "clip.dcvc")


def test_ranges_of_another_model_and_damaged_ones_are_refused(tmp_path):
    codec, file = load("light-s"), tmp_path / RANGES_FILE
    write_ranges(file, CodecRanges({"decoder.conv2": [5, 6]}, {}), bytes(8), codec.intra_hash)
    with pytest.raises(InputError, match=r"exact\.json: measured of weights"):
        VideoCodec(codec.p_frame, codec.intra, file).exact_form()
    for text in ("{", "{}", file.read_text().replace("[5,6]", "[5,-6]").replace("0" * 16, codec.inter_hash.hex())):
        file.write_text(text)
        with pytest.raises(ReadError, match=r"exact\.json: "):
            read_ranges(file, codec.inter_hash, codec.intra_hash)
