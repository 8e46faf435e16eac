"""The contracts between codecs and all that uses them: trainer, losses, evaluation, streams, ...

A P-frame codec turns (state, frame) into (output, next state). The state is an explicit value: what
the decoder holds between two frames. Nobody but the codec looks into it; everybody else hands it
on:

    state = p_frame.start(x_hat of the I-frame)
    for frame in the rest of the GOP:
        output, state = p_frame.forward(state, frame)            training
        payload, output, state = p_frame.compress(state, frame)  encoder
        x_hat, state = p_frame.decompress(state, payload)        decoder

`docs/extending.md` shows a complete P-frame codec and a complete I-frame codec.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from dcvc.errors import InputError

# How far a P-frame codec runs: a stage that trains the prediction alone needs no reconstruction.
Until = Literal["prediction", "reconstruction"]
# One quality for a batch, one per sample `(B,)`, or None for codecs that have one rate a model.
Quality = float | Tensor | None
# A part of a picture: (top, left, height, width) in pixels.
Crop = tuple[int, int, int, int]


@dataclass(frozen=True)
class FrameOutput:
    """One coded batch of frames.

    x_hat: reconstruction `(B, 3, H, W)`, RGB; in [0, 1] wherever it is shown, measured or used as a
    reference.
    bits: named term ("i" of an I-frame, else the codec's own) -> total bits of the batch, 0-dim float32
    tensor.
    prediction: motion-compensated reference `(B, 3, H, W)` of a P-frame, None for an I-frame and
    for codecs that predict no picture.
    """

    x_hat: Tensor | None
    bits: dict[str, Tensor]
    prediction: Tensor | None = None

    @property
    def total_bits(self) -> Tensor:
        return sum(self.bits.values())


@dataclass(frozen=True)
class RateRange:
    """Qualities of a codec with many rates in one model; higher is better, fractions allowed.

    default: where nobody chooses, None: the middle. steps: what the frames of a clip get above or
    below it (dcvc.codec.quality_steps). Two codecs whose qualities differ in these alone mean the same by a number.
    """

    lowest: float
    highest: float
    default: float | None = field(default=None, compare=False)
    steps: tuple[float, ...] = field(default=(0.0, 0.0), compare=False)

    def lambdas(self, quality: Tensor, ends: tuple[float, float]) -> Tensor:
        """lambda of each quality, same shape: its logarithm is linear between those of the lowest
        and the highest quality, `ends`."""
        low, high = (torch.tensor(value).log() for value in ends)
        share = (quality - self.lowest) / (self.highest - self.lowest)
        return torch.exp(low + (high - low) * share)


class State(Protocol):
    """What a decoder holds between two frames. A NamedTuple of tensors is a good one: the tools of
    torch that look for tensors in a result (DistributedDataParallel, checkpointing, compile) find
    them there."""

    def detach(self) -> "State":
        """The same values without gradients: the next update does not reach through them."""


@runtime_checkable
class PFrameCodec(Protocol):
    """A codec of frames that refer to earlier ones: a torch module that `config` rebuilds.

    Frames are float RGB `(B, 3, H, W)` in [0, 1] of any size: padding to `multiple` and cropping
    are the codec's own affair. compress and decompress take one frame at a time (B = 1) and agree
    on x_hat and on the state bit for bit.

    Payloads of codecs with `rates` begin with their quality (dcvc.entropy.frame_head), and their
    qualities lie within 0 ... 63. reconstruct and compress of codecs that refresh take
    `refresh=True` too: the next frame then starts from the picture alone, as after an I-frame.

    A codec with an attribute `symbols_exact` that is true promises that integers alone decide which
    symbols a payload holds: another machine reads the same ones, whatever its floats are. One that is
    called `trains_in_shards` says that several threads may be in `forward` at the same time, and
    `codes_in_lanes` that they may be in compress and decompress, each with a state of its own, and that
    payloads and pictures do not hang on the number of threads.
    """

    name: str                          # as checkpoints and commands call it
    stream_id: int                     # the number that stands for it in streams
    config: Any                        # a frozen dataclass
    multiple: int
    parts: tuple[str, ...]             # what a stage may train: ("motion", "contextual", "all")
    terms: tuple[str, ...]             # names in FrameOutput.bits
    rates: RateRange | None            # None: one rate a model
    refreshes: bool                    # whether reconstruct and compress take `refresh`
    tables_crc: int                    # CRC-32 of the integer tables that streams are written with

    def part_parameters(self, part: str) -> list[str]:
        """Names of the parameters of one of `parts`. Raises InputError for another word."""

    def start(self, x_hat: Tensor) -> State:
        """The state after an I-frame that was decoded to x_hat `(B, 3, H, W)` in [0, 1]."""

    def forward(self, state: State, frame: Tensor, quality: Quality = None, *,
                until: Until = "reconstruction") -> tuple[FrameOutput, State]:
        """The differentiable path: noise in the rates (in train mode), x_hat not clamped.

        until "prediction": output.prediction alone is wanted, x_hat may be None, and the state
        follows from it.
        """

    def reconstruct(self, state: State, frame: Tensor, quality: Quality = None, *,
                    until: Until = "reconstruction") -> tuple[FrameOutput, State]:
        """What a decoder shows, clamped to [0, 1], without writing; bits of rounded symbols.

        No gradients."""

    def compress(self, state: State, frame: Tensor,
                 quality: Quality = None) -> tuple[bytes, FrameOutput, State]:
        """One frame `(1, 3, H, W)` -> payload, what `decompress` will show with the estimated bits,
        and the state."""

    def decompress(self, state: State, payload: bytes,
                   bits: dict[str, float] | None = None) -> tuple[Tensor, State]:
        """Payload -> x_hat `(1, 3, H, W)` in [0, 1] and the state. bits, where given, receives what
        each term cost.

        Raises BitstreamError where the payload does not fit."""


@runtime_checkable
class FrameCodec(Protocol):
    """A codec of single frames (I-frames). Frames are float RGB `(B, 3, H, W)` in [0, 1] of any
    size: padding to `multiple` and cropping are the codec's own affair. It is frozen: it stays in
    eval mode and has no gradients. Payloads begin as those of a PFrameCodec.

    One that codes with the help of the P-frame codec beside it has a method `bind(p_frame)` too; one
    whose symbols every machine reads alike says so by `symbols_exact`, one that several threads may code
    with by `codes_in_lanes`; one that keeps what other machines compute in other ways has a method
    `stream_weights`."""

    name: str                          # what --i_frame_type calls it
    stream_id: int                     # the number that stands for it in streams
    multiple: int
    rates: RateRange | None

    def forward(self, x: Tensor, quality: Quality = None) -> FrameOutput:
        """Reconstruction and estimated bits."""

    def compress(self, x: Tensor, quality: Quality = None) -> tuple[bytes, Tensor]:
        """One frame `(1, 3, H, W)` -> payload, and exactly the x_hat that `decompress` gives."""

    def decompress(self, payload: bytes) -> Tensor:
        """Payload -> reconstruction `(1, 3, H, W)`; raises BitstreamError on damage."""


def check_quality(codec: str, rates: RateRange | None, quality: Quality) -> None:
    """Raises InputError for a quality outside of `rates`, or for any where `rates` is None.

    Both ends of the range are allowed; of a tensor, every value must lie within."""
    if quality is None:
        return
    if rates is None:
        raise InputError(f"quality: found {quality}, but {codec} has one rate a model; "
                         "leave it out and choose the rate by the model "
                         "(--lambda_value when it is trained)")
    values = quality.flatten().tolist() if isinstance(quality, Tensor) else [float(quality)]
    for value in values:
        if not rates.lowest <= value <= rates.highest:
            raise InputError(f"quality: found {value:g}, {codec} needs "
                             f"{rates.lowest:g}...{rates.highest:g}, higher is better")


def to_levels(x: Tensor) -> Tensor:
    """Float `(…, 3, H, W)` in [0, 1] -> uint8, rounded: the 256 levels of screens and files."""
    # By way of int16: torch converts floats to bytes one by one, but both of these in vectors.
    return x.clamp(0, 1).mul_(255).round_().to(torch.int16).to(torch.uint8)


def from_levels(frame: Tensor) -> Tensor:
    """uint8 -> float32 in [0, 1]."""
    return frame.float().div_(255)


def bits_per_pixel(bits: Tensor | float, x: Tensor) -> Tensor | float:
    """bits over the pixels of unpadded `x` (..., C, H, W); leading dimensions count frames."""
    pixels = x.shape[-2] * x.shape[-1]
    for size in x.shape[:-3]:
        pixels *= size
    return bits / pixels


@dataclass(frozen=True)
class IntraOutput(FrameOutput):
    """FrameOutput that also reads like CompressAI's: `out["x_hat"]`, `out["likelihoods"]["y"]`.

    likelihoods: named tensors; -log2 summed over all of them is `total_bits`.
    indices: codes of a VQGAN, int64 `(B, h, w)`, or `(B, D, h, w)` with D levels, or a list of
    grids where it has several scales; None for other codecs.
    """

    likelihoods: dict[str, Tensor] | None = None
    indices: Tensor | list[Tensor] | None = None

    def keys(self) -> tuple[str, ...]:
        return tuple(name for name in ("x_hat", "likelihoods", "indices")
                     if getattr(self, name) is not None)

    def __getitem__(self, key: str) -> Any:
        if key not in self.keys():
            raise KeyError(key)
        return getattr(self, key)

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self.keys() else default

    def items(self) -> list[tuple[str, Any]]:
        return [(key, self[key]) for key in self.keys()]


def reads_alike(codec: PFrameCodec | FrameCodec) -> bool:
    """Whether every machine reads the same symbols from a payload of this codec, even where its
    pictures differ in their last bits. Codecs that say nothing do not promise it."""
    return bool(getattr(codec, "symbols_exact", False))


def codes_in_lanes(codec: PFrameCodec | FrameCodec) -> bool:
    """Whether several threads may code with it at the same time, and get what one would get."""
    return bool(getattr(codec, "codes_in_lanes", False))


def usually_exact(codec: PFrameCodec | FrameCodec) -> bool:
    """Whether its streams are exact where nobody says: it has an exact form, and does not say that this one is
    for whoever asks."""
    return hasattr(codec, "exact_form") and not getattr(codec, "exact_on_request", False)


def stream_weights(codec: FrameCodec) -> list[dict[str, Tensor]]:
    """The entries whose hash names the codec in new streams, then those that named it in streams of
    before: all of them, unless the codec says otherwise by a method of this name."""
    own = getattr(codec, "stream_weights", None)
    return own() if own is not None else [codec.state_dict()]


def bind(intra: FrameCodec, p_frame: PFrameCodec) -> None:
    """Make an I-frame codec known with the P-frame codec that it is used with, if it asks for it."""
    if hasattr(intra, "bind"):
        intra.bind(p_frame)


class FrozenCodec(nn.Module):
    """An I-frame codec: always in eval mode, without gradients, whatever a trainer does."""

    name: str
    stream_id: int
    multiple: int
    rates: RateRange | None = None

    def freeze(self) -> None:
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> "FrozenCodec":
        """Stays in eval mode: a codebook with running averages would change in training mode."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


def check_frames(x: Tensor, smallest: int = 1, single: bool = False) -> None:
    """Raises InputError for what no codec takes: anything but float RGB `(B, 3, H, W)`, values that
    are not finite, sides below `smallest`, with `single` more than one frame."""
    if not isinstance(x, Tensor) or x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point():
        found = f"{tuple(x.shape)} {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"frame: found {found}, needed float RGB of shape (B, 3, H, W) in [0, 1]")
    if x.shape[0] < 1 or (single and x.shape[0] != 1):
        raise InputError(f"frame: found a batch of {x.shape[0]}, "
                         f"needed {'1' if single else 'at least 1'}")
    if min(x.shape[-2:]) < smallest:
        raise InputError(f"frame: found {x.shape[-1]}x{x.shape[-2]}, "
                         f"needed at least {smallest}x{smallest} for this I-frame codec")
    if not bool(torch.isfinite(x).all()):
        raise InputError("frame: found NaN or infinite values, needed finite values in [0, 1]")
