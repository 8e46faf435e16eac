"""How long `dcvc compare` takes beside what its encoders and decoders take by themselves.

`python benchmarks/val_clips.py ../shared/clips/val runs/data/val288 --short_side 288 --frames 96`
`python benchmarks/compare_speed.py runs/data/val288 -o benchmarks/compare_speed.json`

Two codecs at five points each on every clip, 32 frames, `--metrics psnr`, one process and two. The
limit for two: 1.3 x the codecs' own seconds / 2 + 5 s. Seconds on the wall depend on what else the
machine does; the CPU seconds of all processes together, over the same two processes, do less so.
"""

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dcvc.report.results import read_results


def compare(clips: Path, processes: int, metrics: str) -> dict:
    """One run of the command, from its start to its end."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "anchors.json"
        command = [sys.executable, "-m", "dcvc.cli", "compare", str(clips), "--anchors", "x264", "x265",
                   "--max_frames", "32", "--intra_period", "32", "--processes", str(processes), "--no_cache",
                   "--quiet", "-o", str(out), *(["--metrics", metrics] if metrics else [])]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        points = read_results(out)["points"]
    cpu = sum(getattr(after, name) - getattr(before, name) for name in ("ru_utime", "ru_stime"))
    own = sum(row[f"{way}_seconds"] for point in points for row in point["sequences"]
              for way in ("encode", "decode"))
    shown = shlex.join(command[1:]).replace(str(out), "anchors.json").replace(str(clips), "CLIPS")
    return {"command": f"python {shown}", "points": len(points), "clips": len(points[0]["sequences"]),
            "wall_seconds": round(wall, 1), "cpu_seconds": round(cpu, 1),
            "codecs_own_seconds": round(own, 1), "limit_seconds": round(1.3 * own / processes + 5, 1),
            "wall_within": wall <= 1.3 * own / processes + 5,
            "cpu_over_processes_within": cpu / processes <= 1.3 * own / processes + 5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("compare_speed.json"))
    parser.add_argument("--runs", nargs="+", default=["2:psnr", "1:psnr", "2:"],
                        help="processes:metrics of each run")
    options = parser.parse_args()
    runs = []
    for text in options.runs:
        processes, _, metrics = text.partition(":")
        runs.append(compare(options.clips, int(processes), metrics))
        print(json.dumps(runs[-1]), flush=True)
    record = {"made_by": f"python {shlex.join(sys.argv)}", "cpus": os.cpu_count(),
              "load_average": os.getloadavg()[0], "runs": runs}
    options.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
