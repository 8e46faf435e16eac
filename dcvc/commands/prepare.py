"""Re-encode a data set once into short segments that are quick to seek in: then few frames have to
be decoded for one sample."""

import argparse

from dcvc.commands.arguments import add_flag
from dcvc.commands.options import add_stream_models
from dcvc.commands.output import check_target, progress_bar, tell_notes
from dcvc.errors import ReadError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video_dir", metavar="DIR",
                        help="a folder of videos, a video file, a .txt list of paths or an index")
    add_stream_models(parser)
    parser.add_argument("out", metavar="OUT",
                        help="a new folder for the segments and manifest.json")
    parser.add_argument("--quality", choices=("lossless", "visual"), default="visual",
                        help="visual: no difference to be seen; lossless: no difference at all")
    parser.add_argument("--crf", type=int, help="x264's CRF (default: by --quality)")
    parser.add_argument("--segment", type=int, default=64, help="frames of a segment")
    parser.add_argument("--keyframe", type=int, default=4, help="a keyframe every N frames")
    parser.add_argument("--short_side", type=int, help="scale the short side down to N pixels")
    add_flag(parser, "skip_bad", False, "leave out videos that cannot be opened")
    add_flag(parser, "quiet", False, "no progress bar")


def run(options: argparse.Namespace) -> None:
    from dcvc.data.prepare import prepare  # heavy: only when it runs
    from dcvc.data.video_table import build_table
    from dcvc.video.source_losses import losses_beside_tags

    check_target(options, "out", folder=True)
    table = build_table([options.video_dir])
    if table.excluded and not options.skip_bad:
        raise ReadError(f"{table.excluded[0][3]}; --skip_bad leaves such videos out")
    for row in table.rows():
        tell_notes(row.path, losses_beside_tags(row.notes, row.tags))
    manifest = prepare(
        table, options.out, quality=options.quality, segment=options.segment,
        keyframe=options.keyframe, short_side=options.short_side, crf=options.crf,
        progress=progress_bar(options, "video"))
    print(f"{len(manifest['segments'])} segments in {options.out}; train with --train_video_dir "
          f"{options.out}")
