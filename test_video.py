"""Evaluate a trained codec on whole videos: the command `dcvc eval`."""

import sys

from dcvc.cli import main

if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:]]))
