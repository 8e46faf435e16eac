"""Damaged streams of a tiny codec: none may decode silently, hang or crash.

`python benchmarks/damaged_streams.py --streams 1000 --seed 0 > benchmarks/damaged_streams.json`
`python benchmarks/damaged_streams.py --light > benchmarks/damaged_light_streams.json`
`python benchmarks/damaged_streams.py --edited > benchmarks/damaged_edited_streams.json`
`python benchmarks/damaged_streams.py --exact --streams 1000 --seed 2 > benchmarks/damaged_exact_streams.json`
"""

import argparse
import json
import sys

from kit.damage import ON_REQUEST, bench_damage

from dcvc.bench.data import versions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=10_000, dest="count")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--light", action="store_true", help="version 3: I- and P-frames of the light codecs")
    parser.add_argument("--edited", action="store_true",
                        help="version 4: cut and joined, with hidden frames, end and index")
    parser.add_argument("--exact", action="store_true", help="of the light codecs, in exact arithmetic")
    parser.add_argument("--on_request", choices=list(ON_REQUEST),
                        help="in exact arithmetic, which is not their usual one")
    options = parser.parse_args()
    command = "python benchmarks/damaged_streams.py " + " ".join(sys.argv[1:])
    result = bench_damage(**vars(options))
    print(json.dumps({"command": command.strip(), **result, "versions": versions()}, indent=2))


if __name__ == "__main__":
    main()
