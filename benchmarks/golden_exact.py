"""Write the golden exact stream anew: `python benchmarks/golden_exact.py tests/codec/golden_exact.dcvc`.

Only where the boxed model light-s, its ranges or the exact arithmetic was changed on purpose.
"""

import argparse
from pathlib import Path

from kit.exact_streams import exact_stream

from dcvc.checkpoint import load_codec
from dcvc.files import replacing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    data = exact_stream(load_codec("light-s"))
    with replacing(parser.parse_args().output) as file:
        file.write(data)


if __name__ == "__main__":
    main()
