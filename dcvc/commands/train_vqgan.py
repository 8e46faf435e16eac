"""Train a VQGAN on frames of videos; its files serve --vqgan_config and --vqgan_checkpoint.

With --resume, every setting that is not given again stays as it was when the run began.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from dcvc.commands.arguments import add_device, add_flag, add_options, read_options
from dcvc.commands.options import add_lpips, add_training_sources, lpips_from
from dcvc.commands.output import check_target
from dcvc.intra.vqgan.config import read_config
from dcvc.training.vqgan.config import VQGAN_PRESETS, VQGANTrainingConfig

# What stands on the command line, of the fields of VQGANTrainingConfig.
NAMES = ("steps", "batch_size", "crop_size", "learning_rate", "perceptual", "perceptual_weight", "mse_weight",
         "ema_decay", "quantize_from", "gan_weight", "gan_start", "num_workers", "save_every", "log_every", "seed",
         "keep_checkpoints", "max_skips", "max_rollbacks", "rollback_factor", "small_videos")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_training_sources(parser)
    parser.add_argument("--checkpoint_dir", required=True,
                        help="where vqgan.json, vqgan.pt and the log go")
    parser.add_argument("--preset", choices=tuple(VQGAN_PRESETS),
                        help="size of the model (default: small)")
    parser.add_argument("--vqgan_config",
                        help="train a model of this configuration instead of a preset's")
    add_lpips(parser, "for --perceptual lpips")
    # None: the preset's value, or the one that the run began with.
    add_options(parser, VQGANTrainingConfig, NAMES, **{name: {"default": None} for name in NAMES})
    add_flag(parser, "resume", False, "continue from the latest.pt in --checkpoint_dir")
    add_flag(parser, "quiet", False, "no progress line")
    add_flag(parser, "json", False, "print the last numbers as JSON")
    add_device(parser)


def run(options: argparse.Namespace) -> int:
    from dcvc.training.vqgan.trainer import stored_config, train_vqgan  # heavy: only when it runs

    check_target(options, "checkpoint_dir", folder=True)
    folder = Path(options.checkpoint_dir)
    start = VQGAN_PRESETS[options.preset or "small"]
    if options.resume and options.preset is None:
        start = stored_config(folder)
    given = {name: value for name, value in read_options(VQGANTrainingConfig, options).items()
             if value is not None}
    # An empty list means that the option was not given.
    given["lpips_weights"] = lpips_from(options) or start.lpips_weights
    if options.vqgan_config:
        given["model"] = read_config(options.vqgan_config)
    trained = train_vqgan(dataclasses.replace(start, **given), options.train_video_dir, folder,
                          device=options.device, resume=options.resume, quiet=options.quiet)
    if options.json:
        print(json.dumps(trained.numbers | {"config": str(trained.config),
                                            "checkpoint": str(trained.checkpoint)}))
    else:
        print(" ".join(f"{name} {value:.4g}" for name, value in trained.numbers.items()))
        print(f"--vqgan_config {trained.config} --vqgan_checkpoint {trained.checkpoint}")
    return 0
