"""Every P-frame codec by name: how it is configured, built, recognised and trained.

A codec is one folder beside this file, and one entry in here. One from outside this package is
added with `register(PFrameCodecEntry(...))` before it is used (docs/extending.md). Nothing else
needs to know of it: trainer, evaluation, streams and commands ask here.

    codec_entry("dcvc2021").size("tiny")  ->  DCVCConfig(channels=16, ...)
    build_p_frame(configuration)          ->  DCVC

    a checkpoint keeps  {"codec": "dcvc2021", "channels": 16, ...}  inter_entry, config_from_entry
    a stream keeps      1, the stream_id                            codec_name
    a foreign file      no name: each entry looks at the weights    p_frame_from_weights
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dcvc.config import from_dict, nearest, to_dict
from dcvc.errors import InputError
from dcvc.inter.dcvc2021 import recipes as dcvc2021
from dcvc.inter.dcvc2021.config import NAME, SIZES, STREAM_ID, DCVCConfig
from dcvc.inter.light import config as light
from dcvc.inter.light import recipes as light_recipes
from dcvc.schedule import Recipe, Stage

if TYPE_CHECKING:            # commands list codecs and recipes without loading torch
    from torch import Tensor

    from dcvc.interfaces import PFrameCodec

# Numbers of codecs in streams are 1...255, the upper half for codecs from outside of this package.
LARGEST_STREAM_ID = 255
FIRST_OUTSIDE_STREAM_ID = 128


def _three_passes(stage: Stage) -> float:
    # Forward once and backward at twice the cost, for each frame after the I-frame.
    return 3.0 * (stage.gop_size - 1)


@dataclass(frozen=True)
class PFrameCodecEntry:
    """One P-frame codec.

    name: in checkpoints and on the command line.
    stream_id: in streams, 1...127 for the package's own and 128...255 for others; it never changes
    its meaning.
    terms: names of its rate terms, in the order in which they are shown.
    config: its frozen dataclass. build: that configuration -> the codec with random weights.
    sizes: named configurations, the first is the default. old_sizes: older names of them.
    stages, recipes, lambdas: what `--stage N`, `--recipe NAME` and `--quality_index I` mean for it.
    later_lambdas_from: what a recipe file that does not say it means (dcvc.schedule.Recipe).
    from_weights: entries of a file that names no codec, and the file's name -> the codec, or None
    where the entries are of something else.
    work: a stage -> arithmetic of one sample in forward passes of one P-frame.
    """

    name: str
    stream_id: int
    terms: tuple[str, ...]
    config: type
    build: Callable[[Any], PFrameCodec]
    sizes: dict[str, Any]
    old_sizes: dict[str, str] = field(default_factory=dict)
    stages: dict[int, Stage] = field(default_factory=dict)
    recipes: dict[str, Recipe] = field(default_factory=dict)
    lambdas: tuple[float, ...] = (256.0, 512.0, 1024.0, 2048.0)
    later_lambdas_from: int = 1
    from_weights: Callable[[dict[str, Tensor], str], PFrameCodec | None] = (
        lambda weights, where: None)
    work: Callable[[Stage], float] = _three_passes

    def size(self, name: str) -> Any:
        """The configuration of a named size. Raises InputError with the nearest name."""
        name = self.old_sizes.get(name, name)
        if name not in self.sizes:
            raise InputError(f"model_size: found '{name}', needed one of {', '.join(self.sizes)}"
                             f"{nearest(name, self.sizes)}")
        return self.sizes[name]

    def require_stages(self) -> None:
        """Raises InputError for a codec that can be loaded and coded with, but not trained."""
        if not self.stages:
            trainable = [entry.name for entry in _ENTRIES.values() if entry.stages]
            raise InputError(f"--codec: found {self.name}, which has no training stages yet; "
                             f"needed one of {', '.join(trainable)}")

    @property
    def default_size(self) -> str:
        return next(iter(self.sizes))


def _build_dcvc2021(config: DCVCConfig) -> PFrameCodec:
    # Late: the commands list codecs and sizes without loading torch's networks.
    from dcvc.inter.dcvc2021.model import DCVC

    return DCVC(config)


def _dcvc2021_from_weights(weights: dict[str, Tensor], where: str) -> PFrameCodec | None:
    # Late for the same reason.
    from dcvc.inter.dcvc2021.loading import dcvc_from_state_dict, is_dcvc

    return dcvc_from_state_dict(weights, where) if is_dcvc(weights) else None


def _build_light(config: light.LightConfig) -> PFrameCodec:
    from dcvc.inter.light.model import LightPFrameModel

    return LightPFrameModel(config)


def _light_from_weights(weights: dict[str, Tensor], where: str) -> PFrameCodec | None:
    from dcvc.inter.light.loading import is_light, light_from_state_dict

    return light_from_state_dict(weights, where) if is_light(weights) else None


_ENTRIES: dict[str, PFrameCodecEntry] = {}


def register(entry: PFrameCodecEntry) -> None:
    """Make a codec known under its name. The same entry again is taken.

    Raises InputError for a name or a stream number that another codec has.
    """
    if not 1 <= entry.stream_id <= LARGEST_STREAM_ID:
        raise InputError(f"codec {entry.name}: found stream_id {entry.stream_id}, "
                         f"needed 1...{LARGEST_STREAM_ID} "
                         f"({FIRST_OUTSIDE_STREAM_ID} and above for codecs from outside)")
    for other in _ENTRIES.values():
        # A number may never change its meaning: streams that were written with it would not decode.
        if other != entry and (other.name == entry.name or other.stream_id == entry.stream_id):
            raise InputError(f"codec {entry.name}: name or stream_id {entry.stream_id} "
                             f"is taken by {other.name}")
    _ENTRIES[entry.name] = entry


register(PFrameCodecEntry(
    name=NAME,
    stream_id=STREAM_ID,
    terms=dcvc2021.ALL_TERMS,
    config=DCVCConfig,
    build=_build_dcvc2021,
    sizes=SIZES,
    # The default size was once called after the codec.
    old_sizes={NAME: "full"},
    stages=dcvc2021.STAGES,
    recipes=dcvc2021.RECIPES,
    lambdas=dcvc2021.LAMBDAS,
    later_lambdas_from=4,
    from_weights=_dcvc2021_from_weights,
    work=dcvc2021.work,
))

register(PFrameCodecEntry(
    name=light.NAME,
    stream_id=light.STREAM_ID,
    terms=light.TERMS,
    config=light.LightConfig,
    build=_build_light,
    sizes=light.SIZES,
    stages=light_recipes.STAGES,
    recipes=light_recipes.RECIPES,
    from_weights=_light_from_weights,
))

# What files from before codecs had names mean, and commands that do not name one.
DEFAULT_CODEC = next(iter(_ENTRIES))


def codec_names() -> tuple[str, ...]:
    return tuple(_ENTRIES)


def codec_entry(name: str = DEFAULT_CODEC) -> PFrameCodecEntry:
    """Raises InputError with the nearest name for one that is not registered."""
    if name not in _ENTRIES:
        raise InputError(f"P-frame codec: found '{name}', needed one of {', '.join(_ENTRIES)}"
                         f"{nearest(name, _ENTRIES)}")
    return _ENTRIES[name]


def codec_name(stream_id: int) -> str:
    """What a stream's header means by a codec's number."""
    names = (entry.name for entry in _ENTRIES.values() if entry.stream_id == stream_id)
    return next(names, f"number {stream_id}, which this program does not know")


def entry_of_config(config: Any) -> PFrameCodecEntry:
    """The codec whose configuration this is."""
    for entry in _ENTRIES.values():
        if type(config) is entry.config:
            return entry
    raise InputError(f"P-frame codec: found a configuration {type(config).__name__}, "
                     f"which no registered codec has; registered: {', '.join(_ENTRIES)}")


def all_recipes() -> dict[str, Recipe]:
    """Every codec's recipes by name."""
    return {name: recipe for entry in _ENTRIES.values() for name, recipe in entry.recipes.items()}


