"""Options that are declared once, their limits, and configurations read from JSON."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

import pytest

from dcvc.config import (
    check_limits,
    differences,
    flag_of,
    from_dict,
    may_change_on_resume,
    nearest,
    option,
    option_info,
    to_dict,
)
from dcvc.errors import InputError


@dataclass(frozen=True)
class Inner:
    seed: int = 0


@dataclass(frozen=True)
class Settings:
    steps: int = option(10, "how many steps", least=1, on_resume=True, metavar="N")
    rate: float = option(0.1, "how far", flag="learning_rate", above=0)
    decay: float = option(0.5, above=0, below=1)
    share: float = option(0.5, below=1)
    longest: int | None = option(None, least=4)
    names: list = option(["a"], "what it is called")
    kind: Literal["one", "two"] = "one"
    sizes: tuple[int, ...] = (1,)
    pair: tuple[int, float] = (1, 2.0)
    inner: Inner = Inner()

    def __post_init__(self) -> None:
        check_limits(self)


def field_of(name: str) -> dataclasses.Field:
    return next(field for field in dataclasses.fields(Settings) if field.name == name)


def test_an_option_says_all_about_itself():
    info = option_info(field_of("steps"))
    assert (info.help, info.least, info.on_resume, info.metavar) == ("how many steps", 1, True, "N")
    assert flag_of(field_of("rate")) == "learning_rate"
    assert flag_of(field_of("decay")) == "decay"
    assert option_info(field_of("kind")).help == ""
    assert may_change_on_resume(Settings, Inner) == ("steps",)


def test_each_object_has_its_own_list():
    one, two = Settings(), Settings()
    one.names.append("b")
    assert two.names == ["a"]


@pytest.mark.parametrize(("values", "message"), [
    ({"steps": 0}, "--steps: found 0, needed at least 1"),
    ({"rate": 0.0}, "--learning_rate: found 0.0, needed more than 0"),
    ({"decay": 0.0}, "--decay: found 0.0, needed between 0 and 1"),
    ({"decay": 1.0}, "--decay: found 1.0, needed between 0 and 1"),
    ({"share": 1.0}, "--share: found 1.0, needed less than 1"),
    ({"longest": 3}, "--longest: found 3, needed at least 4"),
    ({"rate": float("nan")}, "--learning_rate: found nan, needed more than 0"),
    ({"decay": float("nan")}, "--decay: found nan, needed between 0 and 1"),
])
def test_values_outside_of_their_limits_name_their_flag(values, message):
    with pytest.raises(InputError, match=message):
        Settings(**values)


def test_values_at_their_limits_are_taken():
    Settings(steps=1, rate=1e-9, decay=0.999, share=-5.0, longest=4)


def test_json_comes_back():
    settings = Settings(longest=7, sizes=(2, 3), inner=Inner(5))
    assert from_dict(Settings, to_dict(settings)) == settings
    assert from_dict(Settings, {"rate": 1}).rate == 1.0


@pytest.mark.parametrize(("values", "message"), [
    ({"stpes": 1}, "run.json: unknown key 'stpes'; did you mean 'steps'"),
    ({"steps": "1"}, r"run.json.steps: found '1' \(str\), needed int"),
    ({"steps": True}, r"run.json.steps: found True \(bool\), needed int"),
    ({"kind": "tow"}, "needed one of one, two; did you mean 'two'"),
    ({"sizes": [1, "2"]}, r"run.json.sizes\[1\]: found '2'"),
    ({"pair": [1]}, "run.json.pair: found 1 items, needed 2"),
    ({"inner": {"seed": 1.5}}, "run.json.inner.seed: found 1.5"),
    ([], "run.json: found list, needed a table"),
])
def test_json_that_does_not_fit_names_the_field(values, message):
    with pytest.raises(InputError, match=message):
        from_dict(Settings, values, "run.json")


def test_differences_are_told_field_by_field():
    old, new = {"train": {"seed": 0, "steps": 5}, "gone": 1}, {"train": {"seed": 1, "steps": 6}, "added": 2}
    assert differences(old, new) == ["train.seed: 0 there, 1 now", "train.steps: 5 there, 6 now"]
    assert differences(old, new, ignored=("steps",)) == ["train.seed: 0 there, 1 now"]


def test_nothing_is_near_to_nonsense():
    assert nearest("qqqqq", ("steps", "rate")) == ""
