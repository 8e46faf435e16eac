"""Numbers of `dcvc prepare`: two processes beside one, CPU time per frame, and the bytes after kills.

`python benchmarks/prepare.py ../shared/clips/train --out benchmarks/prepare.json` runs all parts on a quiet machine
with two cores (`--parts cpu kills` needs no quiet one). Parts that are not asked for stay as the record has them.
"""

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av

from dcvc.data.video_list import list_videos
from dcvc.video.coded_video import index_video

SHORT_SIDE = 360
PARTS = ("cpu", "speed", "kills")


def command(source: Path | str, out: Path, processes: int = 1) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", "dcvc.cli", "prepare", str(source), str(out), "--short_side",
            str(SHORT_SIDE), "--processes", str(processes), "--quiet"]


def content(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def frames_in(folder: Path) -> int:
    return sum(entry["frames"] for entry in json.loads((folder / "manifest.json").read_text())["segments"])


def timed(words: list[str]) -> tuple[float, float]:
    """Seconds by the clock, and of CPU time with all children, of a command that succeeds."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - begun, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cpu(clips: Path, work: Path) -> dict:
    """720p files alone, each prepared by itself; what a command costs before its first frame is measured on a file of
    a few frames and taken off."""
    files = {}
    (work / "one").mkdir()
    with av.open(str(work / "one" / "tiny.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for _ in range(2):
            out.mux(stream.encode(av.VideoFrame(1280, 720, "yuv420p")))
        out.mux(stream.encode(None))
    start_up = min(timed(command(work / "one", work / f"tiny{number}"))[1] for number in range(3))
    for path in list_videos(clips):
        index = index_video(path)
        if min(index.height, index.width) != 720:
            continue
        seconds = timed(command(path, work / Path(path).stem))[1]
        each = 1000 * (seconds - start_up) / len(index)
        files[Path(path).name] = {"frames": len(index), "ms a frame": round(each, 2)}
    frames = sum(file["frames"] for file in files.values())
    mean = sum(file["frames"] * file["ms a frame"] for file in files.values()) / frames
    return {"frames": frames, "start-up, s": round(start_up, 2), "CPU ms per 720p frame": round(mean, 2),
            "median of files": round(statistics.median(file["ms a frame"] for file in files.values()), 2),
            "files": files}


def speed(clips: Path, work: Path, rounds: int) -> dict:
    """In turns, so that both meet the same machine; each pair in one ratio."""
    seconds, found = {1: [], 2: []}, []
    for turn in range(rounds):
        for processes in ((1, 2), (2, 1))[turn % 2]:
            out = work / f"speed{turn}{processes}"
            seconds[processes].append(timed(command(clips, out, processes))[0])
            found.append(content(out))
            frames = frames_in(out)
            shutil.rmtree(out)
    ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    return {"frames": frames, "seconds with 1 process": [round(s, 1) for s in seconds[1]],
            "seconds with 2 processes": [round(s, 1) for s in seconds[2]],
            "times as fast, each pair": [round(ratio, 2) for ratio in ratios],
            "times as fast": round(statistics.median(ratios), 2), "same bytes": all(one == found[0] for one in found),
            "load before": LOAD}


def kills(clips: Path, work: Path, count: int) -> dict:
    """One set, begun again after each kill. With all it started, as a scheduler kills it."""
    words = command(clips, work / "whole", 2)
    took, rng, segments, exits = timed(words)[0], random.Random(0), [], 0
    wanted, out = content(work / "whole"), work / "killed"
    for _ in range(count):
        running = subprocess.Popen(command(clips, out, 2), start_new_session=True, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        try:
            # Long enough to be at work, and short enough that all kills fall into one making of the set.
            running.wait(2.5 + rng.uniform(0, 2 * took / count))
            exits += 1
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
        segments.append(len(list(out.rglob("*.mp4"))))
    subprocess.run(command(clips, out, 2), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return {"kills": count - exits, "found complete": exits, "segments after each": segments, "files": len(wanted),
            "same bytes": content(out) == wanted}


LOAD = round(os.getloadavg()[0], 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    record = json.loads(options.out.read_text()) if options.out.exists() else {}
    record["command"] = f"python benchmarks/prepare.py CLIPS --out {options.out}"
    for part in options.parts:
        with tempfile.TemporaryDirectory() as work:
            more = {"speed": (options.rounds,), "kills": (options.kills,)}.get(part, ())
            record[part] = {"cpu": cpu, "speed": speed, "kills": kills}[part](options.folder, Path(work), *more)
        print(part, json.dumps(record[part], indent=1), flush=True)
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