def build_p_frame(config: Any) -> PFrameCodec:
    """A codec of this configuration with random weights, drawn from torch's global generator."""
    return entry_of_config(config).build(config)


def inter_entry(config: Any) -> dict[str, Any]:
    """A configuration as checkpoints keep it: its fields and the codec's name."""
    return {"codec": entry_of_config(config).name, **to_dict(config)}


def config_from_entry(values: dict[str, Any], where: str) -> Any:
    """The inverse of `inter_entry`. Raises InputError for unknown codecs and fields."""
    # Taken out of a copy: the checkpoint's own dictionary stays whole.
    values = dict(values)
    entry = codec_entry(values.pop("codec", DEFAULT_CODEC))
    return from_dict(entry.config, values, where)


def p_frame_from_weights(weights: dict[str, Tensor], where: str,
                         needed: str = "") -> PFrameCodec:
    """The codec that the entries of a foreign file belong to.

    Raises InputError where no codec takes them: where, the file, and what is `needed` instead (any
    registered codec).
    """
    for entry in _ENTRIES.values():
        model = entry.from_weights(weights, where)
        if model is not None:
            return model
    # Late for the same reason as the codecs.
    from dcvc.weights import model_of

    needed = needed or f"a P-frame codec that is registered ({', '.join(_ENTRIES)})"
    raise InputError(f"{where}: found {model_of(weights)}, needed {needed}")
