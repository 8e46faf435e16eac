"""Learn the statistics of a VQGAN's codes; writes a checkpoint whose streams are smaller."""

import argparse
import dataclasses
import json

from dcvc.commands.arguments import add_device, add_flag


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vqgan_config", required=True, metavar="C", help="configuration, as for training")
    parser.add_argument("--vqgan_checkpoint", "--vqgan", required=True, metavar="K", dest="vqgan_checkpoint",
                        help="the VQGAN's weights")
    parser.add_argument("--train_video_dir", "--videos", nargs="+", required=True, metavar="D", dest="train_video_dir")
    parser.add_argument("--output", required=True, metavar="PT", help="the checkpoint to write (it must not exist)")
    for name in ("frames_per_video", "steps", "batch_size", "window", "hidden", "channels", "seed"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--learning_rate", type=float)
    add_flag(parser, "quiet", False, "no progress line")
    add_flag(parser, "json", False, "the result as JSON")
    add_device(parser)


def run(options: argparse.Namespace) -> int:
    import torch

    from dcvc.intra.vqgan.prior_training import PriorTrainingConfig, train_prior

    asked = {field.name: getattr(options, field.name) for field in dataclasses.fields(PriorTrainingConfig)
             if getattr(options, field.name, None) is not None}
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    result = train_prior(options.vqgan_config, options.vqgan_checkpoint, options.train_video_dir, options.output,
                         PriorTrainingConfig(**asked), device, options.quiet)
    if options.json:
        print(json.dumps(result))
    else:
        print(f"bits per code: uniform {result['uniform']:.3f}, static {result['static']:.3f}, learned "
              f"{result['prior']:.3f} (held-out frames); {result['frames']:.0f} frames")
        print(f"--vqgan_config {options.vqgan_config} --vqgan_checkpoint {options.output}")
    return 0
