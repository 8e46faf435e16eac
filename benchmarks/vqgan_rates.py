"""What the rate models of a VQGAN save on clips it has not seen, in written bytes.

    python benchmarks/vqgan_rates.py --train_video_dir CLIPS/train --val_video_dir CLIPS/val \
        --checkpoint_dir RUN --out benchmarks/vqgan_rates.json

It trains the VQGAN and its prior, then measures.

What RUN already holds is not made again. Half an hour on one CPU core.
"""

import argparse
import json
import sys
from pathlib import Path

from kit.vqgan import measure_rates

from dcvc.cli import main as dcvc
from dcvc.files import write_text

VQGAN = ("--preset small --steps 900 --batch_size 4 --crop_size 128 --learning_rate 1.5e-3 "
         "--quantize_from 300 --save_every 100 --seed 0 --device cpu")
PRIOR = "--frames_per_video 8 --steps 700 --batch_size 12 --seed 0 --device cpu"
NEEDED = {"prior_saves_percent_of_uniform": 10, "prior_saves_percent_of_static": 5,
          "largest_gap_of_allowed": 1}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    for name in ("train_video_dir", "val_video_dir", "checkpoint_dir", "out"):
        options.add_argument(f"--{name}", required=True, type=Path)
    options.add_argument("--frames_per_video", type=int, default=4)
    given = options.parse_args()
    run = given.checkpoint_dir
    train = ["--train_video_dir", str(given.train_video_dir)]
    commands = [["train-vqgan", *train, "--checkpoint_dir", str(run), *VQGAN.split()],
                ["train-prior", "--vqgan", str(run), *train, *PRIOR.split()]]
    for command, made in zip(commands, ("vqgan.pt", "vqgan_prior.pt"), strict=True):
        if not (run / made).exists() and dcvc(command):
            return 1
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    result = measure_rates(run / "vqgan.json", run / "vqgan_prior.pt", given.val_video_dir,
                           given.frames_per_video)
    record = {"command": "python benchmarks/vqgan_rates.py --train_video_dir "
                         "../shared/clips/train --val_video_dir ../shared/clips/val "
                         "--checkpoint_dir RUN --out benchmarks/vqgan_rates.json",
              "vqgan": f"dcvc train-vqgan {VQGAN}", "prior": f"dcvc train-prior {PRIOR}",
              "trained_to": {key: rows[-1][key]
                             for key in ("step", "psnr", "perplexity", "codes_used")},
              "needed": NEEDED, **result}
    write_text(given.out, json.dumps(record, indent=1) + "\n")
    print(f"{result['bytes']}: the learned prior saves "
          f"{result['prior_saves_percent_of_uniform']:.1f} % of uniform, "
          f"{result['prior_saves_percent_of_static']:.1f} % of static")
    return 0


if __name__ == "__main__":
    sys.exit(main())
