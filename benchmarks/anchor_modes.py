"""How much fewer bits x264's and x265's modes need than zerolatency, by BD rate, on each clip.

`python benchmarks/val_clips.py ../shared/clips/val runs/data/val288 --short_side 288 --frames 96`
`python benchmarks/anchor_modes.py runs/data/val288 -o benchmarks/anchor_modes.json`

A check of the anchors: `lowdelay` of x265 is to need at least 8 % fewer bits on five of six clips. Every
point's bits are the bytes of the encoder's packets; the record says that they still are.
"""

import argparse
import json
import shlex
import sys
import tempfile
from pathlib import Path

from dcvc.data.eval_sequences import open_sequences
from dcvc.evaluation.anchor_modes import MODES
from dcvc.evaluation.anchors import compare
from dcvc.report.page import bd_rows

POINTS = {"x264": (20, 25, 30, 35), "x265": (20, 25, 30, 35)}
NEEDED = -8.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("anchor_modes.json"))
    parser.add_argument("--frames", type=int, default=96)
    parser.add_argument("--intra_period", type=int, default=32)
    parser.add_argument("--anchors", nargs="+", default=["x265", "x264"])
    parser.add_argument("--modes", nargs="+", default=list(MODES))
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    sequences = open_sequences(options.clips, max_frames=options.frames)
    rates: dict[str, dict[str, float]] = {}
    equal = True
    with tempfile.TemporaryDirectory() as folder:
        for name in options.anchors:
            table = compare(sequences, {name: POINTS[name]}, Path(folder), intra_period=options.intra_period,
                            modes=tuple(options.modes), metrics=("psnr", "psnr_yuv"), cache=options.cache,
                            processes=options.processes)
            equal &= all(row["bits"] == 8 * row["file_bytes"] == sum(row["per_frame"]["bits"])
                         for point in table["points"] for row in point["sequences"])
            for row in bd_rows(table["points"], "psnr_yuv", name, [s.name for s in sequences]):
                rates.setdefault(row["codec"], {})[row["sequence"]] = row["bd_rate"] and round(row["bd_rate"], 2)
                print(row["codec"], row["sequence"], row["bd_rate"], row["problem"], flush=True)
    clips = [rate for name, rate in rates.get("x265 lowdelay", {}).items() if name != "mean curve"]
    won = sum(rate is not None and rate <= NEEDED for rate in clips)
    record = {"made_by": f"python {shlex.join(sys.argv)}", "frames": options.frames,
              "intra_period": options.intra_period, "metric": "psnr_yuv", "speed": "medium",
              "crf": {name: POINTS[name] for name in options.anchors},
              "bd_rate_against_zerolatency": rates, "bits_are_packet_bytes": equal,
              "x265_lowdelay": {"needed": f"{NEEDED} % on 5 of 6 clips", "clips": len(clips), "reached_on": won}}
    options.output.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record["x265_lowdelay"]))


if __name__ == "__main__":
    main()
