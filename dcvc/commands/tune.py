"""Fine-tune a model on your own videos, in minutes: dcvc tune --videos DIR [--minutes 10]. Part of
them is held out; the report compares before, after, x264 and x265 on it."""

import argparse
from pathlib import Path

from dcvc.commands.arguments import add_device, add_flag
from dcvc.commands.options import add_training_sources
from dcvc.commands.output import check_target, frame_progress
from dcvc.models.catalog import DEFAULT_MODEL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_training_sources(parser)
    parser.add_argument("--val_video_dir", metavar="V",
                        help="videos to judge by (default: every fourth of yours, three at most; of "
                             "a single one its last third)")
    parser.add_argument("--model", default=DEFAULT_MODEL, metavar="MODEL",
                        help="what to begin from: a model of many rates by name, run folder or file "
                             f"(default: {DEFAULT_MODEL})")
    parser.add_argument("--minutes", type=float, default=10.0, metavar="M",
                        help="for everything, the report included (default: 10)")
    parser.add_argument("--intra_period", type=int, default=32, metavar="N",
                        help="an I-frame every N frames where models are judged (default: 32)")
    parser.add_argument("-o", "--output", default="tuned", metavar="DIR",
                        help="for the model and the report; everything takes it as --model; the "
                             "same command goes on in it (default: tuned)")
    parser.add_argument("--seed", type=int, default=0, help="another number draws other samples")
    add_device(parser)
    add_flag(parser, "json", False, "print the summary as JSON")
    add_flag(parser, "quiet", False, "print the results only")


def run(options: argparse.Namespace) -> int:
    import json

    check_target(options, "output", folder=True)
    from dcvc.training.tuning import Tune, run_tune

    tune = Tune(videos=tuple(options.train_video_dir), model=options.model,
                folder=Path(options.output), minutes=options.minutes,
                intra_period=options.intra_period, seed=options.seed, device=options.device,
                judged=options.val_video_dir, quiet=options.quiet, progress=frame_progress(options))
    summary = run_tune(tune)
    if options.json:
        print(json.dumps(summary.as_dict()))
    else:
        print(f"{summary.text}model  {tune.folder}\nreport {tune.folder / 'report.html'}")
    return 0
