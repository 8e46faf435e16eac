"""What all command lines share: dashes for underscores, near matches, one-line errors, options from
dataclasses."""

import argparse
import contextlib
import dataclasses
import errno
import os
import signal
import sys
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from dcvc.commands.messages import in_chinese, told
from dcvc.config import flag_of, nearest, option_info
from dcvc.device import DEVICES
from dcvc.device.cores import tell_libraries
from dcvc.errors import DcvcError
from dcvc.files import home_cache


class HelpFormatter(argparse.HelpFormatter):
    """Help in which a value has a short name (N, X, DIR, FILE) and every default is told, in the
    user's language."""

    def add_usage(self, usage, actions, groups, prefix=None) -> None:
        prefix = told("usage: ") if prefix is None else prefix
        super().add_usage(usage, actions, groups, prefix)

    def add_text(self, text: str | None) -> None:
        super().add_text(told(text) if text else text)

    def start_section(self, heading: str | None) -> None:
        super().start_section(told(heading) if heading else heading)

    def _split_lines(self, text: str, width: int) -> list[str]:
        # A Chinese character is two columns wide.
        return super()._split_lines(text, width // 2 if in_chinese() else width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return super()._fill_text(text, width // 2 if in_chinese() else width, indent)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        if action.type in (int, float):
            return "N" if action.type is int else "X"
        if action.dest.endswith("_dir"):
            return "DIR"
        files = ("checkpoint", "config", "list", "output")
        return "FILE" if action.dest.endswith(files) else "NAME"

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = action.help or "", action.default
        nothing = default is None or default is False or default in (argparse.SUPPRESS, [])
        if nothing or not action.option_strings or "default" in text:
            return told(text)
        value = " ".join(map(str, default)) if isinstance(default, (list, tuple)) else default
        value = "on" if value is True else str(value).replace("%", "%%")
        # Looked up without it: a text may hold brackets of its own.
        return told(text) + told(f" (default: {value})")


class ArgumentParser(argparse.ArgumentParser):
    """argparse that takes dashes for underscores in option names and suggests the nearest word.

    The result's `given` names the options that stood on the command line, whatever their value.
    """

    def __init__(self, *args, **kwargs) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", HelpFormatter)
        super().__init__(*args, **kwargs)

    def parse_args(self, args: Sequence[str] | None = None, namespace=None) -> argparse.Namespace:
        options, unknown = self.parse_known_args(args, namespace)
        self.refuse(unknown)
        return options

    @property
    def option_names(self) -> list[str]:
        """Of every option, without dashes; of a boolean one without its negative form."""
        return [name[2:] for name in self._option_string_actions
                if name.startswith("--") and not name.startswith("--no-")]

    def refuse(self, unknown: Sequence[str]) -> None:
        """End with an error about the first word that no option takes, if there is one."""
        if unknown:
            known = [name for name in self._option_string_actions if name.startswith("--")]
            suggestion = nearest(unknown[0].split("=")[0], known)
            self.error(f"unknown argument {unknown[0]}{suggestion}")

    def parse_known_args(self, args=None, namespace=None):
        args = list(sys.argv[1:] if args is None else args)
        args = [self._canonical(argument) for argument in args]
        options, unknown = super().parse_known_args(args, namespace)
        words = {argument.split("=")[0] for argument in args}
        # A subcommand's parser has run before this line and left what it was given.
        options.given = getattr(options, "given", frozenset()) | {
            action.dest for name, action in self._option_string_actions.items() if name in words}
        return options, unknown

    def error(self, message: str) -> NoReturn:
        """One line; argparse would print the whole usage before it and hide the message."""
        line = f"error: {self.prog}: {message}; {self.prog} --help lists the options"
        self.exit(2, f"{told(line)}\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(action, f"found {value!r}, needed one of "
                                         f"{', '.join(choices)}{nearest(str(value), choices)}")

    def _canonical(self, argument: str) -> str:
        """With the option's own name: --max-frames=3 -> --max_frames=3, --no-a-b -> --no-a_b."""
        name, equals, value = argument.partition("=")
        if not name.startswith("--") or name == "--":
            return argument
        name = name[2:].replace("-", "_")
        # argparse's own negated flags keep the dash after "no".
        candidates = (f"--{name}", f"--no-{name[3:]}")
        return next((candidate + equals + value for candidate in candidates
                     if candidate in self._option_string_actions), argument)


class SubcommandParser(ArgumentParser):
    """The parser of one subcommand. argparse asks it for the options it knows and hands the others
    to the parser above, whose options are no near matches; here they are an error at once."""

    def parse_known_args(self, args=None, namespace=None):
        options, unknown = super().parse_known_args(args, namespace)
        self.refuse(unknown)
        return options, []


def add_flag(parser: argparse._ActionsContainer, name: str, default: bool | None, help: str) -> None:
    """A boolean option with its `--no-…` form; default None: the help says what holds then."""
    parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=default,
                        help=help)


def add_options(group: argparse._ActionsContainer, config: type, names: Sequence[str] = (),
                **changes: dict[str, Any]) -> None:
    """A flag for each field of a configuration (or for `names` of them, in that order), as the
    field declares it.

    changes: for a field, keywords of add_argument that differ here: num_workers={"default": 4}.
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
            kind = typing.get_args(hint)[0]
            keywords.update(nargs="+", type=kind, default=list(field.default))
        elif hint in (int, float):
            keywords["type"] = hint
        flag = flag_of(field)
        group.add_argument(f"--{flag}", dest=flag, **{**keywords, **changes.get(field.name, {})})


def read_options(config: type, options: argparse.Namespace,
                 preset: dict[str, Any] | None = None) -> dict[str, Any]:
    """Fields of a configuration from flags made by `add_options`: a flag that was given, else the
    preset, else the flag's default."""
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
    """--device; dcvc.device.choose_device turns its word into a device."""
    parser.add_argument("--device", choices=DEVICES, default="auto",
                        help="where to compute; auto: CUDA, else MPS, else the CPU")


def printable(text: str) -> str:
    """One line that any terminal takes: line breaks and control characters, and bytes of file names
    that are no text, as escapes."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode()
                    for c in text)
    return shown.encode("utf-8", "backslashreplace").decode()


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as an exception, so that whatever is half written is taken away."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, leave)
    except ValueError:                        # not the main thread: signals are somebody else's
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_reporting_errors(work: Callable[[], int | None]) -> int:
    """Run `work`; errors the user can mend become one line on stderr and exit code 1. SIGTERM ends it
    with nothing left half-written."""
    # Names that are not of the terminal's encoding are printed as escapes.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    # Before any work loads torch, which counts the machine's cores and knows no quota.
    tell_libraries()
    # For a user without a home the libraries' caches would go into a folder called ~ right here.
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = os.fspath(home_cache())
    try:
        with _ended_by_sigterm():
            return work() or 0
    except DcvcError as error:
        if os.environ.get("DCVC_TRACEBACK"):
            raise
        print(told(f"error: {printable(str(error))}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(told("stopped"), file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone. Point stdout elsewhere, or Python complains at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # Whatever was being written: the disk's own refusal is no defect of the program.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) or os.environ.get("DCVC_TRACEBACK"):
            raise
        where = printable(str(error.filename or "a temporary or cache folder"))
        print(f"error: {where}: cannot be written ({error.strerror}); free space, choose another "
              "place, or set TMPDIR", file=sys.stderr)
        return 1
