"""Streams of VQGANs in the layouts of other projects: 1,000 random sizes of each, decoded bit for bit in a fresh
process, and 10,000 damaged payloads of each, none of which may decode.

    python benchmarks/vqgan_layout_streams.py --out benchmarks/vqgan_layout_streams.json

The models are small ones with random weights and rate models of all three kinds. Layouts that the record holds are
not measured again.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from kit.layout_streams import damaged_payloads, round_trips
from kit.vqgan_layouts import CODED

from dcvc.bench.data import versions
from dcvc.files import write_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, default=1000)
    parser.add_argument("--payloads", type=int, default=10_000)
    parser.add_argument("--out", required=True, type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    record = json.loads(options.out.read_text()) if options.out.exists() else {"layouts": {}}
    for layout in CODED:
        if layout in record["layouts"]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            trips = round_trips(Path(folder), layout, options.sizes)
            record["layouts"][layout] = {
                "round_trips": trips, "damaged": damaged_payloads(Path(folder), layout, options.payloads)}
        record |= {"command": "python benchmarks/vqgan_layout_streams.py --out benchmarks/vqgan_layout_streams.json",
                   "sizes": options.sizes, "payloads": options.payloads, "versions": versions()}
        write_text(options.out, json.dumps(record, indent=1) + "\n")
        print(layout, json.dumps(record["layouts"][layout]), flush=True)


if __name__ == "__main__":
    main()
