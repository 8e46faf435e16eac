"""Configuration: frozen dataclasses, read strictly. What a run used is stored beside it as JSON.

An option is declared once, as a field of its dataclass made by `option`: default, help, limits,
whether it may change when a run is resumed. The command line, recipe files, `--set` and the check
on resuming all read it from there:

    @dataclass(frozen=True)
    class TrainConfig:
        log_every: int = option(10, "steps between logged numbers", least=1, on_resume=True)

    command line  --log_every 5      recipe file  {"train": {"log_every": 5}}      --set log_every=5
"""

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, TypeVar

from dcvc.errors import InputError

T = TypeVar("T")


def nearest(name: str, choices: typing.Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the choice closest to name, or an empty string."""
    close = difflib.get_close_matches(name, list(choices), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


@dataclass(frozen=True)
class OptionInfo:
    """What a field says about itself beside its type and default.

    help: for the command line; empty for fields that are no flags of their own.
    flag: its name there, where it differs.
    least, above, below: a value must be at least, more than, less than this. None is always allowed
    where the type says so.
    on_resume: a resumed run may have another value.
    metavar: the word that stands for a value in the help.
    """

    help: str = ""
    flag: str | None = None
    least: float | None = None
    above: float | None = None
    below: float | None = None
    on_resume: bool = False
    metavar: str | None = None


def option(default: Any, help: str = "", **info: Any) -> Any:
    """A dataclass field with an OptionInfo. Of a list or dictionary each object gets a copy."""
    metadata = {"option": OptionInfo(help, **info)}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def option_info(field: dataclasses.Field) -> OptionInfo:
    return field.metadata.get("option", OptionInfo())


def flag_of(field: dataclasses.Field) -> str:
    """The field's name on the command line, without dashes."""
    return option_info(field).flag or field.name


def may_change_on_resume(*classes: type) -> tuple[str, ...]:
    """Names of the fields of some configurations that a resumed run may have with other values."""
    return tuple(field.name for cls in classes for field in dataclasses.fields(cls)
                 if option_info(field).on_resume)


def check_limits(config: Any) -> None:
    """For __post_init__: raises InputError naming the flag of a field outside its limits."""
    for field in dataclasses.fields(config):
        info, value = option_info(field), getattr(config, field.name)
        if value is None:
            continue
        found = f"--{flag_of(field)}: found {value}"
        # Written so that NaN, which compares as false with everything, is refused.
        above = info.above is None or value > info.above
        below = info.below is None or value < info.below
        if not (above and below):
            # Both ends in one message: who mends one should not run into the other.
            if info.above is not None and info.below is not None:
                raise InputError(f"{found}, needed between {info.above:g} and {info.below:g}")
            needed = f"less than {info.below:g}" if above else f"more than {info.above:g}"
            raise InputError(f"{found}, needed {needed}")
        if info.least is not None and not value >= info.least:
            raise InputError(f"{found}, needed at least {info.least:g}")


def check_words(config: Any) -> None:
    """For __post_init__: raises InputError naming a Literal field with none of its words."""
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        allowed, value = typing.get_args(hints[field.name]), getattr(config, field.name)
        if typing.get_origin(hints[field.name]) is Literal and value not in allowed:
            raise InputError(f"{flag_of(field)}: found {value!r}, needed one of "
                             f"{', '.join(allowed)}")


def to_dict(config: Any) -> dict[str, Any]:
    """A frozen dataclass -> plain JSON values (tuples become lists)."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            return {field.name: plain(getattr(value, field.name))
                    for field in dataclasses.fields(value)}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return value

    return plain(config)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables -> {"train.seed": 0, …}."""
    flat = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def differences(old: dict[str, Any], new: dict[str, Any],
                ignored: typing.Collection[str] = ()) -> list[str]:
    """`"train.seed: 0 there, 1 now"` for each field that two tables hold with different values.

    ignored: last parts of names that do not matter. A field that one of them lacks (an older run)
    is no difference.
    """
    old, new = flatten(old), flatten(new)
    return [f"{key}: {old[key]!r} there, {new[key]!r} now" for key in new
            if key in old and old[key] != new[key] and key.rsplit(".", 1)[-1] not in ignored]


def from_dict(cls: type[T], values: Any, where: str = "") -> T:
    """Build `cls` from JSON values. Raises InputError for unknown keys and wrong types.

    where: names the values in messages; "run.json: train" gives "run.json: train.seed: found ...".
    """
    where = where or cls.__name__
    if not isinstance(values, dict):
        raise InputError(f"{where}: found {type(values).__name__}, needed a table of fields")
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls) if field.init]
    for key in values:
        if key not in names:
            raise InputError(f"{where}: unknown key '{key}'{nearest(str(key), names)} "
                             f"Known keys: {', '.join(names)}")
    read = {key: _convert(hints[key], value, f"{where}.{key}") for key, value in values.items()}
    try:
        return cls(**read)
    except TypeError as error:
        raise InputError(f"{where}: {error}") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    """A JSON value -> the type that a field was declared with, from the outside to the inside."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if origin is Literal:
        if value not in arguments:
            choices = [str(a) for a in arguments]
            raise InputError(f"{where}: found {value!r}, needed one of {', '.join(choices)}"
                             f"{nearest(str(value), choices)}")
        return value
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_dict(hint, value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{where}: found {value!r}, needed a list")
        if arguments[-1] is Ellipsis:
            arguments = arguments[:1] * len(value)
        if len(arguments) != len(value):
            raise InputError(f"{where}: found {len(value)} items, needed {len(arguments)}")
        pairs = zip(arguments, value, strict=True)
        return tuple(_convert(a, item, f"{where}[{i}]") for i, (a, item) in enumerate(pairs))
    if origin is dict:
        return {str(key): item for key, item in value.items()}
    # JSON has one kind of number, and people write 1 for 1.0. But True is no 1.
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, str, bool) and (type(value) is not hint):
        raise InputError(f"{where}: found {value!r} ({type(value).__name__}), "
                         f"needed {hint.__name__}")
    return value


def __getattr__(name: str) -> Any:
    # The former place of DCVC-2021's sizes: scripts written before they moved import them from here.
    if name == "MODEL_SIZES":
        return import_module("dcvc.inter.dcvc2021.config").SIZES
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
