"""Write the golden exact streams anew: `python benchmarks/golden_exact.py tests/codec`, or some sizes with --only.

Only where the boxed models, their ranges, the start of size l or the exact arithmetic was changed on purpose.
"""

import argparse
from pathlib import Path

from kit.exact_streams import GOLDEN, exact_stream, golden_codec

from dcvc.files import replacing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=GOLDEN, default=list(GOLDEN))
    options = parser.parse_args()
    for size in options.only:
        name, frames = GOLDEN[size]
        with replacing(options.folder / name) as file:
            file.write(exact_stream(golden_codec(size), frames))


if __name__ == "__main__":
    main()
