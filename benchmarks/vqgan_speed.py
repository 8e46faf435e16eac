"""Seconds to code the VQGAN codes of a 1920x1080 frame (f = 16: 8,160 codes), prior included.

    python benchmarks/vqgan_speed.py --vqgan RUN --video CLIPS/val/sam2_02_cups.mp4 \
        --out benchmarks/vqgan_speed.json

RUN: as benchmarks/vqgan_rates.py leaves it. The codes of K = 16384 are random ones, as are that
prior's weights: what tables cost does not depend on either. Encoding counts the decoding that
checks it, as the codec does it.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from kit.vqgan import measure_speed, random_prior

from dcvc.data import VideoReader
from dcvc.files import write_text
from dcvc.intra import VQGANIFrameModel
from dcvc.intra.vqgan.prior import PriorRate
from dcvc.intra.vqgan.rate import StaticRate, UniformRate

LARGE = 16384


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    for name in ("vqgan", "video", "out"):
        options.add_argument(f"--{name}", required=True, type=Path)
    options.add_argument("--repeats", type=int, default=5)
    given = options.parse_args()
    codec = VQGANIFrameModel(given.vqgan / "vqgan.json", given.vqgan / "vqgan_prior.pt")
    with VideoReader(given.video) as reader:
        frame = reader.read(0, 1)[0:1].float() / 255
    frame = F.interpolate(frame, (1080, 1920), mode="bilinear", antialias=True).clamp(0, 1)
    trained = codec.encode_indices(frame)[:, None].numpy()
    rng = np.random.default_rng(0)
    large = rng.integers(0, LARGE, trained.shape)
    torch.manual_seed(0)
    untrained = (UniformRate(LARGE), StaticRate(rng.integers(0, 1000, (1, LARGE))),
                 PriorRate(random_prior(1, LARGE)))
    cases = [(f"trained, K = {codec.codes}", trained, codec.rate_models.values()),
             (f"K = {LARGE}", large, untrained)]
    results = [{"codes": case, "grid": list(indices.shape), "rate_model": model.name,
                "limit_s": 2.0 if model.name == "prior" else 0.02,
                **measure_speed(model, indices, given.repeats)}
               for case, indices, models in cases for model in models]
    record = {"command": "python benchmarks/vqgan_speed.py --vqgan RUN --video "
                         "../shared/clips/val/sam2_02_cups.mp4 --out benchmarks/vqgan_speed.json",
              "threads": torch.get_num_threads(), "load_average": os.getloadavg()[0],
              "repeats": given.repeats, "results": results}
    write_text(given.out, json.dumps(record, indent=1) + "\n")
    for row in results:
        print(f"{row['codes']:<20} {row['rate_model']:<8} encode {row['encode_s']:.4f} s, decode "
              f"{row['decode_s']:.4f} s (at most {row['limit_s']} s)")


if __name__ == "__main__":
    main()
