"""Pictures in folders: their order, crops, and errors that name the file."""

import numpy as np
import pytest
import torch
from PIL import Image

from dcvc.errors import InputError, MissingError, ReadError
from dcvc.video.images import image_notes, image_size, list_images, list_sequences, read_image


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


DEEP = np.kron(np.random.default_rng(1).integers(0, 65536, (6, 8)), np.ones((3, 3))).astype(np.uint16)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("samples", [DEEP, np.array([[0, 128, 129, 256, 257, 65534, 65535]], np.uint16), DEEP // 300])
def test_grey_pictures_of_16_bits_become_8_by_dividing(tmp_path, suffix, samples):
    name = str(tmp_path / f"im1{suffix}")
    Image.fromarray(samples).save(name)
    wanted = torch.from_numpy(np.rint(samples / 257).astype(np.uint8))
    for channel in read_image(name):
        assert torch.equal(channel, wanted)
    assert torch.equal(read_image(name, (0, 1, 1, 4)), wanted[None, :1, 1:5].expand(3, 1, 4))
    assert image_notes(name) == ("16-bit pictures, measured in 8 bits",)


@pytest.mark.parametrize("samples", [np.full((4, 4), 70000, np.int32), np.full((4, 4), -3, np.int32),
                                     np.full((4, 4), 0.5, np.float32)])
def test_samples_that_have_no_scale_are_refused(tmp_path, samples):
    Image.fromarray(samples).save(tmp_path / "im1.tif")
    with pytest.raises(InputError, match=r"im1\.tif: found samples of .*needed pictures of 8 or 16 bits"):
        read_image(str(tmp_path / "im1.tif"))


def test_what_a_picture_loses_is_told(tmp_path):
    plain = Image.new("RGB", (8, 6), (10, 20, 30))
    exif = Image.Exif()
    exif[0x0112] = 6
    plain.save(tmp_path / "turned.jpg", exif=exif)
    plain.convert("RGBA").save(tmp_path / "alpha.png")
    plain.convert("LA").save(tmp_path / "grey_alpha.png")
    plain.save(tmp_path / "pages.tif", save_all=True, append_images=[plain, plain])
    plain.convert("CMYK").save(tmp_path / "plain.jpg")
    assert image_notes(str(tmp_path / "turned.jpg")) == ("EXIF orientation 6 not applied",)
    for name in ("alpha.png", "grey_alpha.png"):
        assert image_notes(str(tmp_path / name)) == ("transparency left out",)
    assert image_notes(str(tmp_path / "pages.tif")) == ("the first of 3 frames in a picture's file",)
    assert image_notes(str(tmp_path / "plain.jpg")) == ()


def test_linked_folders_of_pictures_are_found(tmp_path, folder):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "S1").symlink_to(folder[0])
    (tmp_path / "set" / "again").symlink_to(".")
    assert list_sequences(tmp_path / "set") == [str(tmp_path / "set" / "S1")]
