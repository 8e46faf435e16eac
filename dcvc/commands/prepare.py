"""Re-encode a data set once into short segments that are quick to seek in: then few frames have to
be decoded for one sample. The same command goes on after a stop, and does again what changed."""

import argparse
import sys
from collections import Counter

from dcvc.commands.arguments import add_flag, add_options, printable, read_options
from dcvc.commands.messages import told
from dcvc.commands.options import add_video_access
from dcvc.commands.output import FrameProgress, check_target, tell_notes
from dcvc.data.prepare_options import PrepareOptions, Shard
from dcvc.errors import InputError, ReadError

WRITING = ("quality", "crf", "codec", "keep_10bit", "segment", "keyframe", "short_side")
CHOOSING = ("min_size", "min_seconds", "drop_static", "drop_black", "drop_repeated", "split_cuts",
            "max_segments")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video_dir", metavar="DIR",
                        help="a folder of videos, a tar file, a video file, a .txt list of paths, an index, "
                             "or a URL of one of these")
    add_video_access(parser)
    parser.add_argument("out", metavar="OUT",
                        help="a folder for the segments and manifest.json: a new one, or one of "
                             "this command's, which is continued")
    add_options(parser.add_argument_group("how segments are written"), PrepareOptions, WRITING)
    add_options(parser.add_argument_group("which frames are kept"), PrepareOptions, CHOOSING)
    parser.add_argument("--licences", metavar="FILE",
                        help="a CSV or TSV table with a column named file; its other columns go "
                             "into the manifest")
    parser.add_argument("--processes", type=int, default=1,
                        help="how many share the work")
    parser.add_argument("--shard", metavar="I/N",
                        help="only the I-th of N parts of the videos, for N machines; all may "
                             "write into one OUT")
    add_flag(parser, "skip_bad", False, "leave out videos that cannot be read")
    add_flag(parser, "quiet", False, "no progress bar")


def run(options: argparse.Namespace) -> None:
    settings = PrepareOptions(**read_options(PrepareOptions, options))
    shard = Shard.parse(options.shard) if options.shard else None
    if options.processes < 1:
        raise InputError(f"--processes: found {options.processes}, needed at least 1")
    from dcvc.data.licences import read_licences  # heavy: only when it runs
    from dcvc.data.prepare import prepare
    from dcvc.data.video_table import build_table
    from dcvc.video.source_losses import losses_beside_tags

    check_target(options, "out", folder=True)
    table = build_table([options.video_dir])
    if table.excluded and not options.skip_bad:
        raise ReadError(f"{table.excluded[0][3]}; --skip_bad leaves such videos out")
    for row in table.rows():
        kept = ("10 bits, taken as 8",) if settings.keep_10bit else ()
        tell_notes(row.path, losses_beside_tags(row.notes, row.tags, kept))
    licences = {}
    if options.licences:
        videos = [row.path for row in table.rows()]
        licences = read_licences(options.licences, videos)
        without = [video for video in videos if video not in licences]
        if without:
            print(f"note: {options.licences}: has no row for {len(without)} of {len(videos)} "
                  f"videos, the first: {printable(without[0])}", file=sys.stderr)
    manifest = prepare(table, options.out, settings, shard=shard, processes=options.processes,
                       skip_bad=options.skip_bad, licences=licences,
                       progress=None if options.quiet else FrameProgress())
    for line in report_lines(manifest):
        print(told(printable(line)))
    print(told(f"{len(manifest['segments'])} segments in {options.out}; train with "
               f"--train_video_dir {options.out}"))


def report_lines(manifest: dict) -> list[str]:
    """What was left out, and why; the manifest tells which frames."""
    frames, videos = Counter(), {}
    for entry in manifest["dropped"]:
        frames[entry["reason"]] += entry["frames"]
        videos.setdefault(entry["reason"], set()).add(entry["number"])
    kept = sum(entry["frames"] for entry in manifest["segments"])
    lines = [f"left out: {count} frames of {len(videos[reason])} videos, {reason}"
             for reason, count in frames.most_common()]
    lines += [f"left out: {reason}" for reason in manifest["excluded"].values()]
    if lines:
        lines.append(f"kept: {kept} of {kept + sum(frames.values())} frames")
    return lines
