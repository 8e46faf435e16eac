"""Memory of `dcvc eval` on 1080p clips of two lengths.

`python benchmarks/eval_memory.py > benchmarks/eval_memory.json`
"""

import argparse
import json
import sys

from kit.eval_memory import bench_eval_memory

from dcvc.bench.data import versions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    options = parser.parse_args()
    command = "python benchmarks/eval_memory.py " + " ".join(sys.argv[1:])
    result = bench_eval_memory(**vars(options))
    print(json.dumps({"command": command.strip(), **result, "versions": versions()}, indent=2))


if __name__ == "__main__":
    main()
