"""Decode payloads of the light codecs in a process of its own, as another run of the program would."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

PROGRAM = """
import sys, torch
from dcvc.inter.light.model import LightPFrameModel
from dcvc.intra.light.model import LightIFrameModel

job = torch.load(sys.argv[1], weights_only=False)
torch.set_num_threads(job["threads"])
shown, costs = [], []
if job["kind"] == "intra":
    model = LightIFrameModel(job["config"])
    model.load_state_dict(job["weights"])
    shown = [model.decompress(payload) for payload in job["payloads"]]
else:
    model = LightPFrameModel(job["config"]).eval()
    model.load_state_dict(job["weights"])
    state = model.start(job["first"])
    for payload in job["payloads"]:
        bits = {}
        x_hat, state = model.decompress(state, payload, bits)
        shown.append(x_hat)
        costs.append(bits)
torch.save({"shown": shown, "costs": costs}, sys.argv[2])
"""


def decode_elsewhere(folder: Path, **job: Any) -> dict[str, list]:
    """job: kind "intra" or "inter", config, weights, payloads, threads, first (reference picture of "inter")."""
    torch.save(job, folder / "job.pt")
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(folder / "job.pt"), str(folder / "done.pt")],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return torch.load(folder / "done.pt", weights_only=False)


def moving_frames(count: int, height: int, width: int) -> torch.Tensor:
    """Smooth random pictures that move by two pixels a frame, (count, 3, H, W) in [0, 1]."""
    small = torch.rand(1, 3, height // 8 + 1, width // 8 + 1)
    first = torch.nn.functional.interpolate(small, size=(height, width), mode="bicubic").clamp(0, 1)
    return torch.cat([torch.roll(first, (t, 2 * t), (2, 3)) for t in range(count)])
