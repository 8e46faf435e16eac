"""A trained run against x264 and against copying the last I-frame, as one page: what the demo ends with."""

import os
from pathlib import Path

from dcvc.compare import compare
from dcvc.data.sequences import open_sequences
from dcvc.evaluate_streams import EvalJob, evaluate_codecs
from dcvc.report import write_report
from dcvc.results import write_results


def quality_report(run: str | os.PathLike, videos: str | os.PathLike, folder: str | os.PathLike, *, gop: int = 10,
                   max_frames: int | None = None, anchors: tuple[str, ...] = ("x264",), device: str = "cpu",
                   title: str = "Video codec comparison", progress=None) -> Path:
    """Measure `run` (written streams, decoded again) and the anchors on `videos`; write eval.json, anchors.json and
    report.html into `folder` and return the page's path. progress: called with a line of text per sequence."""
    folder = Path(folder)
    sequences = open_sequences(videos, max_frames=max_frames)
    pictures = folder / "report_frames"
    job = EvalJob("dcvc", Path(run).resolve().name, os.fspath(run), gop=gop, copy=True, device=device)
    ours = evaluate_codecs([job], sequences, pictures, command=f"dcvc eval {videos} --model {run} --gop_size {gop} "
                                                              "--copy", progress=progress)
    theirs = compare(sequences, dict.fromkeys(anchors), pictures, gop=gop, progress=progress,
                     command=f"dcvc compare {videos} --gop_size {gop} --anchors {' '.join(anchors)}")
    paths = folder / "eval.json", folder / "anchors.json"
    for path, results in zip(paths, (ours, theirs), strict=True):
        write_results(path, results)
    return write_report(paths, folder / "report.html", title=title)
