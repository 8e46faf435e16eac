"""Groups of pictures at the same time: the same streams and pictures as one frame after another."""

import io

import pytest
import torch
from kit.damage import DeflatedIntra
from kit.light_models import SMALL_LIGHT, TINY_LIGHT, stirred, wandering_quality
from other_process import moving_frames

from dcvc.checkpoint import load_codec
from dcvc.codec import Encoder, gop_lanes
from dcvc.codec import encoder as encoder_file
from dcvc.codec import video_codec as video_codec_file
from dcvc.codec.drift import Drift
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.video_codec import VideoCodec
from dcvc.device import computing_threads
from dcvc.errors import BitstreamError, InputError
from dcvc.inter.light.model import LightPFrameModel
from dcvc.interfaces import to_levels
from dcvc.intra.light.model import LightIFrameModel

SIZE, COUNT, PERIOD = (200, 340), 11, 3


@pytest.fixture(scope="module", autouse=True)
def _three_threads():
    """More than two lanes, and frames that threads share."""
    with computing_threads(3):
        yield


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(4)
    frames = to_levels(moving_frames(COUNT, *SIZE))
    # A cut in the middle of a group.
    return torch.cat([frames[:5], frames[5:].flip(3)])


@pytest.fixture(scope="module")
def codecs():
    torch.manual_seed(5)
    small = VideoCodec(stirred(LightPFrameModel(SMALL_LIGHT)), stirred(LightIFrameModel()))
    return {"boxed": load_codec("light-s"), "stirred": small}


class Counted:
    """in_lanes, and how often it was asked."""

    def __init__(self, monkeypatch) -> None:
        self.calls, usual = 0, encoder_file.in_lanes

        def count(*arguments):
            self.calls += 1
            return usual(*arguments)

        for module in (encoder_file, video_codec_file):
            monkeypatch.setattr(module, "in_lanes", count)


@pytest.fixture
def lanes(monkeypatch):
    return Counted(monkeypatch)


def packets(codec, clip, at_once, **options):
    encoder = Encoder(codec, SIZE, 25, intra_period=PERIOD, source=b"test", **options)
    return [(packet.data, packet.frame and packet.frame.bits) for packet in encoder.packets(clip, at_once)]


@pytest.mark.parametrize(("name", "options"), [
    ("boxed", {"exact": True, "quality": 40}), ("boxed", {"exact": False, "quality": wandering_quality}),
    ("boxed", {"exact": False, "scene_cuts": True, "refresh": 2, "verify": True, "frames": COUNT}),
    ("stirred", {"exact": False, "index": False})])
def test_packets_and_pictures_are_those_of_one_frame_after_another(name, options, codecs, clip, lanes):
    codec = codecs[name]
    usual, at_once = (packets(codec, clip, way, **options) for way in (False, True))
    assert usual == at_once
    data = b"".join(data for data, _ in usual)
    ways = [list(codec.decode(StreamReader(io.BytesIO(data)), start, at_once=way))
            for start in (0, 4) for way in (False, True)]
    assert len(ways[0]) == COUNT
    assert torch.equal(torch.stack(ways[0]), torch.stack(ways[1]))
    assert torch.equal(torch.stack(ways[0][4:]), torch.stack(ways[2]))
    assert torch.equal(torch.stack(ways[2]), torch.stack(ways[3]))
    # One encoder and two decoders.
    assert lanes.calls == 3


def test_what_hangs_on_threads_or_on_the_frame_before_goes_one_by_one(codecs, clip, lanes):
    class Control:
        def quality(self, kind):
            return 30

        def accept(self, bits, mse):
            return True

    boxed = codecs["boxed"]
    other = VideoCodec(LightPFrameModel(TINY_LIGHT), DeflatedIntra())
    packets(boxed, clip[:4], True, control=Control())
    packets(other, clip[:4], True)
    with computing_threads(1):
        data = b"".join(data for data, _ in packets(boxed, clip[:4], True))
    whole = Encoder(boxed, SIZE, 25, intra_period=-1)
    assert len(list(whole.packets(clip[:4], True))) == 6

    class Pipe(io.BytesIO):
        def seekable(self):
            return False

    assert len(list(boxed.decode(StreamReader(Pipe(data)), at_once=True))) == 4
    assert lanes.calls == 0


def test_damage_is_told_after_the_frames_before_it(codecs, clip):
    codec = codecs["boxed"]
    parts = packets(codec, clip, False)
    assert len(parts) == COUNT + 2
    # The header, four frames, and the fifth with a byte that is not its own.
    wrong = bytearray(parts[5][0])
    wrong[-1] ^= 1
    data = b"".join(part for part, _ in parts[:5]) + bytes(wrong) + b"".join(part for part, _ in parts[6:])
    shown = []
    with pytest.raises(BitstreamError, match="frame 4"):  # noqa: PT012
        for frame in codec.decode(StreamReader(io.BytesIO(data)), at_once=True):
            shown.append(frame)
    assert len(shown) == 4


def test_a_frame_of_another_size_is_refused_after_the_packets_before_it(codecs, clip):
    encoder = Encoder(codecs["boxed"], SIZE, 25, intra_period=PERIOD)
    frames = [*clip[:5], clip[5][:, :, 1:]]
    found = []
    with pytest.raises(InputError, match="frame 5"):  # noqa: PT012
        for packet in encoder.packets(frames, at_once=True):
            found.append(packet.frame)
    assert [frame.record.number for frame in found if frame] == [0, 1, 2, 3, 4]


def test_the_first_frame_that_drifted_is_the_first_in_order():
    drift = Drift()
    for number, same in ((0, True), (34, False), (2, False), (35, False), (3, True)):
        drift.count(number, same)
    assert drift == Drift(compared=5, differing=3, first=2)


def test_lanes_are_few_where_frames_are_large(codecs):
    codec = codecs["boxed"]
    with computing_threads(16):
        count = {size: lanes and lanes.count for size in ((360, 640), (1080, 1920), (2160, 3840), (4320, 7680))
                 for lanes in [gop_lanes.gop_lanes(codec, size, 32)]}
    assert count == {(360, 640): 8, (1080, 1920): 2, (2160, 3840): None, (4320, 7680): None}
    assert gop_lanes.gop_lanes(codec, (360, 640), 0) is None
