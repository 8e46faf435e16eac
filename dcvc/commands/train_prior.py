"""Learn the statistics of a VQGAN's codes; writes a checkpoint whose streams are smaller."""

import argparse
import json
from pathlib import Path

from dcvc.commands.arguments import add_device, add_flag, add_options, read_options
from dcvc.commands.options import add_training_sources
from dcvc.device import choose_device
from dcvc.intra.vqgan.loading import locate_vqgan
from dcvc.training.vqgan.prior_trainer import PriorTrainingConfig, train_prior

# What stands on the command line, of the fields of PriorTrainingConfig.
HELP = {
    "frames_per_video": "frames taken of each video, evenly spaced",
    "steps": "updates of the weights",
    "batch_size": "windows of a step", "window": "largest side of a window, in codes",
    "learning_rate": "of the optimizer", "hidden": "channels of the network's hidden layers",
    "channels": "channels that stand for a code", "seed": "of the first weights and the windows",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vqgan_checkpoint", "--vqgan", required=True, dest="vqgan_checkpoint",
                        help="the VQGAN's weights, or the folder of a train-vqgan run")
    parser.add_argument("--vqgan_config",
                        help="its configuration (default: from the run's folder or the file "
                             "itself, "
                                               "where they hold it)")
    add_training_sources(parser)
    parser.add_argument("--output", help="the checkpoint to write; it must not exist yet "
                                         "(default: the VQGAN's name with _prior)")
    add_options(parser, PriorTrainingConfig, tuple(HELP),
                **{name: {"help": text} for name, text in HELP.items()})
    add_flag(parser, "quiet", False, "no progress line")
    add_flag(parser, "json", False, "print the result as JSON")
    add_device(parser)


def run(options: argparse.Namespace) -> int:
    config, checkpoint = locate_vqgan(options.vqgan_checkpoint, options.vqgan_config)
    output = Path(options.output) if options.output else checkpoint.with_name(f"{checkpoint.stem}_prior.pt")
    settings = PriorTrainingConfig(**read_options(PriorTrainingConfig, options))
    result = train_prior(config, checkpoint, options.train_video_dir, output, settings,
                         choose_device(options.device), options.quiet)
    if options.json:
        print(json.dumps({**result, "checkpoint": str(output)}))
    else:
        print(f"bits per code: uniform {result['uniform']:.3f}, static {result['static']:.3f}, "
              f"learned {result['prior']:.3f} (held out); {result['frames']:.0f} frames")
        named = f"--vqgan_config {config} " if isinstance(config, Path) else ""
        print(f"{named}--vqgan_checkpoint {output}")
    return 0
