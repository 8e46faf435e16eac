"""Make a small data set (or take your videos), train both codecs on it, and show what came of it."""

import argparse
from pathlib import Path

from dcvc.commands.arguments import add_device, add_flag
from dcvc.commands.options import add_training_sources


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_training_sources(parser, required=False)
    parser.add_argument("--val_video_dir", help="validation videos (default: a fifth of yours)")
    parser.add_argument("--checkpoint_dir", default="demo", help="where everything is written")
    parser.add_argument("--seed", type=int, default=0,
                        help="another number makes other clips and weights")
    add_device(parser)
    add_flag(parser, "quiet", False, "print the results only")


def run(options: argparse.Namespace) -> int:
    from dcvc.demo.run import Demo, run_demo
    from dcvc.training.vqgan.for_recipe import train_recipe_vqgan

    demo = Demo(folder=Path(options.checkpoint_dir), videos=tuple(options.train_video_dir),
                val_videos=options.val_video_dir, seed=options.seed, device=options.device,
                quiet=options.quiet)
    summary = run_demo(demo, train_recipe_vqgan)
    print(f"done in {summary['minutes']:.1f} minutes")
    return 0
