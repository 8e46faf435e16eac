"""A thousand faults of servers and networks, injected while videos behind an address are indexed and read: how many
were retried, how many became an error that names the address, and whether anything was wrong.

`python benchmarks/remote_faults.py ../shared/clips/train --out benchmarks/remote_faults.json`
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path

from kit.remote_faults import run_trials

from dcvc.data.video_list import list_videos

# Small files of several containers and codecs: the network is what is tested.
LARGEST = 700_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    files = [path for path in map(Path, list_videos(options.folder)) if path.stat().st_size <= LARGEST]
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        counts = run_trials(files, Path(folder) / "blocks", options.count)
    totals, by_fault = Counter(), {}
    for (fault, outcome), count in sorted(counts.items()):
        totals[outcome] += count
        by_fault.setdefault(fault, {})[outcome] = count
    record = {"command": f"python benchmarks/remote_faults.py CLIPS --count {options.count} --out {options.out}",
              "faults": options.count, "retried": totals["retried"], "error naming the address": totals["error"],
              "error without the address": totals["unnamed"], "wrong": totals["wrong"], "files": len(files),
              "seconds": round(time.perf_counter() - begin), "by fault": by_fault}
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
