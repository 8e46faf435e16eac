"""How long it takes until `import dcvc` and --help are there: medians of processes started one after the other.

`python benchmarks/start_up.py --out benchmarks/start_up.json`

Each is also started with `python -c pass`, the least that any program of Python takes here. The CPU time is beside the
time on the clock, which other programs of the machine make longer.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

from dcvc.files import write_text

# What is started -> seconds that it may take.
CASES = {"python -c pass": ("-c", "pass", None), "import dcvc": ("-c", "import dcvc", 0.15),
         "dcvc --help": ("-m", "dcvc.cli", "--help", 0.2),
         "dcvc train --help": ("-m", "dcvc.cli", "train", "--help", 0.6),
         "dcvc encode --help": ("-m", "dcvc.cli", "encode", "--help", None)}


def once(words: tuple[str, ...]) -> tuple[float, float]:
    """Seconds on the clock and of CPU that `python WORDS` takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=15)
    parser.add_argument("--out", default="benchmarks/start_up.json")
    options = parser.parse_args()
    # In turns, so that a busy minute of the machine is a minute of all of them.
    taken = {name: [] for name in CASES}
    for _ in range(options.times):
        for name, (*words, _) in CASES.items():
            taken[name].append(once(tuple(words)))
    results = {}
    for name, (*_, most) in CASES.items():
        seconds, cpu = zip(*taken[name], strict=True)
        results[name] = {"seconds": round(statistics.median(seconds), 3), "fastest": round(min(seconds), 3),
                         "cpu_seconds": round(statistics.median(cpu), 3), "needed": most}
    record = {"command": "python benchmarks/start_up.py " + " ".join(sys.argv[1:]), "times": options.times,
              "load_before": os.getloadavg()[0], "python": sys.version.split()[0], "results": results}
    write_text(options.out, json.dumps(record, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
