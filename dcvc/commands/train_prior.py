"""Learn the statistics of a VQGAN's codes; writes a checkpoint whose streams are smaller."""

import argparse
import dataclasses
import json
from pathlib import Path

from dcvc.commands.arguments import add_device, add_flag


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vqgan_checkpoint", "--vqgan", required=True, metavar="K", dest="vqgan_checkpoint",
                        help="the VQGAN's weights, or the folder of a train-vqgan run")
    parser.add_argument("--vqgan_config", metavar="C", help="its configuration (taken from the run's folder or from "
                        "the file itself where they tell it)")
    parser.add_argument("--train_video_dir", "--videos", nargs="+", required=True, metavar="D", dest="train_video_dir")
    parser.add_argument("--output", metavar="PT", help="the checkpoint to write, it must not exist (the VQGAN's name "
                        "with _prior)")
    for name in ("frames_per_video", "steps", "batch_size", "window", "hidden", "channels", "seed"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--learning_rate", type=float)
    add_flag(parser, "quiet", False, "no progress line")
    add_flag(parser, "json", False, "the result as JSON")
    add_device(parser)


def run(options: argparse.Namespace) -> int:
    from dcvc.device import choose_device
    from dcvc.intra.vqgan.loading import locate_vqgan
    from dcvc.training.vqgan.prior_trainer import PriorTrainingConfig, train_prior

    asked = {field.name: getattr(options, field.name) for field in dataclasses.fields(PriorTrainingConfig)
             if getattr(options, field.name, None) is not None}
    config, checkpoint = locate_vqgan(options.vqgan_checkpoint, options.vqgan_config)
    output = Path(options.output) if options.output else checkpoint.with_name(f"{checkpoint.stem}_prior.pt")
    result = train_prior(config, checkpoint, options.train_video_dir, output, PriorTrainingConfig(**asked),
                         choose_device(options.device), options.quiet)
    if options.json:
        print(json.dumps({**result, "checkpoint": str(output)}))
    else:
        print(f"bits per code: uniform {result['uniform']:.3f}, static {result['static']:.3f}, learned "
              f"{result['prior']:.3f} (held out); {result['frames']:.0f} frames")
        named = f"--vqgan_config {config} " if isinstance(config, Path) else ""
        print(f"{named}--vqgan_checkpoint {output}")
    return 0
