"""Make a small data set (or take your videos), train a VQGAN and a DCVC on it, and show what happened."""

import argparse
from pathlib import Path

from dcvc.commands.arguments import add_device, add_flag


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--train_video_dir", nargs="+", default=[], metavar="D", help="your own folders of videos")
    parser.add_argument("--val_video_dir", metavar="V", help="validation videos (default: a fifth of yours)")
    parser.add_argument("--checkpoint_dir", default="demo", help="where everything is written")
    parser.add_argument("--seed", type=int, default=0)
    add_device(parser)
    add_flag(parser, "quiet", False, "results only")


def run(options: argparse.Namespace) -> int:
    from dcvc.demo.run import Demo, run_demo
    from dcvc.training.vqgan.for_recipe import train_recipe_vqgan

    demo = Demo(folder=Path(options.checkpoint_dir), videos=tuple(options.train_video_dir),
                val_videos=options.val_video_dir, seed=options.seed, device=options.device, quiet=options.quiet)
    summary = run_demo(demo, train_recipe_vqgan)
    print(f"done in {summary['minutes']:.1f} minutes")
    return 0
