"""Peak memory of `dcvc eval` on clips of growing length, each run in a process of its own."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from kit.vqgan import make_rated_vqgan

from dcvc.config import to_dict
from dcvc.errors import ReadError
from dcvc.inter import DCVC
from dcvc.inter.dcvc2021.config import DCVCConfig
from dcvc.intra.config import IntraConfig
from dcvc.video.writer import VideoWriter
from dcvc.weights import write_checkpoint

NARROW = DCVCConfig(4, 4, 4, 4, (2, 2, 2, 2), 4)
GOP = 32                                                     # frames


def write_panning_clip(path: Path, frames: int, size: tuple[int, int]) -> None:
    """A smooth picture that moves 4 pixels a frame; size: (width, height)."""
    width, height = size
    coarse = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, height // 12, width // 6))).float()
    whole = (height, width + 4 * frames)
    wide = torch.nn.functional.interpolate(coarse, size=whole, mode="bicubic").clamp(0, 255).byte()[0]
    with VideoWriter(path, size, 25) as writer:
        for t in range(frames):
            writer.write(wide[:, :, 4 * t: 4 * t + width].permute(1, 2, 0).contiguous().numpy())


def write_untrained_model(folder: Path) -> Path:
    """A checkpoint of random weights in a few channels, with a small VQGAN for its I-frames beside it: what grows with
    the number of frames does not depend on training or width."""
    config, weights = make_rated_vqgan(folder / "vqgan")
    torch.manual_seed(0)
    model = DCVC(NARROW)
    intra = IntraConfig("vqgan", vqgan_config=str(config), vqgan_checkpoint=str(weights))
    write_checkpoint(folder / "model.pt", {"model": model.state_dict(), "inter": to_dict(model.config),
                                           "intra": to_dict(intra), "settings": {}, "progress": {}})
    return folder / "model.pt"


def peak_mib(arguments: list[str]) -> float:
    """Peak resident memory of one `dcvc` command in a fresh process, MiB. Raises ReadError when it fails."""
    process = subprocess.Popen([sys.executable, "-m", "dcvc.cli", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ReadError(f"dcvc {' '.join(arguments)}: ended with {process.returncode}")
    return usage.ru_maxrss / (1024 if sys.platform != "darwin" else 1 << 20)


def bench_eval_memory(frames: tuple[int, ...] = (16, 96), size: tuple[int, int] = (1920, 1080),
                      decode: bool = False) -> dict:
    """The command on written streams at each length; ratio: the last to the first. decode: read them again too, as the
    command does by default, which takes twice as long."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        clip, model = Path(folder) / "clip.mp4", write_untrained_model(Path(folder))
        write_panning_clip(clip, max(frames), size)
        for count in frames:
            peak = peak_mib(["eval", str(clip), "--model", str(model), "--max_frames", str(count),
                             "--gop_size", str(GOP), "--decode" if decode else "--no-decode", "--device", "cpu",
                             "--quiet", "-o", str(Path(folder) / "results.json")])
            runs.append({"frames": count, "peak_mib": round(peak, 1)})
            print(runs[-1], file=sys.stderr, flush=True)
    return {"width": size[0], "height": size[1], "model": to_dict(NARROW), "intra": "VQGAN of 8 channels, f = 16",
            "gop_size": GOP, "decoded_again": decode, "threads": torch.get_num_threads(), "runs": runs,
            "ratio": runs[-1]["peak_mib"] / runs[0]["peak_mib"], "limit": 1.05}
