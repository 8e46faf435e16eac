"""Index a data set of videos: how many frames it has, and which files cannot be used and why."""

import argparse
import json
from collections import Counter

from dcvc.commands.arguments import add_flag
from dcvc.commands.options import add_sources
from dcvc.commands.output import INDEX, add_overwrite, check_target, progress_bar
from dcvc.data.video_list import VIDEO_EXTENSIONS, passed_over
from dcvc.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_sources(parser)
    parser.add_argument("--index", metavar="FILE",
                        help="where to keep the index (default: the user's cache folder); a name "
                             "ending in .dcvcindex can be given as --train_video_dir")
    add_overwrite(parser)
    parser.add_argument("--extensions", nargs="+", default=VIDEO_EXTENSIONS, metavar="EXT",
                        help="endings of the files that are videos")
    add_flag(parser, "verify", False,
             "decode every frame; files without damage are read faster from then on")
    parser.add_argument("--jobs", type=int,
                        help="files to open at the same time (default: one per core)")
    for name, default, what in (("crop_size", (128, 192, 256, 512), "crops"),
                                ("gop_size", (2, 7, 32), "GOPs"), ("stride", (1, 2), "strides")):
        parser.add_argument(f"--{name}", type=int, nargs="+", default=default, metavar="N",
                            help=f"{what} for the table of how many files they would leave in")
    add_flag(parser, "json", False, "print the summary as JSON")
    add_flag(parser, "quiet", False, "no progress bar")


def run(options: argparse.Namespace) -> int:
    from dcvc.data.fitting_videos import count_fitting  # heavy: only when it runs
    from dcvc.data.verify import summarise, verify
    from dcvc.data.video_table import SUFFIX, build_table

    for name in ("crop_size", "gop_size", "stride"):
        if min(getattr(options, name)) < 1:
            raise InputError(f"--{name}: found {min(getattr(options, name))}, needed at least 1")
    if options.index is not None:
        check_target(options, "index", INDEX)
    progress = progress_bar(options, "file")
    table = build_table(options.video_dir, extensions=options.extensions, index=options.index,
                        jobs=options.jobs, progress=progress)
    summary = summarise(table)
    summary["usable"] = count_fitting(table, options.crop_size, options.gop_size, options.stride)
    # An index that is named itself stands for its files: nothing is listed then.
    others = sum((passed_over(source, options.extensions) for source in options.video_dir), Counter())
    del others[SUFFIX]
    summary["passed_over"] = {suffix or "(no suffix)": count for suffix, count in others.most_common()}
    if options.verify:
        summary["damaged"] = verify(table, progress)
        table.mark_verified(summary["damaged"])
    print(json.dumps(summary, indent=2) if options.json else as_text(summary))
    return 1 if summary["excluded"] or summary.get("damaged") else 0


def as_text(summary: dict) -> str:
    lines = [f"{summary['files']} files, {summary['frames']} frames, {summary['hours']:.2f} hours"]
    for title in ("sizes", "codecs", "suspicious"):
        lines += [f"{title}:"] + [f"  {count:>8}  {name}" for name, count in summary[title].items()]
    lines += usable_table(summary["usable"])
    if summary.get("passed_over"):
        told = ", ".join(f"{count} {suffix}" for suffix, count in summary["passed_over"].items())
        lines.append(f"passed over, no videos by their names: {told}")
    for title in ("excluded", "damaged"):
        if summary.get(title):
            lines += [f"{title}:"] + [f"  {reason}" for reason in summary[title].values()]
    return "\n".join(lines)


def usable_table(rows: list[dict]) -> list[str]:
    """What crop, GOP and stride would leave in, lines to print."""
    cells = [("gop_size", "stride", "frames", *(f"crop {side}" for side in rows[0]["files"]))]
    cells += [(row["gop_size"], row["stride"], row["frames"], *row["files"].values())
              for row in rows]
    return ["usable files, by --gop_size, stride, and --crop_size or the lower end of rescale:",
            *("  " + "".join(f"{cell:>10}" for cell in line) for line in cells)]
