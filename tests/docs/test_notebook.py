"""examples/own_videos.ipynb runs from its first cell to its last: with a tiny model here, as it is in the slow form."""

import importlib.util
import json
import os
from pathlib import Path

import matplotlib
import pytest
from kit.light_models import tiny_light_codec

from dcvc.checkpoint import save_pretrained
from dcvc.data import VideoReader
from dcvc.demo.footage import Take, write_takes
from dcvc.models import catalog

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "own_videos.ipynb"


def test_the_notebook_tunes_codes_and_reports(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCVC_HOME", "home")
    monkeypatch.setenv("DCVC_NOTEBOOK_MINUTES", "0.05")
    write_takes([Take(1, 0, True), Take(1, 1, True)], tmp_path / "videos", 12, size=(96, 64))
    monkeypatch.setattr(catalog, "BOXED", tmp_path / "boxed")
    save_pretrained(tiny_light_codec(), tmp_path / "boxed" / "light-m")
    matplotlib.use("Agg")
    names: dict = {}
    for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"]:
        # Outputs are not kept: they would be those of one machine.
        assert not cell.get("outputs")
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert len(VideoReader("out.mp4")) == 12
    assert (tmp_path / "tuned" / "report.html").is_file()
    assert str(tmp_path / "tuned" / "report.html") in capfd.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_notebook_runs_in_jupyter(tmp_path, monkeypatch):
    """With the model of the package and a kernel of its own."""
    if importlib.util.find_spec("nbclient") is None:
        pytest.skip("the extra notebook is not installed")
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("DCVC_NOTEBOOK_MINUTES", "2")
    monkeypatch.setenv("PYTHONPATH", f"{NOTEBOOK.parents[1]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=1500, kernel_name="python3",
                   resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert (tmp_path / "tuned" / "report.html").is_file()
