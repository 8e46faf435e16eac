"""Write the golden exact streams anew: `python benchmarks/golden_exact.py tests/codec`, or some sizes with --only.

Those of codecs that are exact on request too.

Only where the boxed models, their ranges, the start of size l or the exact arithmetic was changed on purpose.
"""

import argparse
from pathlib import Path

from kit.exact_streams import (
    GOLDEN,
    GOLDEN_ON_REQUEST,
    exact_stream,
    golden_codec,
    golden_on_request,
    stream_on_request,
)

from dcvc.files import replacing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=[*GOLDEN, *GOLDEN_ON_REQUEST],
                        default=[*GOLDEN, *GOLDEN_ON_REQUEST])
    options = parser.parse_args()
    for size in options.only:
        if size in GOLDEN:
            name, frames = GOLDEN[size]
            data = exact_stream(golden_codec(size), frames)
        else:
            name, data = GOLDEN_ON_REQUEST[size], stream_on_request(golden_on_request(size))
        with replacing(options.folder / name) as file:
            file.write(data)


if __name__ == "__main__":
    main()
