"""Writing: the whole new file or the whole old one, never a trace in between."""

import errno
import os

import pytest
import torch

from dcvc.errors import MissingError, ReadError
from dcvc.files import copy_file, replaced, replacing, save_tensors, write_text


def test_a_file_appears_whole_with_the_mode_it_had(tmp_path):
    target = tmp_path / "made" / "on the way" / "table.json"
    write_text(target, "π")
    assert target.read_text(encoding="utf-8") == "π"
    plain = tmp_path / "plain"
    plain.write_text("")
    assert target.stat().st_mode == plain.stat().st_mode
    target.chmod(0o640)
    write_text(target, "again")
    assert target.stat().st_mode & 0o777 == 0o640
    copy_file(target, tmp_path / "copy.json")
    assert (tmp_path / "copy.json").read_text() == "again"
    assert [path.name for path in target.parent.iterdir()] == ["table.json"]


@pytest.mark.parametrize("error", [ValueError("from the block"), KeyboardInterrupt(), MissingError("other.mp4: gone")])
def test_after_an_exception_the_old_file_stands(tmp_path, error):
    def write_half():
        with replaced(target) as partial:
            assert partial.suffix == ".mp4"
            partial.write_text("half")
            raise error

    target = tmp_path / "clip.mp4"
    target.write_text("old")
    with pytest.raises(type(error)):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("write", [lambda path: write_text(path, "new"), lambda path: save_tensors(path, {"x": 1})])
def test_a_full_disk_is_one_line_and_costs_nothing(tmp_path, monkeypatch, write):
    target = tmp_path / "latest.pt"
    target.write_text("old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ReadError, match=r"latest\.pt: cannot be written \(No space left on device\).*untouched"):
        write(target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_place_that_is_no_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ReadError, match="file/inside.pt: cannot be written"):
        save_tensors(tmp_path / "file" / "inside.pt", {"x": torch.zeros(1)})


def test_bytes_reach_the_disk_before_the_name(tmp_path, monkeypatch):
    order = []
    sync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: order.append("sync") or sync(handle))
    monkeypatch.setattr(os, "replace", lambda *paths: order.append("rename") or rename(*paths))
    with replacing(tmp_path / "stream.dcvc") as file:
        file.write(b"x")
    assert order == ["sync", "rename"]
