"""The command `dcvc`: a word, and its file in `dcvc/commands/`, imported when it is asked for."""

import sys
from collections.abc import Sequence

from dcvc import __version__
from dcvc.commands.catalog import COMMANDS, module_of, parser_of
from dcvc.commands.messages import told


def usage() -> str:
    rows = "\n".join(f"  {name:<14}{told(text)}" for name, (_, text) in COMMANDS.items())
    head = told("usage: dcvc COMMAND [options]")
    return f"{head}\n\n{rows}\n\n{told('dcvc COMMAND --help tells the options of one. dcvc --version')}"


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"dcvc {__version__}")
        return 0
    # Late: the two lines above are there before argparse and all that the options need is loaded.
    from dcvc.commands.arguments import run_reporting_errors
    from dcvc.commands.options import video_access_told
    from dcvc.config import nearest

    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        line = f"error: unknown command '{name}'{nearest(name, COMMANDS)}"
        print(f"{told(line)}\n{usage()}", file=sys.stderr)
        return 2
    options = parser_of(name).parse_args(rest)

    def run() -> int | None:
        with video_access_told(options):
            return module_of(name).run(options)

    return run_reporting_errors(run)


if __name__ == "__main__":
    sys.exit(main())
