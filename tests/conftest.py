"""Shared fixtures. Golden data and real clips lie beside the project; tests that need them skip without them."""

import os
from pathlib import Path

import pytest
import sample_videos
import torch

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("DCVC_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"golden data and clips not found at {SHARED} (set DCVC_SHARED)")
    return SHARED


@pytest.fixture(scope="session")
def vectors(shared: Path) -> Path:
    return shared / "vectors"


@pytest.fixture(scope="session")
def clips(shared: Path) -> Path:
    return shared / "clips"


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> dict[str, tuple[Path, int]]:
    """Small videos of every kind: name -> (path, number of frames)."""
    return sample_videos.make_all(tmp_path_factory.mktemp("videos"))


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
