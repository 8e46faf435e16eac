"""What is evaluated: every kind of source gives the same frames; gaps and sizes are named."""

import os
from functools import lru_cache

import av
import numpy as np
import pytest
import sample_videos
import torch
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from dcvc.data.eval_sequences import open_sequences
from dcvc.data.presets import PRESETS
from dcvc.data.raw_files import RawFormat
from dcvc.demo.synthetic import Scene, write_synthetic_clips
from dcvc.errors import InputError, MissingError
from dcvc.evaluation.sequence_recorder import describe_sequence
from dcvc.report.results import new_results
from dcvc.video.rgb_to_yuv import rgb_to_yuv420
from dcvc.video.yuv_to_rgb import Colour, to_rgb

SIZE = (48, 32)


@lru_cache
def scene():
    return Scene(0, SIZE)


def pictures(folder, count=3, first=0):
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        Image.fromarray(scene().frame(number)).save(folder / f"im{number}.png")


def test_a_folder_of_pictures_and_a_video(tmp_path):
    pictures(tmp_path / "set" / "one", 11)
    write_synthetic_clips(tmp_path / "set" / "videos", 1, 4, SIZE)
    found = {s.name: s for s in open_sequences(tmp_path / "set", max_frames=10)}
    assert {name: s.frames for name, s in found.items()} == {"leaves_0_000": 4, "one": 10}
    frames = list(found["one"].stream())
    assert np.array_equal(frames[9].permute(1, 2, 0), scene().frame(9))     # 9 after 2: natural order
    assert "bt709" in found["leaves_0_000"].colour
    assert "limited" in found["leaves_0_000"].colour
    described = {name: describe_sequence(s, 10, tmp_path / "shown") for name, s in found.items()}
    assert described["one"] == describe_sequence(found["one"], 10, tmp_path / "shown")
    assert described["one"]["digest"] != described["leaves_0_000"]["digest"]
    kept = Image.open(described["one"]["snapshot"]["file"])
    assert np.array_equal(kept, scene().frame(described["one"]["snapshot"]["frame"]))


@pytest.mark.parametrize("depth", [8, 10])
def test_raw_yuv_by_name_equals_the_conversion_of_its_planes(tmp_path, depth):
    rgb = torch.rand(3, 3, SIZE[1], SIZE[0])
    planes = [plane.numpy().astype(np.uint16) * 4 if depth == 10 else plane.numpy() for plane in rgb_to_yuv420(rgb)]
    path = tmp_path / f"Noise_{SIZE[0]}x{SIZE[1]}_50fps_{depth}bit.yuv"
    path.write_bytes(b"".join(plane[t].astype("<u2" if depth == 10 else np.uint8).tobytes()
                              for t in range(3) for plane in planes))
    sequence, = open_sequences(path)
    assert (sequence.width, sequence.height, sequence.frames, sequence.fps) == (*SIZE, 3, 50.0)
    kind = np.uint8 if depth == 8 else np.int32
    wanted = to_rgb(*(torch.from_numpy(p.astype(kind)) for p in planes), Colour("bt601", False, depth))
    assert torch.equal(torch.stack(list(sequence.stream())), wanted)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="multiple of"):
        open_sequences(path)
    bare = tmp_path / "noise.yuv"
    bare.write_bytes(b"0" * 100)
    with pytest.raises(InputError, match="raw_size"):
        open_sequences(bare)


COLOUR = (0.8, 0.25, 0.1)


def flat_planes(matrix, full_range, depth):
    rgb = torch.tensor(COLOUR).reshape(3, 1, 1).expand(3, SIZE[1], SIZE[0])
    planes = [plane.numpy().astype(np.uint16) for plane in rgb_to_yuv420(rgb, matrix, full_range)]
    return [(plane * 4).astype("<u2") if depth == 10 else plane.astype(np.uint8) for plane in planes]


