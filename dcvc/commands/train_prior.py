"""Learn the statistics of a VQGAN's codes; writes a checkpoint whose streams are smaller."""

import argparse
import json
from pathlib import Path

from dcvc.commands.arguments import add_device, add_flag, add_options, read_options
from dcvc.commands.options import add_training_sources
from dcvc.commands.output import check_target
from dcvc.device import choose_device
from dcvc.training.vqgan.config import PriorTrainingConfig

# What stands on the command line.
NAMES = ("frames_per_video", "steps", "batch_size", "window", "learning_rate", "hidden", "channels", "seed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vqgan_checkpoint", "--vqgan", required=True, dest="vqgan_checkpoint",
                        help="the VQGAN's weights, or the folder of a train-vqgan run")
    parser.add_argument("--vqgan_config",
                        help="its configuration (default: from the run's folder or the file "
                             "itself, where they hold it)")
    add_training_sources(parser)
    parser.add_argument("--output", help="the checkpoint to write; it must not exist yet "
                                         "(default: the VQGAN's name with _prior)")
    add_options(parser, PriorTrainingConfig, NAMES)
    add_flag(parser, "quiet", False, "no progress line")
    add_flag(parser, "json", False, "print the result as JSON")
    add_device(parser)


def run(options: argparse.Namespace) -> int:
    from dcvc.intra.vqgan.loading import locate_vqgan, read_vqgan_file  # heavy: only when it runs
    from dcvc.training.vqgan.prior_trainer import train_prior

    config, weights = locate_vqgan(options.vqgan_checkpoint, options.vqgan_config)
    beside = weights.with_name(f"{weights.stem}_prior.pt")
    output = Path(options.output) if options.output else beside
    check_target(options, "output", path=output)
    settings = PriorTrainingConfig(**read_options(PriorTrainingConfig, options))
    result = train_prior(config, options.vqgan_checkpoint, options.train_video_dir, output,
                         settings, choose_device(options.device), options.quiet)
    if options.json:
        print(json.dumps({**result, "checkpoint": str(output)}))
    else:
        print(f"bits per code: uniform {result['uniform']:.3f}, static {result['static']:.3f}, "
              f"learned {result['prior']:.3f} (held out); {result['frames']:.0f} frames")
        needed = config and read_vqgan_file(output).own_config is None
        named = f"--vqgan_config {config} " if needed else ""
        print(f"{named}--vqgan_checkpoint {output}")
    return 0
