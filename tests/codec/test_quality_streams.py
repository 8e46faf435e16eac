"""Streams of the light codec: another quality at every frame, refreshes, every kind of I-frame codec."""

import io
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from kit.damage import DeflatedIntra
from kit.light_models import SMALL_LIGHT, TINY_LIGHT, wandering_quality
from kit.round_trip import LIGHT_KINDS, make_runs, round_trip
from other_process import moving_frames

from dcvc.checkpoint import load_codec
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.video_codec import VideoCodec
from dcvc.errors import BitstreamError, InputError
from dcvc.inter.light.model import LightPFrameModel
from dcvc.interfaces import to_levels
from dcvc.video.outputs import open_output, write_frames

CLIPS = ("chromeos_office.mkv", "flutter_bee.mp4", "gopro_karma.mp4", "nvidia_forest_dog.mp4", "sam2_02_cups.mp4",
         "udacity_vehicle.mp4")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return make_runs(tmp_path_factory.mktemp("runs"), SMALL_LIGHT)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Seven frames, odd on both sides."""
    path = tmp_path_factory.mktemp("clip") / "in.mkv"
    write_frames(to_levels(moving_frames(7, 97, 151)), open_output(str(path), (97, 151), Fraction(25)))
    return path


@pytest.mark.parametrize(("kind", "threads", "other"), [
    ("light", 1, 2), ("light", 2, 1), ("exact", 1, 2), ("vqgan", 1, 2), ("compressai", 2, 1)])
def test_decoding_elsewhere_gives_the_encoders_pictures(kind, threads, other, runs, clip, tmp_path):
    """Bit for bit in a fresh process, and the file is as large as the estimate says."""
    result = round_trip(clip, runs[kind], tmp_path, 7, 5, threads, other, quality=wandering_quality, refresh={2, 6})
    assert result["frames"] == result["identical_frames"] == 7
    assert result["exact"] == (kind == "exact")
    # CompressAI's payload of so small a picture is 7 % of its own lengths and padding.
    assert result["within_1_percent_and_container"] or kind == "compressai"
    assert result["container_bytes"] < 50 + 7 * 12


@pytest.mark.slow
@pytest.mark.parametrize("kind", LIGHT_KINDS)
@pytest.mark.parametrize("name", CLIPS)
def test_every_validation_clip(name, kind, runs, clips, tmp_path):
    result = round_trip(clips / "val" / name, runs[kind], tmp_path, 4, 4, 2, 1, quality=wandering_quality, refresh=2)
    assert result["frames"] == result["identical_frames"] == 4
    assert result["within_1_percent_and_container"]


def small_codec() -> VideoCodec:
    torch.manual_seed(3)
    return VideoCodec(LightPFrameModel(TINY_LIGHT), DeflatedIntra())


def small_clip(count: int) -> torch.Tensor:
    brightness = torch.linspace(0.5, 1, count).view(-1, 1, 1, 1)
    return to_levels(torch.rand(1, 3, 20, 30) * brightness)


def test_records_say_quality_and_refresh_and_cost_little():
    codec, file = small_codec(), io.BytesIO()
    header = codec.header((20, 30), Fraction(25), 6, 6)
    coded = list(codec.encode(small_clip(6), header, file, verify=True, quality=lambda n: 10.3 * n, refresh=2))
    file.seek(0)
    records = list(StreamReader(file))
    assert records == [frame.record for frame in coded]
    assert [record.head and record.head.quality for record in records] == [None, 10.25, 20.5, 31, 41.25, 51.5]
    assert [record.number for record in records if record.head and record.head.refresh] == [2, 4]
    for frame in coded[1:]:
        # What the entropy coder adds to its symbols is part of the payload; the head is not.
        assert frame.record.overhead + len(frame.record.head.to_bytes()) <= 14


def test_a_clip_without_a_quality_is_coded_at_the_codecs_own():
    codec, file = small_codec(), io.BytesIO()
    coded = list(codec.encode(small_clip(2), codec.header((20, 30), Fraction(25), 2, 2), file))
    assert coded[1].record.head == (4 * 32, False)


@pytest.mark.parametrize("options", [{"quality": 64}, {"quality": [1]}, {"refresh": -1}])
def test_nothing_is_written_where_the_plan_is_refused(options):
    codec, file = small_codec(), io.BytesIO()
    with pytest.raises(InputError):
        list(codec.encode(small_clip(2), codec.header((20, 30), Fraction(25), 2, 2), file, **options))
    assert not file.getvalue()


def test_a_stream_whose_payloads_begin_otherwise_is_refused_at_its_header():
    codec = small_codec()
    header = replace(codec.header((20, 30), Fraction(25), 2, 2), inter_quality=False)
    assert header.version == 2
    with pytest.raises(BitstreamError, match="qualities in payloads found none, this model has P"):
        codec.check(header, "clip.dcvc")


def test_both_codecs_share_the_quality(runs):
    codec = load_codec(runs["light"])
    frames = small_clip(3)
    coded = list(codec.encode(frames, codec.header((20, 30), Fraction(25), 3, 2), io.BytesIO(), quality=(5, 50.5, 60)))
    assert [frame.record.head.quality for frame in coded] == [5, 50.5, 60]
