"""Which pictures a tuned model takes along: those of places that a camera stands before."""

import pytest
import torch

from dcvc.checkpoint import load_codec
from dcvc.codec.video_codec import VideoCodec
from dcvc.models.catalog import find_model
from dcvc.training import tuning_scenes as scenes
from dcvc.video.writer import VideoWriter

SIZE = (64, 48)
# Grey, since 4:2:0 has no colours so fine.
WALL = torch.rand(1, 48, 64, generator=torch.Generator().manual_seed(0)).mul(255).to(torch.uint8).expand(3, -1, -1)


def light_s() -> VideoCodec:
    """A trained one: an untrained I-frame codec is so poor that any picture helps."""
    return load_codec(find_model("light-s"))


def write(folder, video, frames, first=0):
    folder.mkdir(exist_ok=True)
    with VideoWriter(folder / f"{video:04d}_a_talk_{first:07d}.mp4", SIZE, options={"qp": "0"}) as writer:
        for frame in frames:
            writer.write(frame.permute(1, 2, 0).contiguous().numpy())


def standing(frames):
    """A grey block passes before the wall, and is nowhere for half of the time."""
    for number in range(frames):
        frame = WALL.clone()
        frame[:, 8:40, 6 * number:6 * number + 10] = 128
        yield frame


def moving(frames):
    return (WALL.roll(number * 7, 2) for number in range(frames))


def test_the_median_shows_what_is_behind_those_who_pass(tmp_path):
    write(tmp_path, 0, standing(10))
    scene = scenes.with_scenes(light_s(), tmp_path).intra
    (picture,) = scene.pictures()
    assert (picture.int() - WALL.int()).abs().max() <= 2


def test_a_moving_camera_leaves_the_codec_as_it_is(tmp_path):
    codec = light_s()
    write(tmp_path, 0, moving(10))
    assert scenes.with_scenes(codec, tmp_path) is codec


def test_of_several_videos_those_that_help_are_kept(tmp_path):
    write(tmp_path, 0, moving(8))
    write(tmp_path, 1, standing(4), first=0)
    write(tmp_path, 1, standing(4), first=48)
    assert len(scenes.with_scenes(light_s(), tmp_path).intra.pictures()) == 1


def test_a_place_that_two_videos_show_is_kept_once(tmp_path):
    write(tmp_path, 0, standing(9))
    write(tmp_path, 1, standing(8))
    assert len(scenes.with_scenes(light_s(), tmp_path).intra.pictures()) == 1


@pytest.mark.parametrize(("clips", "count"), [((5,), 3), ((5, 2), 4), ((1, 1, 1), 2), ((9,), 1)])
def test_frames_are_spread_over_the_clips_of_a_video(tmp_path, clips, count):
    for number, length in enumerate(clips):
        write(tmp_path, 0, (torch.full_like(WALL, 20 * number + 5) for _ in range(length)), first=48 * number)
    found = list(scenes._spread(sorted(tmp_path.glob("*.mp4")), count))
    assert len(found) == count
    assert {int(frame.float().mean().round()) // 20 for frame in found} <= set(range(len(clips)))
