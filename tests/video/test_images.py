"""Pictures in folders: their order, crops, and errors that name the file."""

import numpy as np
import pytest
import torch
from PIL import Image

from dcvc.errors import InputError, MissingError, ReadError
from dcvc.video.images import image_size, list_images, list_sequences, read_image


@pytest.fixture
def folder(tmp_path):
    samples = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    for name in ("im10.png", "im2.PNG", "im1.png", "._im1.png"):
        Image.fromarray(samples).save(tmp_path / name)
    (tmp_path / "list.txt").write_text("")
    return tmp_path, torch.from_numpy(samples).permute(2, 0, 1)


def test_pictures_are_listed_by_number(folder):
    path, _ = folder
    assert list_images(path) == [str(path / name) for name in ("im1.png", "im2.PNG", "im10.png")]
    (path / "empty").mkdir()
    assert list_sequences(path) == [str(path)]
    with pytest.raises(InputError, match="no pictures"):
        list_sequences(path / "empty")
    with pytest.raises(MissingError, match="none"):
        list_images(path / "none")


def test_a_crop_is_a_part_of_the_picture(folder):
    path, whole = folder
    name = str(path / "im1.png")
    assert image_size(name) == (16, 24)
    assert torch.equal(read_image(name), whole)
    assert torch.equal(read_image(name, (3, 5, 8, 9)), whole[:, 3:11, 5:14])
    with pytest.raises(InputError, match=r"im1\.png: found 24x16, needed at least 24x17"):
        read_image(name, (9, 16, 8, 8))


def test_damaged_pictures_are_named(folder):
    path, _ = folder
    data = (path / "im1.png").read_bytes()
    (path / "im1.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(ReadError, match=r"im1\.png: cannot decode"):
        read_image(str(path / "im1.png"))
    (path / "im2.PNG").write_bytes(b"no picture")
    with pytest.raises(ReadError, match=r"im2\.PNG: cannot open"):
        image_size(str(path / "im2.PNG"))
    with pytest.raises(MissingError, match=r"im3\.png"):
        read_image(str(path / "im3.png"))
