"""Every clip of a folder through all I-frame codecs, thread counts crossed: round_trips.py DIR --out JSON.

By DCVC-2021, or with --light by the light P-frame codec, at another quality for every frame and with refreshes.

Each line of the record is one coded and decoded clip; the file is written anew after each, so that a stopped run
keeps what it has.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from kit.round_trip import bench_round_trips

from dcvc.bench.data import versions
from dcvc.files import write_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--light", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    clips = sorted(file for file in options.clips.iterdir() if file.suffix in (".mp4", ".mkv"))
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for row in bench_round_trips(clips, Path(scratch), options.frames, light=options.light):
            rows.append(row)
            print(row, file=sys.stderr)
            record = {"command": "python benchmarks/round_trips.py " + " ".join(sys.argv[1:]), "clips": len(clips),
                      "all_identical": all(r["identical_frames"] == r["frames"] for r in rows),
                      "all_rates_agree": all(r["within_1_percent_and_container"] for r in rows),
                      "complete": len(rows) == (6 if options.light else 4) * len(clips), "rows": rows,
                      "versions": versions()}
            write_text(options.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
