"""Train a VQGAN on frames of videos; its files serve --vqgan_config and --vqgan_checkpoint.

With --from, a VQGAN of any layout that loads is fine-tuned, and also written in its own layout.
With --resume, every setting that is not given again stays as it was when the run began.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from dcvc.commands.arguments import add_device, add_flag, add_options, read_options
from dcvc.commands.options import add_lpips, add_training_sources, lpips_from
from dcvc.commands.output import check_target
from dcvc.errors import InputError
from dcvc.intra.vqgan.config import VQGANConfig, read_config
from dcvc.training.vqgan.config import FINE_TUNING, VQGAN_PRESETS, VQGANTrainingConfig

# What stands on the command line, of the fields of VQGANTrainingConfig.
NAMES = ("steps", "batch_size", "crop_size", "learning_rate", "perceptual", "perceptual_weight", "mse_weight",
         "ema_decay", "quantize_from", "gan_weight", "gan_start", "num_workers", "save_every", "log_every", "seed",
         "start", "weights", "freeze", "entropy", "validate_every", "prior_steps", "dists_weights",
         "keep_checkpoints", "max_skips", "max_rollbacks", "rollback_factor", "small_videos")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_training_sources(parser)
    parser.add_argument("--checkpoint_dir", required=True,
                        help="where vqgan.json, vqgan.pt and the log go")
    parser.add_argument("--val_video_dir", nargs="+", default=[], metavar="DIR",
                        help="fine-tuning: videos to judge by (default: every fourth of yours; of "
                             "a single one its last third)")
    parser.add_argument("--preset", choices=tuple(VQGAN_PRESETS),
                        help="size of the model (default: small)")
    parser.add_argument("--vqgan_config",
                        help="train a model of this configuration instead of a preset's; with "
                             "--from, the configuration of that file, where it does not tell it")
    add_lpips(parser, "for --perceptual lpips")
    # None: the preset's value, or the one that the run began with.
    add_options(parser, VQGANTrainingConfig, NAMES, **{name: {"default": None} for name in NAMES})
    add_flag(parser, "resume", False, "continue from the latest.pt in --checkpoint_dir")
    add_flag(parser, "quiet", False, "no progress line")
    add_flag(parser, "json", False, "print the last numbers as JSON")
    add_device(parser)


def run(options: argparse.Namespace) -> int:
    from dcvc.training.vqgan.fine_tune import fine_tune  # heavy: only when it runs
    from dcvc.training.vqgan.trainer import train_vqgan

    check_target(options, "checkpoint_dir", folder=True)
    folder = Path(options.checkpoint_dir)
    config, read = _settings(options, folder)
    how = {"device": options.device, "resume": options.resume, "quiet": options.quiet}
    if config.start is not None:
        trained = fine_tune(config, options.train_video_dir, folder,
                            val_videos=options.val_video_dir,
                            vqgan_config=_config_of_start(options, config), read=read, **how)
    else:
        trained = train_vqgan(config, options.train_video_dir, folder, **how)
    if options.json:
        print(json.dumps(trained.numbers | {"config": str(trained.config),
                                            "checkpoint": str(trained.checkpoint)}))
    else:
        print(" ".join(f"{name} {value:.4g}" for name, value in trained.numbers.items()))
        print(f"--vqgan_config {trained.config} --vqgan_checkpoint {trained.checkpoint}")
    return 0


def _settings(options: argparse.Namespace, folder: Path
              ) -> tuple[VQGANTrainingConfig, tuple | None]:
    """Of the run that is resumed, else of the preset; and what was given. With it what was read of
    the file to start from, where that was needed."""
    from dcvc.training.vqgan.trainer import stored_config  # heavy: only when it runs

    given = {name: value for name, value in read_options(VQGANTrainingConfig, options).items()
             if value is not None}
    fine_tunes, read = "start" in given, None
    if fine_tunes and options.preset:
        raise InputError("--from and --preset: found both, needed one: the file says its own size")
    start = FINE_TUNING if fine_tunes else VQGAN_PRESETS[options.preset or "small"]
    if options.resume and options.preset is None:
        start = stored_config(folder)
    # An empty list means that the option was not given.
    given["lpips_weights"] = lpips_from(options) or start.lpips_weights
    if options.vqgan_config and not fine_tunes and start.start is None:
        given["model"] = read_config(options.vqgan_config)
    if fine_tunes:
        # Before the settings are checked: a crop must be a multiple of the file's own f.
        from dcvc.intra.vqgan.loading import config_and_file

        read = config_and_file(options.vqgan_config, given["start"], given.get("weights"))
        given["model"] = read[0]
    return dataclasses.replace(start, **given), read


def _config_of_start(options: argparse.Namespace,
                     config: VQGANTrainingConfig) -> str | VQGANConfig | None:
    """A resumed run knows its model; the file may not tell it."""
    return config.model if options.resume and not options.vqgan_config else options.vqgan_config
