"""Take the boxed model and some videos (yours, or clips made for it), tune the model on them, and show
what came of it beside x264 and x265. With --classic: train both codecs of DCVC-2021 from nothing."""

import argparse
from pathlib import Path

from dcvc.commands.arguments import add_device, add_flag
from dcvc.commands.messages import told
from dcvc.commands.options import add_training_sources
from dcvc.commands.output import check_target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_training_sources(parser, required=False)
    parser.add_argument("--val_video_dir", help="videos to judge by (default: some of yours)")
    parser.add_argument("--checkpoint_dir", default="demo", help="where everything is written")
    parser.add_argument("--seed", type=int, default=0,
                        help="another number makes other clips and weights")
    add_flag(parser, "classic", False,
             "train a VQGAN and DCVC-2021 from nothing instead, stage by stage")
    add_device(parser)
    add_flag(parser, "quiet", False, "print the results only")


def run(options: argparse.Namespace) -> int:
    check_target(options, "checkpoint_dir", folder=True)
    from dcvc.demo.folder import Demo

    demo = Demo(folder=Path(options.checkpoint_dir), videos=tuple(options.train_video_dir),
                val_videos=options.val_video_dir, seed=options.seed, device=options.device,
                quiet=options.quiet)
    if options.classic:
        from dcvc.demo.classic import run_classic_demo
        from dcvc.training.vqgan.for_recipe import train_recipe_vqgan

        summary = run_classic_demo(demo, train_recipe_vqgan)
    else:
        from dcvc.demo.run import run_demo

        summary = run_demo(demo)
    print(told(f"done in {summary['minutes']:.1f} minutes"))
    return 0
