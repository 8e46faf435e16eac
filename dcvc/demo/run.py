"""What the package is good for, in a few minutes: the boxed model, tuned on some videos.

    videos -> the boxed model, tuned on most of them -> a report on the others, with x264 and x265

Videos are the user's own, or clips as two cameras record them (footage.py). How a codec is trained
from nothing, stage by stage, is shown by the classic demo (classic.py).
"""

import json
import time
from typing import Any

from dcvc.demo.folder import CLIPS, RECORD, Demo
from dcvc.demo.footage import Take, write_takes
from dcvc.files import copy_file, write_text
from dcvc.models.catalog import DEFAULT_MODEL
from dcvc.report.figures import draw_rate_distortion
from dcvc.report.results import read_results
from dcvc.training.tuning import Tune, run_tune

MINUTES = 4.5                   # for tuning and judging
FRAMES = 32                     # of a clip
# Recordings of a place: by a camera on a tripod, by one that pans.
TRIPOD, PAN = 8, 4


def run_demo(demo: Demo) -> dict[str, Any]:
    """Returns the numbers that demo.json holds. Raises InputError when the folder holds something
    else or the user's videos do not serve."""
    started = time.monotonic()
    demo.clear()
    if not demo.videos:
        demo.tell("writing clips: a camera on a tripod, and one that pans")
        write_takes(_takes(demo.seed), demo.folder / CLIPS, FRAMES)
    videos = demo.videos or (str(demo.folder / CLIPS),)
    tuned = demo.folder / "tuned"
    summary = run_tune(Tune(videos=videos, model=DEFAULT_MODEL, folder=tuned, minutes=MINUTES,
                            intra_period=FRAMES, seed=demo.seed, device=demo.device,
                            quiet=demo.quiet, judged=demo.val_videos))
    points = [point for name in ("anchors", "before", "after")
              for point in read_results(tuned / f"{name}.json")["points"]]
    curves = draw_rate_distortion(points, demo.folder / "curves.png")
    copy_file(tuned / "report.html", demo.folder / "report.html")
    write_text(demo.folder / "summary.txt", summary.text)
    print(f"{summary.text}curves {curves}\nmodel  {tuned}\nreport {demo.folder / 'report.html'}")
    result = {**summary.as_dict(), "minutes": round((time.monotonic() - started) / 60, 2)}
    write_text(demo.folder / RECORD, json.dumps(result, indent=1) + "\n")
    return result


def _takes(seed: int) -> list[Take]:
    """Of two places. A caption on every other one, as cameras write it."""
    return [Take(place=2 * seed + 1, number=number, tripod=True,
                 caption=f"camera 1  12:{number:02d}" if number % 2 else "")
            for number in range(TRIPOD)] + [
        Take(place=2 * seed + 2, number=number, tripod=False) for number in range(PAN)]
