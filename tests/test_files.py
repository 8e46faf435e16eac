"""Writing: the whole new file or the whole old one, never a trace in between."""

import errno
import os

import pytest
import torch

from dcvc.errors import InputError, MissingError, ReadError
from dcvc.files import (
    Kind,
    check_output,
    copy_file,
    hold_alone,
    home_cache,
    replaced,
    replaced_folder,
    replacing,
    save_tensors,
    temporary_folder,
    write_text,
)


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


JSON = Kind("a table", lambda path: path.read_bytes().startswith(b"{"))


def links_to(path):
    """The same file by four other names."""
    folder = path.parent
    (folder / "link").symlink_to(path.name)
    (folder / "hard").hardlink_to(path)
    (folder / "up").symlink_to(".")
    return [path, folder / "link", folder / "hard", folder / "up" / path.name,
            folder / "up" / ".." / folder.name / "hard"]


def test_an_input_is_never_an_output_whatever_it_is_called(tmp_path):
    path = tmp_path / "clip.mov"
    path.write_bytes(b"precious")
    for name in links_to(path):
        for kind, overwrite in ((None, False), (JSON, True)):
            with pytest.raises(InputError, match="is the input itself"):
                check_output(name, inputs=["elsewhere", path], kind=kind, overwrite=overwrite)
    assert path.read_bytes() == b"precious"


def test_only_what_a_command_made_is_replaced_without_asking(tmp_path):
    other, own, empty = tmp_path / "other", tmp_path / "own", tmp_path / "empty"
    other.write_text("a poem")
    own.write_text("{}")
    empty.touch()
    for path in (own, empty, tmp_path / "new", tmp_path / "new" / "folder" / "new"):
        check_output(path, kind=JSON)
    with pytest.raises(InputError, match=r"other: exists and is not a table.*--overwrite"):
        check_output(other, kind=JSON)
    check_output(other, kind=JSON, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"other", "own", "empty"}


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: os.mkfifo(path),
                                  lambda path: path.symlink_to("/dev/null")])
def test_folders_and_devices_are_no_files_to_write(tmp_path, make):
    make(tmp_path / "out")
    with pytest.raises(InputError, match="needed the name of a file"):
        check_output(tmp_path / "out")
    with pytest.raises(InputError, match="needed the name of a file"):
        write_text(tmp_path / "out", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_place_that_cannot_be_written_is_found_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "below" / "out", tmp_path / ("n" * 300)):
        with pytest.raises(ReadError, match="cannot be written"):
            check_output(path)
    with pytest.raises(InputError, match="needed a folder"):
        check_output(tmp_path / "file", folder=True)
    for code in (errno.ENOSPC, errno.EROFS, errno.EACCES):
        def refuse(*_, code=code, **__):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr("tempfile.TemporaryFile", refuse)
        with pytest.raises(ReadError, match=f"out: cannot be written .{os.strerror(code)}"):
            check_output(tmp_path / "out")


def test_names_as_long_as_names_may_be(tmp_path):
    for name in ("x" * 255, "ü" * 125 + ".json", "x." + "y" * 253, "a" * 251 + ".mp4"):
        write_text(tmp_path / name, "whole")
        assert (tmp_path / name).read_text() == "whole"
    with replaced_folder(tmp_path / ("f" * 255)) as folder:
        (folder / "a").touch()
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL, errno.ENOTSUP])
def test_a_disk_without_fsync_or_modes_is_written_all_the_same(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.setattr(os, "chmod", refuse)
    write_text(tmp_path / "a", "whole")
    assert (tmp_path / "a").read_text() == "whole"


@pytest.mark.parametrize(("code", "held"), [(errno.EACCES, True), (errno.EAGAIN, True), (errno.ENOLCK, False),
                                            (errno.ENOSYS, False), (errno.EOPNOTSUPP, False), (errno.EIO, False)])
def test_only_a_lock_that_somebody_holds_refuses(tmp_path, monkeypatch, capsys, code, held):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.lockf", refuse)
    with open(tmp_path / "lock", "w") as lock:
        if held:
            with pytest.raises(InputError, match="somebody"):
                hold_alone(lock, "somebody")
        else:
            hold_alone(lock, "somebody")
    assert ("would not be noticed" in capsys.readouterr().err) is not held


@pytest.mark.parametrize("taken", [False, True])
def test_a_user_without_a_home_gets_a_folder_below_the_temporary_one(tmp_path, monkeypatch, taken):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.home", no_home)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    if taken:
        (tmp_path / "dcvc-4711").mkdir()                                # of another user
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    folder = home_cache()
    assert folder.parent == tmp_path
    assert (folder.name == "dcvc-4711") is not taken
    assert "~" not in str(folder)


def test_a_temporary_folder_that_cannot_be_is_one_line(tmp_path, monkeypatch):
    with temporary_folder() as folder:
        (folder / "a").touch()
    assert not folder.exists()

    def full():
        with temporary_folder():
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ReadError, match=r"temporary folder: cannot be written \(No space left on device\); set TMPDIR"):
        full()

    def none(**_):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.TemporaryDirectory", none)
    with pytest.raises(ReadError, match="No usable temporary directory"), temporary_folder():
        pass
