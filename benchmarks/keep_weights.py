"""The weights of a training in half precision, small enough to be kept: another machine can go on from them.

`python benchmarks/keep_weights.py runs/light-m/stage1_gop3/best.pt benchmarks/weights/light-m.pt`

`dcvc eval --model` takes the file; `dcvc train --recipe light-m --load_pretrained` begins from it.
"""

import argparse
from pathlib import Path

from dcvc.weights import read_checkpoint, write_checkpoint

KEPT = ("inter", "model", "intra_codec", "intra_model", "progress")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    content = {name: value for name, value in read_checkpoint(options.checkpoint).items() if name in KEPT}
    for name in ("model", "intra_model"):
        content[name] = {entry: value.half() for entry, value in content[name].items()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(options.out, content)


if __name__ == "__main__":
    main()
