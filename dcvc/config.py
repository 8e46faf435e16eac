"""Configuration: frozen dataclasses, read strictly. What a run used is stored beside it as JSON.

An option is declared once, as a field of its dataclass made by `option`: default, help, limits, whether it may change
when a run is resumed. The command line, recipe files, `--set` and the check on resuming all read it from there:

    @dataclass(frozen=True)
    class TrainConfig:
        log_every: int = option(10, "steps between logged numbers", least=1, on_resume=True)

    --log_every N on the command line    {"train": {"log_every": 5}} in a recipe    --set log_every=5
"""

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass
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

    help: for the command line; empty for fields that are no flags of their own. flag: its name there, where it
    differs. least, above: the smallest value, or what a value must be larger than; below: what it must be smaller
    than. None is always allowed where the type says so. on_resume: a resumed run may have another value.
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
    """A dataclass field with an OptionInfo. `default` may be a list or dictionary: each object gets its own copy."""
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
    return tuple(field.name for cls in classes for field in dataclasses.fields(cls) if option_info(field).on_resume)


def check_limits(config: Any) -> None:
    """For __post_init__: raises InputError naming the flag of the first field that is outside its limits."""
    for field in dataclasses.fields(config):
        info, value = option_info(field), getattr(config, field.name)
        if value is None:
            continue
        name = f"--{flag_of(field)}: found {value}"
        if info.above is not None and info.below is not None and not info.above < value < info.below:
            raise InputError(f"{name}, needed between {info.above:g} and {info.below:g}")
        if info.above is not None and value <= info.above:
            raise InputError(f"{name}, needed more than {info.above:g}")
        if info.least is not None and value < info.least:
            raise InputError(f"{name}, needed at least {info.least:g}")


def to_dict(config: Any) -> dict[str, Any]:
    """A frozen dataclass -> plain JSON values (tuples become lists)."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return value

    return plain(config)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables -> {"train.seed": 0, …}."""
    flat = {}
    for key, value in values.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


def differences(old: dict[str, Any], new: dict[str, Any], ignored: typing.Collection[str] = ()) -> list[str]:
    """`"train.seed: 0 there, 1 now"` for each field that two tables hold with different values.

    ignored: last parts of names that do not matter. A field that one of them lacks (an older run) is no difference.
    """
    old, new = flatten(old), flatten(new)
    return [f"{key}: {old[key]!r} there, {new[key]!r} now" for key in new
            if key in old and old[key] != new[key] and key.rsplit(".", 1)[-1] not in ignored]


def from_dict(cls: type[T], values: Any, where: str = "") -> T:
    """Build `cls` from JSON values. Unknown keys and wrong types raise InputError naming the field."""
    where = where or cls.__name__
    if not isinstance(values, dict):
        raise InputError(f"{where}: found {type(values).__name__}, needed a table of fields")
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls) if field.init]
    for key in values:
        if key not in names:
            raise InputError(f"{where}: unknown key '{key}'{nearest(str(key), names)} Known keys: {', '.join(names)}")
    read = {key: _convert(hints[key], value, f"{where}.{key}") for key, value in values.items()}
    try:
        return cls(**read)
    except TypeError as error:
        raise InputError(f"{where}: {error}") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if origin is Literal:
        if value not in arguments:
            choices = [str(a) for a in arguments]
            raise InputError(
                f"{where}: found {value!r}, needed one of {', '.join(choices)}{nearest(str(value), choices)}"
            )
        return value
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_dict(hint, value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{where}: found {value!r}, needed a list")
        if arguments[-1] is Ellipsis:
            return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if len(arguments) != len(value):
            raise InputError(f"{where}: found {len(value)} items, needed {len(arguments)}")
        pairs = zip(arguments, value, strict=True)
        return tuple(_convert(a, item, f"{where}[{i}]") for i, (a, item) in enumerate(pairs))
    if origin is dict:
        return {str(key): item for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, str, bool) and (type(value) is not hint):
        raise InputError(f"{where}: found {value!r} ({type(value).__name__}), needed {hint.__name__}")
    return value


