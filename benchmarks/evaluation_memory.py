"""Peak memory of evaluating 1080p with the small model, for a short and a long clip, each in a fresh process.

    python benchmarks/evaluation_memory.py --out benchmarks/evaluation_memory.json
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from dcvc.data import VideoValidationDataset
from dcvc.evaluation.estimated import evaluate
from dcvc.files import write_text
from dcvc.inter import DCVC
from dcvc.inter.dcvc2021.config import SIZES
from dcvc.intra import build_intra_codec
from dcvc.intra.config import IntraConfig
from dcvc.video.writer import VideoWriter

SIZE = (1920, 1080)
INTRA = IntraConfig(model_name="bmshj2018-hyperprior", quality=3, pretrained=False)


def write_clip(path: Path, frames: int) -> None:
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.integers(0, 256, (1, 3, 90, 180))).float()
    wide = torch.nn.functional.interpolate(coarse, size=(SIZE[1], 2 * SIZE[0]), mode="bicubic").clamp(0, 255).byte()
    with VideoWriter(path, SIZE, 25) as writer:
        for t in range(frames):
            writer.write(wide[0, :, :, 4 * t: 4 * t + SIZE[0]].permute(1, 2, 0).contiguous().numpy())


def measure(folder: str, frames: int) -> None:
    """Runs in its own process: evaluates and prints the process's peak memory."""
    torch.manual_seed(0)
    results = evaluate(build_intra_codec(INTRA), DCVC(SIZES["small"]),
                       VideoValidationDataset(folder, max_frames=frames), intra_period=32)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"frames": results["sequences"][0]["all"]["frames"], "peak_mib": round(peak)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[4, 96])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return measure(options.measure[0], int(options.measure[1]))
    with tempfile.TemporaryDirectory() as folder:
        write_clip(Path(folder) / "clip.mp4", max(options.frames))
        rows = []
        for frames in options.frames:
            done = subprocess.run([sys.executable, __file__, "--measure", folder, str(frames)], check=True,
                                  stdout=subprocess.PIPE, text=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(rows[-1], flush=True)
    record = {"command": "python benchmarks/evaluation_memory.py --out benchmarks/evaluation_memory.json",
              "model": "small", "size": SIZE, "intra": INTRA.model_name, "limit_mib": 3 * 1024, "runs": rows}
    if options.out:
        write_text(options.out, json.dumps(record, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
