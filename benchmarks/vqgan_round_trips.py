"""1,000 random frame sizes through a VQGAN's streams, decoded in other processes, bit for bit.

    python benchmarks/vqgan_round_trips.py --out benchmarks/vqgan_round_trips.json
"""

import argparse
import json
import tempfile
from pathlib import Path

from kit.vqgan import round_trips

from dcvc.files import write_text


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sizes", type=int, default=1000)
    options.add_argument("--out", required=True, type=Path)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = round_trips(Path(folder), given.sizes)
    record = {"command": "python benchmarks/vqgan_round_trips.py "
                         "--out benchmarks/vqgan_round_trips.json",
              "sides": "16 to 300 pixels", "sizes": given.sizes, **result}
    write_text(given.out, json.dumps(record, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
