"""The community trainer's command: `python train_dcvc.py --use_video_dataset --train_video_dir …
--stage 1 …`."""

import sys

from dcvc.commands.arguments import ArgumentParser, run_reporting_errors
from dcvc.commands.options import video_access_told
from dcvc.commands.train import add_arguments, run
from dcvc.training.launch import relaunch_if_alone


def main() -> int:
    parser = ArgumentParser(prog="train_dcvc.py",
                            description="Train the DCVC P-frame codec, one stage a call.")
    add_arguments(parser)
    options = parser.parse_args()
    code = relaunch_if_alone(__file__, sys.argv[1:])
    if code is not None:
        return code
    with video_access_told(options):
        return run(options)


if __name__ == "__main__":
    sys.exit(run_reporting_errors(main))
