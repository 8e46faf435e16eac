"""A large report page in Chromium: its size, and the seconds until it is drawn.

`python benchmarks/report_page.py > benchmarks/report_page.json`
"""

import argparse
import json
import sys

from kit.report_page import bench_report

from dcvc.bench.data import versions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    options = parser.parse_args()
    command = "python benchmarks/report_page.py " + " ".join(sys.argv[1:])
    result = bench_report(**vars(options))
    print(json.dumps({"command": command.strip(), **result, "versions": versions()}, indent=2))


if __name__ == "__main__":
    main()