def assert_true_colour(sequence, matrix, full_range, text):
    frames = list(sequence.stream())
    assert len(frames) == sequence.frames == 2
    wanted = torch.tensor(COLOUR).mul(255)
    for frame in frames:
        assert (frame.float().mean((1, 2)) - wanted).abs().max() < 2.5          # one level of luma or chroma
    assert sequence.colour == text.format(matrix=matrix, range="full" if full_range else "limited")


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("kind", ["mkv", "yuv"])
def test_matrix_range_and_depth_are_taken_from_the_tags_and_stated(tmp_path, kind, matrix, full_range, depth):
    planes = flat_planes(matrix, full_range, depth)
    if kind == "yuv":
        path = tmp_path / f"flat_{SIZE[0]}x{SIZE[1]}_{depth}bit.yuv"
        path.write_bytes(2 * b"".join(plane.tobytes() for plane in planes))
        sequence, = open_sequences(path, raw=RawFormat(matrix=matrix, full_range=full_range, fps=50))
        assert (sequence.fps, sequence.notes) == (50, ())
        assert_true_colour(sequence, matrix, full_range, f"{{matrix}}, {{range}} range, raw 4:2:0 {depth} bits")
        return
    pixels = "yuv420p" if depth == 8 else "yuv420p10le"
    with av.open(str(tmp_path / "flat.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, pixels
        stream.codec_context.colorspace = Colorspace.ITU709 if matrix == "bt709" else Colorspace.ITU601
        stream.codec_context.color_range = ColorRange.JPEG if full_range else ColorRange.MPEG
        for number in range(2):
            packed = np.concatenate([plane.reshape(-1) for plane in planes]).reshape(-1, SIZE[0])
            frame = av.VideoFrame.from_ndarray(packed, format=pixels)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    sequence, = open_sequences(tmp_path)
    assert_true_colour(sequence, matrix, full_range, f"{{matrix}}, {{range}} range, {pixels}")


def test_y4m(tmp_path):
    planes = b"".join(plane.tobytes() for plane in flat_planes("bt601", False, 8))
    (tmp_path / "flat.y4m").write_bytes(
        f"YUV4MPEG2 W{SIZE[0]} H{SIZE[1]} F30:1 Ip A1:1 C420mpeg2\n".encode() + 2 * (b"FRAME\n" + planes))
    sequence, = open_sequences(tmp_path / "flat.y4m")
    assert (sequence.fps, sequence.width, sequence.height) == (30, *SIZE)
    assert_true_colour(sequence, "bt601", False, "{matrix} (untagged), {range} range, yuv420p")


def empty_raw(path, width, height, frames, bytes_per_sample=1):
    """A file of that size without its bytes: only its length is looked at."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.truncate(path, width * height * 3 // 2 * frames * bytes_per_sample)


@pytest.mark.parametrize(("preset", "file", "size", "had", "frames", "fps", "period"), [
    ("hevc-b", "BasketballDrive_1920x1080_50.yuv", (1920, 1080), 501, 96, 50, 32),
    ("hevc-b-2021", "Kimono1_1920x1080_24.yuv", (1920, 1080), 240, 100, 24, 10),
    ("hevc-c-ip-1", "RaceHorses_832x480_30.yuv", (832, 480), 300, 96, 30, -1),
    ("hevc-d-2021", "BQSquare_416x240_60.yuv", (416, 240), 601, 100, 60, 10),
    ("hevc-e", "FourPeople_1280x720_60.yuv", (1280, 720), 600, 96, 60, 32),
    ("uvg", "Beauty_1920x1080_120fps_420_8bit_YUV.yuv", (1920, 1080), 600, 96, 120, 32),
    ("uvg-2021", "Beauty_1920x1080_120fps_420_8bit_YUV.yuv", (1920, 1080), 600, 120, 120, 12),
    ("mcl-jcv-2021", "videoSRC01_1920x1080_30.yuv", (1920, 1080), 150, 120, 30, 12),
    ("ustc-td", "USTC_Snooker_30fps.yuv", (1920, 1080), 97, 96, 30, 32),     # no size in the name
])
def test_presets_of_raw_files(tmp_path, preset, file, size, had, frames, fps, period):
    empty_raw(tmp_path / file, *size, had)
    sequence, = open_sequences(tmp_path, preset)
    assert (sequence.width, sequence.height, sequence.frames, sequence.fps) == (*size, frames, fps)
    assert sequence.notes == ()
    assert PRESETS[preset].intra_period == period
    assert open_sequences(tmp_path, preset, max_frames=9)[0].frames == 9
    os.truncate(tmp_path / file, size[0] * size[1] * 3 // 2 * 50)
    assert open_sequences(tmp_path, preset)[0].notes == (f"50 frames, the test set's usual number is {frames}",)


def test_a_ten_bit_test_set_is_known_by_its_name(tmp_path):
    empty_raw(tmp_path / "bvi" / "AMarket_96x64_25fps_10bit_420.yuv", 96, 64, 70, 2)
    sequence, = open_sequences(tmp_path / "bvi", "bvi")
    assert (sequence.frames, sequence.raw.depth, sequence.fps, sequence.notes) == (64, 10, 25, ())
    os.remove(sequence.path)
    empty_raw(tmp_path / "Lips_1920x1080_120fps_420_10bit_YUV.yuv", 1920, 1080, 4, 2)
    sequence, = open_sequences(tmp_path)
    assert (sequence.frames, sequence.raw.depth, sequence.fps) == (4, 10, 120)
    with pytest.raises(InputError, match="needed a multiple of"):
        open_sequences(tmp_path, raw=RawFormat(size=(1919, 1080)))


def test_presets_of_pictures(tmp_path):
    pictures(tmp_path / "vimeo" / "sequences" / "00001" / "0266", 7, first=1)
    (tmp_path / "vimeo" / "sep_testlist.txt").write_text("00001/0266\n")
    assert [(s.name, s.frames) for s in open_sequences(tmp_path / "vimeo", "vimeo90k-test")] == [
        ("sequences/00001/0266", 7)]
    (tmp_path / "vimeo" / "sequences" / "00001" / "0266" / "im7.png").unlink()
    with pytest.raises(InputError, match="found 6 frames, needed 7"):
        open_sequences(tmp_path / "vimeo", "vimeo90k-test")
    (tmp_path / "vimeo" / "sep_testlist.txt").write_text("00001/0999\n")
    with pytest.raises(MissingError, match="0999"):
        open_sequences(tmp_path / "vimeo", "vimeo90k-test")
    pictures(tmp_path / "davis" / "JPEGImages" / "480p" / "bear", 2)
    assert [s.name for s in open_sequences(tmp_path / "davis", "davis")] == ["bear"]
    pictures(tmp_path / "hevc" / "Cactus_1920x1080_50", 2, first=1)
    sequence, = open_sequences(tmp_path / "hevc", "hevc-b")
    assert (sequence.fps, sequence.frames) == (50, 2)
    assert "usual number is 96" in sequence.notes[0]
    with pytest.raises(InputError, match="did you mean 'hevc-b'"):
        open_sequences(tmp_path, "hevcb")


def test_sequences_of_differing_sizes_are_told(tmp_path):
    pictures(tmp_path / "one", 2)
    (tmp_path / "two").mkdir()
    Image.new("RGB", (40, 32)).save(tmp_path / "two" / "im0.png")
    results = new_results("", [s.describe() for s in open_sequences(tmp_path)], {})
    assert results["notes"][-1] == "sequences of differing sizes (40x32, 48x32): means count every sequence the same"
    assert "one: frame rate unknown, 25 assumed" in results["notes"]


def test_bad_sequences_are_named(tmp_path):
    pictures(tmp_path / "gap" / "one", 4)
    (tmp_path / "gap" / "one" / "im2.png").unlink()
    with pytest.raises(InputError, match="number 2 is missing"):
        open_sequences(tmp_path / "gap")
    (tmp_path / "gap" / "one" / "im0.png").rename(tmp_path / "gap" / "one" / "im7.png")
    with pytest.raises(InputError, match="number 5 is missing .found 3 and 7, needed steps of 2"):
        open_sequences(tmp_path / "gap")
    pictures(tmp_path / "long gap" / "one", 2)
    pictures(tmp_path / "long gap" / "two", 1, first=9)
    (tmp_path / "long gap" / "two" / "im9.png").rename(tmp_path / "long gap" / "one" / "im9.png")
    with pytest.raises(InputError, match="number 2 is missing .found 1 and 9"):
        open_sequences(tmp_path / "long gap")
    pictures(tmp_path / "halved" / "one", 5)
    for number in (1, 3):
        (tmp_path / "halved" / "one" / f"im{number}.png").unlink()
    assert open_sequences(tmp_path / "halved")[0].frames == 3            # every second picture is a sequence too
    pictures(tmp_path / "sizes" / "one", 2)
    Image.new("RGB", (40, 32)).save(tmp_path / "sizes" / "one" / "im2.png")
    sequence, = open_sequences(tmp_path / "sizes")
    with pytest.raises(InputError, match="40x32, needed 48x32"):
        list(sequence.stream())
    with pytest.raises(MissingError, match="nowhere"):
        open_sequences(tmp_path / "nowhere")
    with pytest.raises(InputError, match="max_frames"):
        open_sequences(tmp_path / "gap", max_frames=0)


def short_video(path):
    return sample_videos.encode(path, "libx264", sample_videos.textures(3, 32, 48))


@pytest.mark.parametrize("strays", [["cover.jpg"], ["poster.png", "folder.jpg"],
                                    ["thumbs/one.jpg", "thumbs/two.jpg"], ["a/b/still_001.png"]])
def test_pictures_beside_videos_are_left_out_and_named(tmp_path, strays):
    short_video(tmp_path / "clip.mp4")
    for name in strays:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20)).save(tmp_path / name)
    sequence, = open_sequences(tmp_path)
    where = os.path.dirname(strays[0]) or "."
    assert sequence.notes[-1] == f"left out beside the videos: single pictures in {where} (--stills measures them)"
    assert len(open_sequences(tmp_path, stills=True)) == 2
    # Alone they are what is asked for.
    for path in tmp_path.glob("*.mp4"):
        path.unlink()
    assert len(open_sequences(tmp_path)) == 1


def test_frames_of_a_sequence_beside_videos_are_measured(tmp_path):
    short_video(tmp_path / "clip.mp4")
    pictures(tmp_path / "set" / "one", 3)
    (tmp_path / f"raw_{SIZE[0]}x{SIZE[1]}_25.yuv").write_bytes(bytes(SIZE[0] * SIZE[1] * 3 // 2))
    found = open_sequences(tmp_path)
    assert sorted(sequence.frames for sequence in found) == [3, 3]
    assert "raw_48x32_25.yuv" in found[0].notes[-1]


def test_sequences_of_one_name_get_names_of_their_own(tmp_path):
    for name in ("one/clip.mp4", "two/clip.mp4", "two/clip.mkv", "other.mp4", "pictures/im1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith("png"):
            Image.new("RGB", (8, 8)).save(tmp_path / name)
        else:
            short_video(tmp_path / name)
    assert [s.name for s in open_sequences(tmp_path)] == ["one/clip", "other", "two/clip.mkv", "two/clip.mp4"]
    several = open_sequences([tmp_path / "one", tmp_path / "two" / "clip.mkv", tmp_path / "pictures"])
    assert [s.name for s in several] == ["one/clip", "two/clip", "pictures"]
    with pytest.raises(InputError, match="twice"):
        open_sequences([tmp_path / "one", tmp_path / "one" / "clip.mp4"])


@pytest.mark.parametrize(("orientation", "suffix"), [(3, "jpg"), (8, "jpg"), (5, "png")])
def test_a_turned_picture_is_measured_as_it_lies_and_that_is_stated(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for number in range(2):
        Image.fromarray(scene().frame(number)).save(tmp_path / f"im{number}.{suffix}", exif=exif)
    sequence, = open_sequences(tmp_path)
    assert (sequence.width, sequence.height) == SIZE
    assert f"EXIF orientation {orientation} not applied" in sequence.notes
    results = new_results("", [sequence.describe()], {})
    assert f"{sequence.name}: EXIF orientation {orientation} not applied" in results["notes"]
