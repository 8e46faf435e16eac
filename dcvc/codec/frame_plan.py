"""The quality of each frame of a clip, and which P-frames are refreshes.

    quality 32                     every frame
            (40, 32, 32, 34.5)     one for each frame of the clip
            number -> quality      asked when the frame is coded: a rate control
            SteppedQuality         one, and steps around it by the place behind the I-frame
    refresh 32                     the 32nd, 64th, ... frame after each I-frame
            {5, 9}                 these frames

After a refresh the next frame starts from the picture that is shown, as after an I-frame, and not
from what the codec remembers: differences between two machines' memories end there. I-frames are
coded at the same quality where their codec counts qualities as the P-frame codec does.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from dcvc.codec.quality_steps import SteppedQuality, Steps, steps_text
from dcvc.errors import InputError
from dcvc.interfaces import FrameCodec, PFrameCodec, check_quality

Qualities = float | SteppedQuality | Sequence[float] | Callable[[int], float] | None
Refreshes = int | Collection[int] | None


def stepped_quality(p_frame: PFrameCodec, quality: float | None, steps: Steps | None
                    ) -> SteppedQuality | float | None:
    """For a clip: the codec's default quality and its own steps where none are given. Raises
    InputError for steps around the one rate of a codec."""
    rates = p_frame.rates
    if rates is None:
        if steps is not None:
            raise InputError(f"--quality_steps: found {steps_text(steps)}, but {p_frame.name} has "
                             "one rate a model; leave it out")
        return quality
    if quality is None:
        quality = (rates.lowest + rates.highest) / 2 if rates.default is None else rates.default
    return SteppedQuality(quality, rates.steps if steps is None else steps)


class FramePlan:
    """What is said to both codecs of a clip beside its frames, as keyword arguments of `compress`,
    `reconstruct` and `forward`.

    gop: distance of I-frames; frames: how many come, where that is known. Raises InputError for a
    quality or a refresh that the P-frame codec does not know, or that is out of its range; those of
    a function are checked when they are asked for.
    """

    def __init__(self, p_frame: PFrameCodec, intra: FrameCodec, gop: int, quality: Qualities = None,
                 refresh: Refreshes = None, frames: int | None = None) -> None:
        self._name, self._rates, self._gop = p_frame.name, p_frame.rates, gop
        # The quality of an I-frame codec with another range has another meaning.
        self._intra_follows = intra.rates is not None and intra.rates == p_frame.rates
        self._quality = self._checked_quality(quality, frames)
        self._refresh = frozenset(refresh) if isinstance(refresh, Collection) else refresh
        if refresh is not None and not p_frame.refreshes:
            raise InputError(f"refresh: found {refresh}, but {p_frame.name} has none; leave it out")
        if isinstance(self._refresh, int) and self._refresh < 1:
            raise InputError(f"refresh: found {refresh}, needed at least 1 frame")

    @property
    def intra_follows(self) -> bool:
        """Whether I-frames take the quality of the plan."""
        return self._intra_follows

    def of_i_frame(self, number: int) -> dict[str, Any]:
        return self._quality_of(number, 0) if self._intra_follows else {}

    def of_p_frame(self, number: int, since_i_frame: int | None = None) -> dict[str, Any]:
        """since_i_frame: how many frames ago the last I-frame was, where they come irregularly."""
        since = number % self._gop if since_i_frame is None else since_i_frame
        # Codecs without a refresh have no such argument.
        refreshes = {"refresh": True} if self._refreshes(number, since) else {}
        return {**self._quality_of(number, since), **refreshes}

    def _refreshes(self, number: int, since: int) -> bool:
        # Counted from the last I-frame, so that every GOP has its refreshes at the same places.
        if isinstance(self._refresh, int):
            return since % self._refresh == 0
        return self._refresh is not None and number in self._refresh

    def _quality_of(self, number: int, since: int) -> dict[str, float]:
        if self._quality is None:
            return {}
        if isinstance(self._quality, SteppedQuality):
            quality = self._quality.at(since)
            return {"quality": min(max(quality, self._rates.lowest), self._rates.highest)}
        if callable(self._quality):
            return {"quality": self._checked(self._quality(number))}
        one = isinstance(self._quality, float)
        return {"quality": self._quality if one else self._quality[number]}

    def _checked_quality(self, quality: Qualities, frames: int | None) -> Qualities:
        if quality is None or self._rates is None:
            # One rate a model: this raises, whatever kind of quality was given.
            check_quality(self._name, self._rates, quality)
            return None
        if isinstance(quality, SteppedQuality):
            self._checked(quality.quality)
            return quality
        if callable(quality):
            return quality
        if not isinstance(quality, Sequence) or isinstance(quality, str):
            return self._checked(quality)
        if frames is not None and len(quality) < frames:
            raise InputError(f"quality: found {len(quality)} numbers, needed one for each of "
                             f"{frames} frames")
        return tuple(self._checked(value) for value in quality)

    def _checked(self, quality: Any) -> float:
        try:
            quality = float(quality)
        except (TypeError, ValueError):
            raise InputError(f"quality: found {quality!r}, needed a number") from None
        check_quality(self._name, self._rates, quality)
        return quality
