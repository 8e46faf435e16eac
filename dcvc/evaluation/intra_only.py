"""`dcvc eval --intra_only`: every frame an I-frame by itself.

A codec has variants: several ways of writing the same picture. Most have one. A VQGAN has one for
each rate model that its checkpoint holds; then the networks run once a frame, and each rate model
writes the same codes:

    frame -> codes --+-- uniform -> payload      one picture, several payloads: a point of its own
          (networks) +-- static  -> payload      for each in the results
                     +-- prior   -> payload

Of such a codec the entries also tell how many of its codes were used, and how evenly.
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from dcvc.data.eval_sequences import EvalSequence
from dcvc.errors import BitstreamError, InputError
from dcvc.evaluation.code_count import CodeCount
from dcvc.evaluation.frame_counter import FrameDone
from dcvc.evaluation.measured_codec import MeasuredCodec
from dcvc.evaluation.stopwatch import Stopwatch
from dcvc.interfaces import FrameCodec, from_levels, to_levels


@runtime_checkable
class CodesWithRateModels(Protocol):
    """A codec whose rate models can be compared: it offers the steps from a frame to its payload."""

    rate_models: dict

    def codes_of(self, x: Tensor) -> Tensor: ...

    def bits_of(self, codes, rate_name: str): ...

    def payload_of(self, codes: Tensor, height: int, width: int, rate_name: str) -> bytes: ...

    def codes_from(self, payload: bytes) -> tuple[Tensor, tuple[int, int]]: ...

    def frames_of(self, codes: Tensor, height: int, width: int) -> Tensor: ...


class Clocks:
    """Seconds of encoder and decoder: what all variants share, and what each takes besides."""

    def __init__(self, variants: tuple[str, ...]) -> None:
        self.shared = {way: Stopwatch() for way in ("encode", "decode")}
        self.own = {(way, name): Stopwatch() for way in ("encode", "decode") for name in variants}

    def seconds(self, way: str, variant: str) -> float:
        return self.shared[way].seconds + self.own[way, variant].seconds


class WholeCodec:
    """Any FrameCodec: one variant without a name."""

    variants = ("",)

    def __init__(self, codec: FrameCodec) -> None:
        self.codec, self.clocks, self.count = codec, Clocks(self.variants), CodeCount()

    def estimate(self, x: Tensor) -> tuple[dict[str, float], Tensor]:
        """{variant: bits} and the reconstruction."""
        output = self.clocks.shared["encode"].call(self.codec.forward, x)
        return {"": float(sum(output.bits.values()))}, output.x_hat

    def compress(self, x: Tensor) -> tuple[dict[str, bytes], Tensor]:
        """{variant: payload} and the reconstruction."""
        payload, x_hat = self.clocks.shared["encode"].call(self.codec.compress, x)
        return {"": payload}, x_hat

    def decompress(self, payloads: dict[str, bytes]) -> Tensor:
        """The reconstruction, which all variants share."""
        return self.clocks.shared["decode"].call(self.codec.decompress, payloads[""])


class RateModels:
    """A codec with several rate models, one variant each; as WholeCodec."""

    def __init__(self, codec: CodesWithRateModels, variants: tuple[str, ...]) -> None:
        self.codec, self.variants, self.clocks = codec, variants, Clocks(variants)
        self.count = CodeCount()

    def estimate(self, x: Tensor) -> tuple[dict[str, float], Tensor]:
        codes, x_hat = self._networks(x)
        levels, bits = codes.cpu().numpy(), {}
        for name in self.variants:
            watch = self.clocks.own["encode", name]
            bits[name] = float(watch.call(self.codec.bits_of, levels, name).sum())
        return bits, x_hat

    def compress(self, x: Tensor) -> tuple[dict[str, bytes], Tensor]:
        codes, x_hat = self._networks(x)
        payloads = {}
        for name in self.variants:
            watch = self.clocks.own["encode", name]
            payloads[name] = watch.call(self.codec.payload_of, codes, *x.shape[-2:], name)
        return payloads, x_hat

    def decompress(self, payloads: dict[str, bytes]) -> Tensor:
        codes = size = None
        for name, payload in payloads.items():
            before = codes
            codes, size = self.clocks.own["decode", name].call(self.codec.codes_from, payload)
            if before is not None and not torch.equal(codes, before):
                raise BitstreamError(f"rate model {name}: the decoder's codes differ from the "
                                     "other models'")
        return self.clocks.shared["decode"].call(self.codec.frames_of, codes, *size)

    def _networks(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Codes and reconstruction."""
        codes = self.clocks.shared["encode"].call(self.codec.codes_of, x)
        self.count.add(codes.cpu().numpy())
        return codes, self.clocks.shared["encode"].call(self.codec.frames_of, codes, *x.shape[-2:])


def _with_variants(codec: FrameCodec, measured: MeasuredCodec) -> WholeCodec | RateModels:
    if not isinstance(codec, CodesWithRateModels):
        return WholeCodec(codec)
    names = measured.rate_models or tuple(codec.rate_models)
    missing = next((name for name in names if name not in codec.rate_models), None)
    if missing:
        raise InputError(f"--i_frame: {measured.intra.vqgan_checkpoint} holds no rate model "
                         f"'{missing}', found {', '.join(codec.rate_models)}; make one with dcvc "
                         "train-prior")
    return RateModels(codec, names)


@torch.no_grad()
def measure_intra(codec: FrameCodec, sequence: EvalSequence, measured: MeasuredCodec,
                  frame_done: FrameDone) -> dict[str, dict]:
    """{variant: entry}; bits are the payloads' bytes, or the estimate."""
    coder = _with_variants(codec, measured)
    recorders = {name: measured.recorder(sequence, name) for name in coder.variants}
    decodes = measured.decode and not measured.estimate
    device = next(codec.parameters()).device
    for number, frame in enumerate(sequence.source_frames()):
        x = from_levels(frame.rgb[None].to(device))
        if measured.estimate:
            bits, x_hat = coder.estimate(x)
        else:
            payloads, x_hat = coder.compress(x)
            bits = {name: 8.0 * len(payload) for name, payload in payloads.items()}
            if decodes and not torch.equal(coder.decompress(payloads), x_hat):
                raise BitstreamError(f"{measured.name} on {sequence.name}, frame {number}: the "
                                     "decoder's frame differs from the encoder's")
        picture, quality = to_levels(x_hat[0]).cpu(), None
        for name, recorder in recorders.items():
            # The variants show the same picture: it is measured once.
            quality = recorder.add("I", bits[name], frame.rgb, picture, {"i": bits[name]}, quality,
                                   source=frame.planes)
        frame_done()
    entries = {}
    for name, recorder in recorders.items():
        size = {} if measured.estimate else {"file_bytes": round(recorder.bits / 8)}
        entries[name] = recorder.result(
            encode_seconds=coder.clocks.seconds("encode", name),
            decode_seconds=coder.clocks.seconds("decode", name) if decodes else None,
            bits_per_frame=recorder.bits / sequence.frames, **coder.count.result(), **size)
    return entries
