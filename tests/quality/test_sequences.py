"""What is evaluated: every kind of source gives the same frames; gaps and sizes are named."""

from functools import lru_cache

import numpy as np
import pytest
import torch
from PIL import Image

from dcvc.colour import rgb_to_yuv420
from dcvc.data.colour import Colour, to_rgb
from dcvc.data.sequences import PRESETS, open_sequences
from dcvc.data.synthetic import Scene, write_synthetic_clips
from dcvc.errors import InputError, MissingError
from dcvc.recorder import describe_sequence

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


def test_presets_find_their_layouts(tmp_path):
    pictures(tmp_path / "vimeo" / "sequences" / "00001" / "0266", 7, first=1)
    (tmp_path / "vimeo" / "sep_testlist.txt").write_text("00001/0266\n")
    assert [(s.name, s.frames) for s in open_sequences(tmp_path / "vimeo", "vimeo90k-test")] == [
        ("sequences/00001/0266", 7)]
    pictures(tmp_path / "davis" / "JPEGImages" / "480p" / "bear", 2)
    assert [s.name for s in open_sequences(tmp_path / "davis", "davis")] == ["bear"]
    (tmp_path / "hevc").mkdir()
    (tmp_path / "hevc" / "Cactus_32x16_50.yuv").write_bytes(bytes(32 * 16 * 3 // 2 * 120))
    sequence, = open_sequences(tmp_path / "hevc", "hevc-b")
    assert (sequence.frames, sequence.fps, PRESETS["hevc-b"].intra_period) == (100, 50.0, 10)
    with pytest.raises(InputError, match="hevc-b"):
        open_sequences(tmp_path, "hevc-x")


def test_bad_sequences_are_named(tmp_path):
    pictures(tmp_path / "gap" / "one", 4)
    (tmp_path / "gap" / "one" / "im2.png").unlink()
    with pytest.raises(InputError, match="number 2 is missing"):
        open_sequences(tmp_path / "gap")
    pictures(tmp_path / "sizes" / "one", 2)
    Image.new("RGB", (40, 32)).save(tmp_path / "sizes" / "one" / "im2.png")
    sequence, = open_sequences(tmp_path / "sizes")
    with pytest.raises(InputError, match="40x32, needed 48x32"):
        list(sequence.stream())
    with pytest.raises(MissingError, match="nowhere"):
        open_sequences(tmp_path / "nowhere")
    with pytest.raises(InputError, match="max_frames"):
        open_sequences(tmp_path / "gap", max_frames=0)
