"""Make a model folder of published weights: of Microsoft's DCVC-UF its I-frame file and its low-delay
P-frame file, in either order. Nothing in the files is executed."""

import argparse
from pathlib import Path

from dcvc.commands.output import check_target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE",
                        help="weights of the I-frame codec and of the P-frame codec "
                             "(cvpr2026_image.pth.tar, cvpr2026_video_ld.pth.tar)")
    parser.add_argument("-o", "--output", required=True, metavar="DIR",
                        help="the folder to write, which everything takes as --model")


def run(options: argparse.Namespace) -> None:
    from dcvc.checkpoint import import_codecs

    check_target(options, "output", folder=True)
    codec = import_codecs([Path(file) for file in options.files], Path(options.output))
    parts = (("I", codec.intra), ("P", codec.p_frame))
    counts = "; ".join(f"{kind}-frames by {part.name}, {sum(p.numel() for p in part.parameters()):,} "
                       "parameters" for kind, part in parts)
    print(f"{options.output}: {counts}")
