"""What every command line shares: `--max-frames` and `--max_frames` alike, near matches, one-line errors."""

import argparse
import dataclasses
import os
import sys
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

from dcvc.config import flag_of, nearest, option_info
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
        # A subcommand's parser has run before this line and left what it was given.
        found.given = getattr(found, "given", frozenset()) | {
            action.dest for name, action in self._option_string_actions.items() if name in named}
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


def add_options(group: argparse._ActionsContainer, config: type, names: Sequence[str] = (),
                **changes: dict[str, Any]) -> None:
    """A flag for each field of a configuration (or for `names` of them, in that order), as the field declares it.

    changes: for a field, keywords of add_argument that differ here, e.g. `num_workers={"default": 4}`.
    """
    hints = typing.get_type_hints(config)
    known = {field.name: field for field in dataclasses.fields(config)}
    for field in [known[name] for name in names] if names else known.values():
        info, hint = option_info(field), hints[field.name]
        keywords: dict[str, Any] = {"default": field.default, "help": info.help or None}
        if info.metavar:
            keywords["metavar"] = info.metavar
        if typing.get_origin(hint) in (types.UnionType, typing.Union):
            hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
        if hint is bool:
            keywords["action"] = argparse.BooleanOptionalAction
        elif typing.get_origin(hint) is typing.Literal:
            keywords["choices"] = typing.get_args(hint)
        elif typing.get_origin(hint) is tuple:
            keywords.update(nargs="+", type=typing.get_args(hint)[0], default=list(field.default))
        elif hint in (int, float):
            keywords["type"] = hint
        group.add_argument(f"--{flag_of(field)}", dest=flag_of(field), **{**keywords, **changes.get(field.name, {})})


def read_options(config: type, options: argparse.Namespace, preset: dict[str, Any] | None = None) -> dict[str, Any]:
    """Fields of a configuration from flags made by `add_options`: a flag that was given, else the preset, else the
    flag's default."""
    preset, values = preset or {}, {}
    for field in dataclasses.fields(config):
        flag = flag_of(field)
        if field.name in preset and flag not in options.given:
            values[field.name] = preset[field.name]
        elif hasattr(options, flag):
            value = getattr(options, flag)
            values[field.name] = tuple(value) if isinstance(value, list) else value
    return values


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
