"""Index a data set of videos: how many frames, which files cannot be used and why."""

import argparse
import json

from dcvc.data.verify import summarise, verify
from dcvc.data.video_list import VIDEO_EXTENSIONS
from dcvc.data.video_table import build_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video_dir", nargs="+", help="folders, video files or .txt lists of paths")
    parser.add_argument("--index", help="where to keep the index (default: the user's cache folder); "
                        "a name ending in .dcvcindex can be given as --train_video_dir")
    parser.add_argument("--extensions", nargs="+", default=VIDEO_EXTENSIONS, help="which files are videos")
    parser.add_argument("--verify", action="store_true", help="decode every frame; "
                        "files found whole are read faster from then on")
    parser.add_argument("--jobs", type=int, help="files at a time (default: one per core)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    def progress(items, total):
        return tqdm(items, total=total, unit="file", disable=options.quiet)

    table = build_table(options.video_dir, extensions=options.extensions, index=options.index, jobs=options.jobs,
                        progress=progress)
    summary = summarise(table)
    if options.verify:
        summary["damaged"] = verify(table, progress)
        table.mark_verified(summary["damaged"])
    print(json.dumps(summary, indent=2) if options.json else as_text(summary))
    return 1 if summary["excluded"] or summary.get("damaged") else 0


def as_text(summary: dict) -> str:
    lines = [f"{summary['files']} files, {summary['frames']} frames, {summary['hours']:.2f} hours"]
    for title in ("sizes", "codecs", "suspicious"):
        lines += [f"{title}:"] + [f"  {count:>8}  {name}" for name, count in summary[title].items()]
    for title in ("excluded", "damaged"):
        if summary.get(title):
            lines += [f"{title}:"] + [f"  {reason}" for reason in summary[title].values()]
    return "\n".join(lines)
