"""Whole sequences while training: videos and folders of pictures, as items and as streams."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from dcvc.data import HEVCB_Dataset, VideoValidationDataset
from dcvc.data.eval_sequences import open_sequences
from dcvc.errors import InputError, ReadError


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


def test_messages_name_the_item_the_file_and_the_limit(folder, tmp_path):
    data = VideoValidationDataset(folder, max_frames=1)
    assert data[-1]["name"] == data[3]["name"]
    with pytest.raises(IndexError, match="video 4 of 4"):
        data[4]
    for number, size in enumerate(((48, 32), (40, 32))):
        Image.new("RGB", size).save(tmp_path / f"im{number}.png")
    with pytest.raises(InputError, match=r"im1\.png: found 40x32, needed 48x32 as the sequence's first picture"):
        HEVCB_Dataset(tmp_path)[0]
    with pytest.raises(IndexError, match="sequence 1 of 1"):
        HEVCB_Dataset(tmp_path)[1]
    for kind in (VideoValidationDataset, HEVCB_Dataset):
        with pytest.raises(InputError, match="max_frames: found 0, needed at least 1"):
            kind(folder if kind is VideoValidationDataset else tmp_path, max_frames=0)


def test_pictures_with_a_gap_validate_but_are_no_test_sequence(tmp_path):
    for number in (0, 1, 3):
        Image.new("RGB", (16, 16)).save(tmp_path / f"im{number}.png")
    assert HEVCB_Dataset(tmp_path)[0]["num_frames"] == 3
    with pytest.raises(InputError, match="number 2 is missing"):
        open_sequences(tmp_path)


def test_files_of_one_name_are_told_apart_by_their_paths(folder, tmp_path):
    shutil.copy(folder / "vp9.webm", tmp_path / "vp9.webm")
    data = VideoValidationDataset([folder, tmp_path])
    names = [data.name(i) for i in range(len(data))]
    assert names.count("vfr") == 1
    assert {f"{folder.name}/vp9", f"{tmp_path.name}/vp9"} <= set(names)


def test_sequences_travel_to_other_processes_and_refuse_a_file_that_changed(folder, tmp_path):
    path = tmp_path / "clip.webm"
    shutil.copy(folder / "vp9.webm", path)
    sequence, = open_sequences(path, max_frames=2)
    other = pickle.loads(pickle.dumps(sequence))
    assert other == sequence
    for here, there in zip(sequence.stream(), other.stream(), strict=True):
        assert torch.equal(here, there)
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(ReadError, match="as when it was indexed"):
        list(other.stream())
