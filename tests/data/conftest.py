import shutil

import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """Indices are kept in a folder of the test's own, not in the user's cache."""
    monkeypatch.setenv("DCVC_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def folder(videos, tmp_path_factory):
    """Four videos, one of them a folder deeper, and a file that is none. Tests change copies only."""
    base = tmp_path_factory.mktemp("set")
    (base / "deeper").mkdir()
    for name in ("h264_open.mp4", "vp9.webm", "vfr.mp4"):
        shutil.copy(videos[name][0], base / name)
    shutil.copy(videos["hevc_open.mp4"][0], base / "deeper" / "HEVC.MP4")
    (base / "notes.md").write_text("no video")
    return base


@pytest.fixture
def two_videos(videos, tmp_path):
    (tmp_path / "set").mkdir()
    for name in ("h264_open.mp4", "vp9.webm"):
        shutil.copy(videos[name][0], tmp_path / "set" / name)
    return tmp_path / "set"
