"""Septuplets and folders of pictures: shapes, ranges, seeds and errors as the video sets."""

import pytest
import sample_videos
import torch
from PIL import Image

from dcvc.data import BVI_AOM_Dataset, HEVCB_Dataset, VimeoGOPDataset
from dcvc.errors import InputError, MissingError, ReadError


@pytest.fixture
def vimeo(tmp_path):
    frames = sample_videos.textures(14, 64, 96)
    for sequence in range(2):
        folder = tmp_path / "sequences" / "00001" / f"000{sequence + 1}"
        folder.mkdir(parents=True)
        for t in range(7):
            Image.fromarray(frames[7 * sequence + t]).save(folder / f"im{t + 1}.png")
    (tmp_path / "list.txt").write_text("00001/0001\n00001/0002\n\n")
    return tmp_path, torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


def test_septuplets(vimeo):
    root, frames = vimeo
    first = VimeoGOPDataset(root, "list.txt", 4, None, 64, random_shuffle=False)[1]
    assert torch.equal(first, frames[7:11, :, :, 16:80])
    data = VimeoGOPDataset(root, root / "list.txt", 3, None, 32, seed=5)
    starts = set()
    for epoch in range(12):
        data.set_epoch(epoch)
        assert data[0].shape == (3, 3, 32, 32)
        starts.add(data.describe(0).split(" ")[-1])
    assert len(starts) > 2
    with pytest.raises(ValueError, match="found 7 frames, needed at least 8"):
        VimeoGOPDataset(root, "list.txt", 8, None, 32)
    with pytest.raises(ValueError, match="needed at least 256x256"):
        VimeoGOPDataset(root, "list.txt", 7)
    with pytest.raises(MissingError, match="septuplet"):
        VimeoGOPDataset(root, "other.txt")
    (root / "list.txt").write_text("00001/0001\n00001/0009\n")
    with pytest.raises(MissingError, match="0009"):
        VimeoGOPDataset(root, "list.txt", 3, None, 32)[1]


def test_folders_of_pictures(vimeo):
    root, frames = vimeo
    assert BVI_AOM_Dataset(root, 7, None, 64, seed=0)[0].shape == (7, 3, 64, 64)
    item = HEVCB_Dataset(root, max_frames=5)[1]
    assert (item["num_frames"], item["name"]) == (5, "sequences/00001/0002")
    assert torch.equal(item["frames"], frames[7:12])
    (root / "sequences/00001/0001/im3.png").write_bytes(b"no picture")
    with pytest.raises(ReadError, match=r"im3\.png"):
        HEVCB_Dataset(root)[0]
    with pytest.raises(MissingError):
        BVI_AOM_Dataset(root / "none")
    (root / "empty").mkdir()
    with pytest.raises(InputError, match="no pictures"):
        HEVCB_Dataset(root / "empty")
