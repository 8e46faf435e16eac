"""The recursion on whole clips: round trips, refusals, damage."""

import io
import json
import subprocess
import sys
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import kit
import pytest
import torch
from kit.damage import KINDS, DeflatedIntra, bench_damage, tiny_codec

from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.video_codec import VideoCodec
from dcvc.errors import BitstreamError, InputError


def codec(seed: int = 0) -> VideoCodec:
    return tiny_codec(seed)


def clip(count: int, height: int = 33, width: int = 47):
    base = torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    for number in range(count):
        yield torch.roll(base, number, 2)


def coded(video: VideoCodec, count: int, height: int = 33, width: int = 47, gop: int = 3, **options):
    file = io.BytesIO()
    header = video.header((height, width), Fraction(25), count, gop, **options)
    frames = [item.x_hat for item in video.encode(clip(count, height, width), header, file)]
    return file.getvalue(), frames


@pytest.mark.parametrize(("height", "width", "gop"), [(33, 47, 3), (64, 64, 1), (70, 21, 100)])
def test_decoding_is_the_encoders_reconstruction(height, width, gop):
    data, frames = coded(codec(), 5, height, width, gop)
    decoded = list(codec().decode(StreamReader(io.BytesIO(data))))
    assert len(decoded) == 5
    assert all(torch.equal(a, b) for a, b in zip(decoded, frames, strict=True))
    without, _ = coded(codec(), 5, height, width, gop, reconstruction_crc=False)
    assert len(data) - len(without) == 5 * 4


def test_verify_and_thread_counts():
    video = codec()
    file = io.BytesIO()
    header = video.header((64, 96), Fraction(25), 4, 4)
    frames = [item.x_hat for item in video.encode(clip(4, 64, 96), header, file, verify=True)]
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            decoded = list(codec().decode(StreamReader(io.BytesIO(file.getvalue()))))
            assert all(torch.equal(a, b) for a, b in zip(decoded, frames, strict=True))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_another_process_decodes_the_same(tmp_path):
    data, frames = coded(codec(), 4)
    (tmp_path / "a.dcvc").write_bytes(data)
    program = ("import sys, zlib; sys.path[:0] = sys.argv[3:] + [sys.argv[1]]; import test_video_codec as t\n"
               "reader = t.StreamReader(open(sys.argv[2], 'rb'))\n"
               "print([zlib.crc32(f.numpy().tobytes()) for f in t.codec().decode(reader)])")
    for threads in ("1", "2"):
        done = subprocess.run([sys.executable, "-c", program, str(Path(__file__).parent), str(tmp_path / "a.dcvc"),
                               str(Path(kit.__path__[0]).parent)],
                              capture_output=True, text=True, check=True, env={"OMP_NUM_THREADS": threads})
        assert json.loads(done.stdout) == [zlib.crc32(frame.numpy().tobytes()) for frame in frames]


def test_other_weights_and_codecs_are_refused_with_both_values():
    data, _ = coded(codec(), 2)
    with pytest.raises(BitstreamError, match="P-frame weights found [0-9a-f]{16}, this model has [0-9a-f]{16}"):
        list(codec(1).decode(StreamReader(io.BytesIO(data))))
    other = VideoCodec(codec().p_frame, DeflatedIntra())
    other.intra.stream_id = 1
    with pytest.raises(BitstreamError, match="I-frame codec found number 2, this model has number 1"):
        list(other.decode(StreamReader(io.BytesIO(data))))


@pytest.mark.parametrize("field", ["intra", "inter"])
def test_a_codec_that_nobody_here_knows_is_one_clear_line(field):
    """A stream of a program with a codec from outside: whole and undamaged, but not for these codecs."""
    video = codec()
    header = replace(video.header((16, 16), Fraction(25), 1, 1), **{field: 200})
    kind = {"intra": "I", "inter": "P"}[field]
    with pytest.raises(BitstreamError) as caught:
        video.check(StreamReader(io.BytesIO(header.to_bytes()), "clip.dcvc").header, "clip.dcvc")
    message = str(caught.value)
    assert message.startswith(f"clip.dcvc: header: {kind}-frame codec found number 200, this model has number ")
    assert "--model" in message
    assert "\n" not in message


def test_the_reconstruction_crc_names_the_frame_where_machines_differ():
    data, _ = coded(codec(), 3)
    video = codec()
    with torch.no_grad():                      # the hash was taken: this machine now "computes other numbers"
        video.p_frame.contextualDecoder_part2[-1].bias.add_(0.02)
    with pytest.raises(BitstreamError, match="frame 1: reconstruction"):
        list(video.decode(StreamReader(io.BytesIO(data))))


@pytest.mark.parametrize(("change", "message"), [
    (lambda d: b"RIFF" + d[4:], "not a dcvc stream"),
    (lambda d: d[:4] + b"\x09" + d[5:], "found version 9, this program reads versions 2, 3 and 4"),
    (lambda d: d[:30], "cut short"),
    (lambda d: d[:-1], "frame 2: found"),
    (lambda d: d + b"\0", "after frame 2: found more bytes"),
    (lambda d: b"", "header: found 0 bytes"),
])
def test_refusals_say_what_was_found(change, message):
    data, _ = coded(codec(), 3)
    with pytest.raises(BitstreamError, match=message):
        list(codec().decode(StreamReader(io.BytesIO(change(data)))))


FORMS = {"version 2": {}, "version 3": {"light": True}, "version 4, cut and joined": {"edited": True},
         "version 4, cut and joined, exact": {"edited": True, "exact": True},
         "version 3, exact DCVC-2021": {"on_request": "dcvc2021"},
         "version 3, exact published": {"on_request": "published"}}


def check_damage(count: int, seed: int, form: str) -> None:
    found = bench_damage(count, seed, **FORMS[form])
    assert set(found["faults"].values()) == {0}, found
    assert sum(found["refused"].values()) > 0.95 * count
    assert set(found["refused"]) == set(KINDS)
    assert found["frames_kept"] > count / 10


@pytest.mark.parametrize("form", FORMS)
def test_damage_never_passes(form):
    check_damage(200, 1, form)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_ten_thousand_damaged_streams(form):
    check_damage(10_000, 2, form)


def test_the_damage_check_notices_wrong_and_silent_frames(monkeypatch):
    """Without checksums of frames and reconstructions the same damage shows pictures that are wrong."""
    for module in ("video_codec", "clip_coders"):
        monkeypatch.setattr(f"dcvc.codec.{module}.crc_of", lambda frame: 0)
    faults = bench_damage(100, 3)["faults"]
    assert faults["wrong"] > 0
    assert faults["silent"] > 0


def test_a_frame_of_another_size_is_refused():
    video = codec()
    with pytest.raises(InputError, match="frame 0: found"):
        list(video.encode(clip(1, 16, 16), video.header((16, 17), Fraction(25), 1, 1), io.BytesIO()))
    with pytest.raises(InputError, match="header says 3 frames|found 2 frames"):
        list(video.encode(clip(2, 16, 16), video.header((16, 16), Fraction(25), 3, 1), io.BytesIO()))
