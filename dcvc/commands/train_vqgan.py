"""Train a VQGAN on frames of videos; its files serve --vqgan_config and --vqgan_checkpoint.

With --resume, what is not given anew stays as the run was begun.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from dcvc.commands.arguments import add_device, add_flag


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--train_video_dir", "--videos", nargs="+", required=True, metavar="D", dest="train_video_dir",
                        help="folders of training videos")
    parser.add_argument("--checkpoint_dir", required=True, help="where vqgan.json, vqgan.pt and the log go")
    parser.add_argument("--preset", choices=("demo", "small", "base"), help="size of the model (small)")
    parser.add_argument("--vqgan_config", metavar="C", help="train a model of this configuration instead of a preset's")
    parser.add_argument("--perceptual", choices=("none", "ms_ssim", "lpips"))
    parser.add_argument("--lpips_weights", nargs="+", metavar="FILE", help="for --perceptual lpips: one file of the "
                        "whole network, or the classifier's and the heads'")
    for name in ("steps", "batch_size", "crop_size", "quantize_from", "gan_start", "num_workers", "save_every",
                 "log_every"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--seed", type=int)
    for name in ("learning_rate", "ema_decay", "perceptual_weight", "gan_weight", "mse_weight"):
        parser.add_argument(f"--{name}", type=float)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint folder's latest.pt")
    add_flag(parser, "quiet", False, "no progress line")
    add_flag(parser, "json", False, "the last numbers as JSON")
    add_device(parser)


def run(options: argparse.Namespace) -> int:
    from dcvc.intra.vqgan.config import read_config
    from dcvc.training.vqgan.config import VQGAN_PRESETS, VQGANTrainingConfig
    from dcvc.training.vqgan.trainer import stored_config, train_vqgan

    start = VQGAN_PRESETS[options.preset or "small"]
    if options.resume and options.preset is None:
        start = stored_config(Path(options.checkpoint_dir))
    asked = {field.name: getattr(options, field.name) for field in dataclasses.fields(VQGANTrainingConfig)
             if getattr(options, field.name, None) is not None}
    if options.lpips_weights:
        asked["lpips_weights"] = tuple(options.lpips_weights)
    if options.vqgan_config:
        asked["model"] = read_config(options.vqgan_config)
    config = dataclasses.replace(start, **asked)
    trained = train_vqgan(config, options.train_video_dir, Path(options.checkpoint_dir), device=options.device,
                          resume=options.resume, quiet=options.quiet)
    if options.json:
        print(json.dumps(trained.numbers | {"config": str(trained.config), "checkpoint": str(trained.checkpoint)}))
    else:
        print(" ".join(f"{name} {value:.4g}" for name, value in trained.numbers.items()))
        print(f"--vqgan_config {trained.config} --vqgan_checkpoint {trained.checkpoint}")
    return 0
