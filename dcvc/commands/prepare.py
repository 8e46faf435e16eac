"""Re-encode a data set once into short segments that are quick to seek in: decoding one GOP then costs few frames."""

import argparse

from dcvc.data.prepare import QUALITIES, prepare
from dcvc.data.video_table import build_table
from dcvc.errors import ReadError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video_dir", help="folder, video file, .txt list of paths or index")
    parser.add_argument("out", help="new folder for the segments and manifest.json")
    parser.add_argument("--quality", choices=sorted(QUALITIES), default="visual", help="visually lossless or lossless")
    parser.add_argument("--crf", type=int, help="another x264 CRF than the quality's")
    parser.add_argument("--segment", type=int, default=64, help="frames per file")
    parser.add_argument("--keyframe", type=int, default=4, help="frames between keyframes")
    parser.add_argument("--short_side", type=int, help="scale down to this many pixels")
    parser.add_argument("--skip_bad", action="store_true", help="leave out videos that cannot be opened")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    table = build_table([options.video_dir])
    if table.excluded and not options.skip_bad:
        raise ReadError(f"{table.excluded[0][3]}; --skip_bad leaves such videos out")
    manifest = prepare(
        table, options.out, quality=options.quality, segment=options.segment, keyframe=options.keyframe,
        short_side=options.short_side, crf=options.crf,
        progress=lambda items, total: tqdm(items, total=total, unit="video", disable=options.quiet),
    )
    print(f"{len(manifest['segments'])} segments in {options.out}; train with --train_video_dir {options.out}")
