"""Two processes are one process with the double batch; their evaluation is the same to the last digit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dcvc.weights import read_checkpoint

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(400)
def test_two_processes_have_the_gradients_of_the_double_batch(small_flags, tmp_path):
    words = ["--use_video_dataset", "--model_size", "tiny", "--grad_clip_max_norm", "0", *small_flags(tmp_path / "run")]
    found = []
    for processes, batch in ((1, "2"), (2, "1")):
        out = tmp_path / f"{processes}.pt"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes),
                   "tests/training/process_gradients.py", str(out), batch, *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={
            **os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(torch.load(out, weights_only=True))
    one, two = found
    assert (one["processes"], two["processes"]) == (1, 2)
    assert one["evaluation"] == two["evaluation"]
    for number in ("1", "2", "3", "4"):
        assert one["gradients"][number].keys() == two["gradients"][number].keys()
        whole, both = (torch.cat([g.flatten() for g in run["gradients"][number].values()]) for run in found)
        assert float(whole.norm()) > 0
        difference = float((whole - both).norm() / whole.norm())
        assert difference <= 1e-5, f"stage {number}: {difference:.2g}"


@pytest.mark.timeout(400)
def test_a_recipe_on_two_processes_resumes_on_one(small_flags, tmp_path):
    recipe = tmp_path / "mine.json"
    recipe.write_text('{"model_size": "tiny", "stages": [{"number": 1, "epochs": 2}, {"number": 4, "epochs": 2}]}')
    words = ["train_dcvc.py", "--recipe", str(recipe), *small_flags(tmp_path / "run", "--batch_size", "1")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("is finished") == 1
    latest = tmp_path / "run" / "stage4_gop2" / "latest.pt"
    assert read_checkpoint(latest)["progress"]["steps"] == 4
    state = tmp_path / "run" / "recipe.json"
    state.write_text(state.read_text().replace('"stage4_gop2": {"steps"', '"gone": {"steps"').replace(
        '"done": {', '"done": {', 1))
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
