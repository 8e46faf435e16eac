"""Write the golden stream of version 3 anew: `python benchmarks/golden_light.py tests/codec/golden_light.dcvc`.

Only where the format of a payload, or what a light model of these dimensions is, was changed on purpose.
"""

import argparse
from pathlib import Path

from kit.golden_light import golden_stream

from dcvc.files import replacing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    data, _ = golden_stream()
    with replacing(parser.parse_args().output) as file:
        file.write(data)


if __name__ == "__main__":
    main()
