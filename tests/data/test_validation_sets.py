"""Whole sequences while training: videos and folders of pictures, as items and as streams."""

import numpy as np
import torch
from PIL import Image

from dcvc.data import HEVCB_Dataset, VideoValidationDataset


def test_validation_set(folder):
    data = VideoValidationDataset(folder, max_frames=3)
    item = data[1]
    assert item["num_frames"] == 3
    assert item["frames"].shape == (3, 3, 64, 96)
    assert {data.name(i) for i in range(4)} == {"HEVC", "h264_open", "vfr", "vp9"}
    for streamed, whole in zip(data.stream(1), item["frames"], strict=True):
        assert torch.equal(streamed, whole)


def test_pictures_sort_by_number(tmp_path):
    for t in range(12):
        Image.fromarray(np.full((16, 16, 3), 20 * t, np.uint8)).save(tmp_path / f"im{t + 1}.png")
    values = HEVCB_Dataset(tmp_path)[0]["frames"][:, 0, 0, 0] * 255
    assert torch.equal(values.round(), torch.arange(12) * 20.0)
