"""What pages about streams need to run: a tiny model in the place of the package's, and a talk."""

import pytest
from kit.light_models import tiny_light_codec
from talks import make_talk

from dcvc.checkpoint import save_pretrained
from dcvc.models import catalog


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """The current folder: in.mp4, 25 frames with sound; "light-m" is a tiny model, untrained."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCVC_HOME", "home")
    monkeypatch.setattr(catalog, "BOXED", tmp_path / "boxed")
    save_pretrained(tiny_light_codec(), tmp_path / "boxed" / "light-m")
    make_talk(tmp_path / "in.mp4", count=25)
