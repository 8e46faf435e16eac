"""Speed of context coding: the wavefront against raster order, both latents of one 1920x1088 frame.

`for t in 1 2; do OMP_NUM_THREADS=$t python benchmarks/context_coding.py; done`
made the two halves of `benchmarks/coding_speed.json`.
"""

import argparse
import json
import sys

from kit.context_coding import as_text, bench_coding

from dcvc.bench.data import versions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=1920, help="pixels")
    parser.add_argument("--height", type=int, default=1088, help="pixels")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each way, in turns")
    parser.add_argument("--text", action="store_true", help="a few lines to read instead of JSON")
    options = parser.parse_args()
    command = "python benchmarks/context_coding.py " + " ".join(sys.argv[1:])
    result = bench_coding(options.height, options.width, options.repeats)
    if options.text:
        print(as_text(result))
    else:
        print(json.dumps({"command": command.strip(), **result, "versions": versions()}, indent=2))


if __name__ == "__main__":
    main()
