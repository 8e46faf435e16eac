"""Evaluate I-frame codecs on every frame: the command `dcvc eval --intra_only`."""

import sys

from dcvc.cli import main

if __name__ == "__main__":
    sys.exit(main(["eval", "--intra_only", *sys.argv[1:]]))
