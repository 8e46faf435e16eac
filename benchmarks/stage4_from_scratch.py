"""Validation RD loss of the small model before and after 300 steps of stage 4 from random weights.

    python benchmarks/stage4_from_scratch.py --train_video_dir CLIPS/train --val_video_dir CLIPS/val \
        --out benchmarks/stage4_from_scratch.json
"""

import argparse
import json
import tempfile
from pathlib import Path

from dcvc.commands.arguments import ArgumentParser
from dcvc.commands.train import add_arguments, job_from
from dcvc.evaluation.estimated import evaluate
from dcvc.files import write_text
from dcvc.training.losses import stage_objective
from dcvc.training.stage_setup import prepare_stage
from dcvc.training.trainer import train

FLAGS = ("--use_video_dataset --stage 4 --gop_size 3 --model_size small --batch_size 2 --crop_size 128 --epochs 100000 "
         "--eval_freq 100000 --seed 0 --i_frame_model_name bmshj2018-hyperprior --i_frame_quality 3 "
         "--no-i_frame_pretrained --eval_max_frames 4 --num_workers 1").split()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--train_video_dir", required=True)
    options.add_argument("--val_video_dir", required=True)
    options.add_argument("--steps", type=int, default=300)
    options.add_argument("--out", type=Path, required=True)
    given = options.parse_args()
    parser = ArgumentParser()
    add_arguments(parser)
    with tempfile.TemporaryDirectory() as folder:
        flags = [*FLAGS, "--max_steps", str(given.steps)]
        job = job_from(parser.parse_args([*flags, "--train_video_dir", given.train_video_dir, "--val_video_dir",
                                          given.val_video_dir, "--checkpoint_dir", folder]))
        stage = prepare_stage(job)
        step = stage.step
        first = evaluate(step.intra, step.p_frame, stage.sequences, intra_period=job.train.eval_intra_period)
        step.p_frame.train()
        last = train(stage).evaluation

    def loss(results: dict) -> float:
        mean = results["mean"]["P"]
        return stage_objective(job.stage, job.train.lambda_value, mean["mse"], mean["bpp_terms"])

    record = {"command": "python benchmarks/stage4_from_scratch.py --train_video_dir ../shared/clips/train "
                         "--val_video_dir ../shared/clips/val --out benchmarks/stage4_from_scratch.json",
              "flags": " ".join(flags), "rd_loss_step_0": loss(first), "rd_loss_after": loss(last),
              "fall_percent": 100 * (1 - loss(last) / loss(first)), "needed_percent": 40,
              "mean_step_0": first["mean"], "mean_after": last["mean"]}
    write_text(given.out, json.dumps(record, indent=1) + "\n")
    print(f"RD loss {loss(first):.3f} -> {loss(last):.3f}: {record['fall_percent']:.1f} % lower")


if __name__ == "__main__":
    main()
