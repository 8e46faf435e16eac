"""`dcvc eval --intra_only`: every frame an I-frame by itself; a VQGAN with each of its rate models, side by side."""

import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dcvc.data.eval_sequences import EvalSequence
from dcvc.errors import BitstreamError, InputError
from dcvc.interfaces import to_levels
from dcvc.intra import VQGANIFrameModel

if TYPE_CHECKING:
    from dcvc.evaluation.job import EvalJob, Step


class Whole:
    """Any FrameCodec: one variant without a name."""

    variants = ("",)

    def __init__(self, codec: nn.Module) -> None:
        self.codec = codec

    def estimate(self, x: Tensor) -> tuple[dict[str, float], Tensor]:
        output = self.codec(x)
        return {"": float(sum(output.bits.values()))}, output.x_hat

    def compress(self, x: Tensor) -> tuple[dict[str, tuple[bytes, float]], Tensor]:
        """{variant: (payload, seconds)} and the reconstruction."""
        began = time.perf_counter()
        payload, x_hat = self.codec.compress(x)
        return {"": (payload, time.perf_counter() - began)}, x_hat

    def decompress(self, payloads: dict[str, bytes]) -> tuple[dict[str, float], Tensor]:
        """{variant: seconds} and the reconstruction, which all variants share."""
        began = time.perf_counter()
        x_hat = self.codec.decompress(payloads[""])
        return {"": time.perf_counter() - began}, x_hat


class RateModels:
    """A VQGAN with several rate models: the networks run once a frame, the codes are written once by each model."""

    def __init__(self, codec: VQGANIFrameModel, variants: tuple[str, ...]) -> None:
        self.codec, self.variants = codec, variants

    def estimate(self, x: Tensor) -> tuple[dict[str, float], Tensor]:
        codes = self.codec.codes_of(x)
        return ({name: float(self.codec.bits_of(codes.cpu().numpy(), name).sum()) for name in self.variants},
                self.codec.frames_of(codes, *x.shape[-2:]))

    def compress(self, x: Tensor) -> tuple[dict[str, tuple[bytes, float]], Tensor]:
        began = time.perf_counter()
        codes = self.codec.codes_of(x)
        x_hat = self.codec.frames_of(codes, *x.shape[-2:])
        networks, written = time.perf_counter() - began, {}
        for name in self.variants:
            began = time.perf_counter()
            payload = self.codec.payload_of(codes, *x.shape[-2:], name)
            written[name] = (payload, networks + time.perf_counter() - began)
        return written, x_hat

    def decompress(self, payloads: dict[str, bytes]) -> tuple[dict[str, float], Tensor]:
        seconds, codes, size = {}, None, None
        for name, payload in payloads.items():
            began = time.perf_counter()
            found, size = self.codec.codes_from(payload)
            seconds[name] = time.perf_counter() - began
            if codes is not None and not torch.equal(found, codes):
                raise BitstreamError(f"rate model {name}: the decoder's codes differ from the other models'")
            codes = found
        began = time.perf_counter()
        x_hat = self.codec.frames_of(codes, *size)
        network = time.perf_counter() - began
        return {name: value + network for name, value in seconds.items()}, x_hat


def _opened(codec: nn.Module, job: "EvalJob") -> Whole | RateModels:
    if not isinstance(codec, VQGANIFrameModel):
        return Whole(codec)
    names = job.rate_models or tuple(codec.rate_models)
    missing = next((name for name in names if name not in codec.rate_models), None)
    if missing:
        raise InputError(f"--i_frame: {job.intra.vqgan_checkpoint} holds no rate model '{missing}', found "
                         f"{', '.join(codec.rate_models)}; make one with dcvc train-prior")
    return RateModels(codec, names)


@torch.no_grad()
def evaluate_intra(codec: nn.Module, sequence: EvalSequence, job: "EvalJob", step: "Step") -> dict[str, dict]:
    """{variant: entry}; bits are the payloads' bytes, or the estimate."""
    opened = _opened(codec, job)
    recorders = {name: job.recorder(sequence, name) for name in opened.variants}
    totals = {name: {"bits": 0.0, "encode": 0.0, "decode": 0.0} for name in opened.variants}
    device = next(codec.parameters()).device
    for number, frame in enumerate(sequence.stream()):
        x, measured = frame[None].to(device).float() / 255, None
        if job.estimate:
            began = time.perf_counter()
            bits, x_hat = opened.estimate(x)
            spent, taken = dict.fromkeys(bits, time.perf_counter() - began), {}
        else:
            written, x_hat = opened.compress(x)
            bits = {name: 8.0 * len(payload) for name, (payload, _) in written.items()}
            spent = {name: seconds for name, (_, seconds) in written.items()}
            taken = {}
            if job.decode:
                taken, decoded = opened.decompress({name: payload for name, (payload, _) in written.items()})
                if not torch.equal(decoded, x_hat):
                    raise BitstreamError(f"{job.label} {job.setting} on {sequence.name}, frame {number}: the decoder's "
                                         "frame differs from the encoder's")
        shown = to_levels(x_hat[0]).cpu()
        for name, recorder in recorders.items():
            measured = recorder.add("I", bits[name], frame, shown, {"i": bits[name]}, measured)
            totals[name]["bits"] += bits[name]
            totals[name]["encode"] += spent[name]
            totals[name]["decode"] += taken.get(name, 0.0)
        step()
    decoded = job.decode and not job.estimate
    return {name: recorders[name].result(
        total["bits"], encode_seconds=total["encode"], decode_seconds=total["decode"] if decoded else None,
        **({} if job.estimate else {"file_bytes": round(total["bits"] / 8)})) for name, total in totals.items()}
