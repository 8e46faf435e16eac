"""What every command line shares: `--max-frames` and `--max_frames` alike, near matches, one-line errors."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from dcvc.config import nearest
from dcvc.device import DEVICES
from dcvc.errors import DcvcError


class ArgumentParser(argparse.ArgumentParser):
    """argparse that takes dashes for underscores in option names and suggests the nearest option.

    The result's `given` names the options that stood on the command line, whatever their value.
    """

    def __init__(self, *args, **kwargs) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def parse_args(self, args: Sequence[str] | None = None, namespace=None) -> argparse.Namespace:
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            options = [option for option in self._option_string_actions if option.startswith("--")]
            self.error(f"unknown argument {unknown[0]}{nearest(unknown[0].split('=')[0], options)}")
        return found

    def parse_known_args(self, args=None, namespace=None):
        args = list(sys.argv[1:] if args is None else args)
        args = [self._canonical(argument) for argument in args]
        found, unknown = super().parse_known_args(args, namespace)
        named = {argument.split("=")[0] for argument in args}
        found.given = frozenset(action.dest for name, action in self._option_string_actions.items() if name in named)
        return found, unknown

    def _canonical(self, argument: str) -> str:
        if not argument.startswith("--") or argument == "--":
            return argument
        name, equals, value = argument[2:].partition("=")
        prefix = "no-" if name.startswith(("no-", "no_")) else ""
        candidate = "--" + prefix + name[len(prefix):].replace("-", "_")
        return candidate + equals + value if candidate in self._option_string_actions else argument


def add_flag(parser: argparse._ActionsContainer, name: str, default: bool, help: str) -> None:
    """A boolean option with its `--no-…` form."""
    parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=default, help=help)


def add_device(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--device", choices=DEVICES, default="auto",
                        help="where to compute (auto: CUDA, then MPS, then CPU)")


def run_reporting_errors(work: Callable[[], int | None]) -> int:
    """Run `work`; errors the user can mend become one line on stderr and exit code 1."""
    try:
        return work() or 0
    except DcvcError as error:
        if os.environ.get("DCVC_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; point stdout elsewhere so that Python's exit does not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def exit_with(work: Callable[[], int | None]) -> NoReturn:
    sys.exit(run_reporting_errors(work))
