"""The VQGAN as an I-frame codec: any frame size, codes and their bits, a real stream.

    compress      x -> padded to a multiple of f -> `codes_of` -> `payload_of` -> bytes
    decompress    bytes -> `codes_from` -> `frames_of`, cropped -> x_hat

x_hat of `compress` comes from `frames_of` as well, so both ways give the same picture bit for bit.
The four steps are public for those who compare rate models on the same codes.
"""

import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dcvc.errors import BitstreamError, InputError
from dcvc.interfaces import FrozenCodec, IntraOutput, Quality, check_frames, check_quality
from dcvc.intra.vqgan.config import NAME, STREAM_ID, VQGANConfig, config_to_values, read_config
from dcvc.intra.vqgan.loading import load_vqgan, read_vqgan_file
from dcvc.intra.vqgan.model import VQGAN
from dcvc.intra.vqgan.rate import RateModel, UniformRate, read_codes, write_codes
from dcvc.intra.vqgan.rate_file import rate_models_from_file
from dcvc.intra.vqgan.stream import LARGEST_SIDE, Payload, read_payload, write_payload
from dcvc.layers import crop, pad_to_multiple
from dcvc.weights import weights_checksum

RateChoice = Literal["auto", "uniform", "static", "prior"]


def model_fingerprint(model: VQGAN) -> int:
    """CRC-32 of the dimensions and every weight: what a stream must be decoded with."""
    # Two of the dimensions do not show in the weights: norm_groups and l2_norm.
    dimensions = repr(sorted(config_to_values(model.config)["model_args"].items()))
    return weights_checksum(model, zlib.crc32(dimensions.encode()))


class VQGANIFrameModel(FrozenCodec):
    """A VQGAN of any known layout as a frozen FrameCodec.

    vq_config_path: JSON or YAML file, or "llamagen-vq16"/"llamagen-vq8". vq_checkpoint_path: the
    weights. rate_model: "auto" takes the best one that the checkpoint holds (prior, static,
    uniform); a name insists on that one. weights: "raw" or "ema", of a file that holds both. Raises
    MissingError, ReadError, InputError with one line that names the file and what does not fit.
    """

    name = NAME
    stream_id = STREAM_ID

    def __init__(self, vq_config_path: str | Path | VQGANConfig, vq_checkpoint_path: str | Path,
                 device: str | torch.device = "cpu", rate_model: RateChoice = "auto",
                 weights: str | None = None) -> None:
        super().__init__()
        config = vq_config_path
        if not isinstance(config, VQGANConfig):
            config = read_config(config)
        file = read_vqgan_file(vq_checkpoint_path, weights)
        self.model = load_vqgan(config, file)
        self.config, self.multiple = config, config.factor
        tables = self.model.quantize.tables()
        self.levels, self.codes = tables.shape[:2]
        self.model_id = model_fingerprint(self.model)
        # From the simplest to the best; "auto" takes the last.
        self.rate_models: dict[str, RateModel] = {"uniform": UniformRate(self.codes)}
        self.rate_models |= rate_models_from_file(file.content, self.levels, self.codes, file.where)
        if rate_model != "auto" and rate_model not in self.rate_models:
            raise InputError(f"{file.where}: holds no rate model '{rate_model}', found "
                             f"{', '.join(self.rate_models)}; make one with dcvc train-prior")
        self.rate_name = list(self.rate_models)[-1] if rate_model == "auto" else rate_model
        self.freeze()
        self.to(device)
        if self.device.type in ("cpu", "cuda"):
            # Convolutions need not reorder each activation: less memory, and 1.5 to 2.5 times as
            # fast on a CPU.
            self.model.to(memory_format=torch.channels_last)

    @property
    def rate(self) -> RateModel:
        return self.rate_models[self.rate_name]

    @torch.inference_mode()
    def codes_of(self, x: Tensor) -> Tensor:
        """x: float RGB `(B, 3, H, W)` in [0, 1] -> codes `(B, D, h, w)`, an inference tensor."""
        check_frames(x, smallest=self.multiple)
        # A caller's autocast must not reach in here: in half precision other codes are nearest.
        with torch.autocast(x.device.type, enabled=False):
            padded = pad_to_multiple(x.to(self.device, torch.float32), self.multiple)
            return self.model.encode(padded * 2 - 1)

    @torch.inference_mode()
    def _frames(self, codes: Tensor, height: int, width: int) -> Tensor:
        with torch.autocast(codes.device.type, enabled=False):
            x_hat = self.model.decode(codes)
        # In place: at full size every copy counts.
        return crop(x_hat, height, width).add_(1).mul_(0.5).clamp_(0, 1)

    def encode_indices(self, x: Tensor) -> Tensor:
        """x: float RGB `(B, 3, H, W)` in [0, 1] -> int64 `(B, h, w)`, with D > 1 `(B, D, h, w)`.

        The grid h, w is that of the frame padded to a multiple of f.
        """
        codes = self.codes_of(x).clone()
        return codes[:, 0] if self.levels == 1 else codes

    def decode_indices(self, indices: Tensor) -> Tensor:
        """Codes as `encode_indices` gives them -> `(B, 3, f·h, f·w)` in [0, 1].

        Raises InputError for another shape and for codes outside [0, K).
        """
        needed = f"needed integers (B, {self.levels}, h, w)"
        if not isinstance(indices, Tensor):
            raise InputError(f"indices: found {type(indices).__name__}, {needed}")
        if indices.ndim == 3:
            indices = indices[:, None]
        if indices.ndim != 4 or indices.shape[1] != self.levels or indices.is_floating_point():
            raise InputError(f"indices: found {tuple(indices.shape)} {indices.dtype}, {needed}")
        if indices.numel() == 0:
            raise InputError(f"indices: found none, {needed}")
        least, greatest = int(indices.min()), int(indices.max())
        if least < 0 or greatest >= self.codes:
            raise InputError(f"indices: found {least}..{greatest}, needed 0..{self.codes - 1} "
                             f"(K is {self.codes})")
        height, width = (side * self.multiple for side in indices.shape[-2:])
        return self._frames(indices.to(self.device, torch.int64), height, width).clone()

    def forward(self, x: Tensor, quality: Quality = None) -> IntraOutput:
        """x: float RGB `(B, 3, H, W)` in [0, 1] -> reconstruction, bits of the batch, codes.

        There is one likelihood per code. The estimate is that of the codec's rate model, or of the
        uniform one where that is cheaper, as in `compress`.
        """
        check_quality("a VQGAN", self.rates, quality)
        codes = self.codes_of(x)
        bits = torch.from_numpy(self.bits_of(codes.cpu().numpy()))
        total = bits.sum().to(codes.device, torch.float32)
        # Float64, so that the likelihoods' own sum is exact too; MPS has float32 only.
        precision = torch.float32 if codes.device.type == "mps" else torch.float64
        likelihoods = torch.exp2(-bits).to(codes.device, precision)
        # Clones are ordinary tensors: what leaves here may enter a graph that is differentiated.
        x_hat, codes = self._frames(codes, *x.shape[-2:]).clone(), codes.clone()
        if self.levels == 1:
            likelihoods, codes = likelihoods[:, 0], codes[:, 0]
        return IntraOutput(x_hat, {"i": total}, likelihoods={"y": likelihoods}, indices=codes)

    def bits_of(self, codes: np.ndarray, rate_name: str | None = None) -> np.ndarray:
        """Bits of each code `(B, D, h, w)`, by the codec's rate model or the one named.

        As `payload_of` does, it takes the uniform model where that is cheaper.
        """
        models = [self.rate_models[name] for name in {"uniform", rate_name or self.rate_name}]
        return min((np.stack([model.bits(frame) for frame in codes]) for model in models),
                   key=np.sum)

    def compress(self, x: Tensor, quality: Quality = None) -> tuple[bytes, Tensor]:
        """Frames `(B, 3, H, W)` -> payload and the reconstruction that `decompress` gives."""
        check_quality("a VQGAN", self.rates, quality)
        codes = self.codes_of(x)
        return self.payload_of(codes, *x.shape[-2:]), self.frames_of(codes, *x.shape[-2:])

    def frames_of(self, codes: Tensor, height: int, width: int) -> Tensor:
        """Codes `(B, D, h, w)` -> frames `(B, 3, height, width)` in [0, 1]."""
        return self._frames(codes, height, width).clone()

    def payload_of(self, codes: Tensor, height: int, width: int,
                   rate_name: str | None = None) -> bytes:
        """Codes `(B, D, h, w)` of frames of that size -> payload.

        Written by the codec's rate model or the one named. Its codes are decoded again before they
        are handed out; where they are not the same, or cost more, the uniform model is written.
        """
        if max(height, width) > LARGEST_SIDE:
            raise InputError(f"frame: found {width}x{height}, needed sides of at most "
                             f"{LARGEST_SIDE}")
        indices, rate_name = codes.cpu().numpy(), rate_name or self.rate_name
        # A prior trained on other pictures can cost more than knowing nothing.
        chosen, words = "uniform", write_codes(indices, self.rate_models["uniform"])
        if rate_name != "uniform":
            trial = write_codes(indices, self.rate_models[rate_name])
            if len(trial) < len(words) and self._reproduces(trial, indices, rate_name):
                chosen, words = rate_name, trial
        return write_payload(Payload(height=height, width=width, batch=len(indices),
                                     rate_model=chosen, fingerprint=self._fingerprint(chosen),
                                     words=words))

    def _reproduces(self, words: np.ndarray, indices: np.ndarray, rate_name: str) -> bool:
        try:
            decoded = read_codes(words, indices.shape, self.rate_models[rate_name])
            return bool(np.array_equal(decoded, indices))
        except BitstreamError:
            # A decoder that went astray is left with words that no code took.
            return False

    def _fingerprint(self, rate_name: str) -> int:
        # Of all that the decoder must share: network, codebooks and tables.
        return self.model_id ^ self.rate_models[rate_name].fingerprint()

    def decompress(self, payload: bytes) -> Tensor:
        """Payload -> `(B, 3, H, W)` in [0, 1]. Raises BitstreamError on damage, another model."""
        codes, size = self.codes_from(payload)
        return self.frames_of(codes, *size)

    def codes_from(self, payload: bytes) -> tuple[Tensor, tuple[int, int]]:
        """Payload -> codes `(B, D, h, w)` and (height, width) of the frames.

        Raises BitstreamError.
        """
        found = read_payload(payload)
        if found.rate_model not in self.rate_models:
            raise BitstreamError(f"I-frame: written with rate model '{found.rate_model}', this "
                                 f"model holds {', '.join(self.rate_models)}; decode with the "
                                 "checkpoint it was encoded with")
        needed = self._fingerprint(found.rate_model)
        if found.fingerprint != needed:
            raise BitstreamError(f"I-frame: made with model {found.fingerprint:08x}, this one is "
                                 f"{needed:08x}; decode with the checkpoint it was encoded with")
        # The encoder padded up to the next multiple of f.
        h, w = (-(-side // self.multiple) for side in (found.height, found.width))
        shape = (found.batch, self.levels, h, w)
        # A short payload that claims a huge frame must not cost the memory of one.
        if found.rate_model == "uniform":
            least = np.prod(shape, dtype=float) * np.log2(self.codes)
            if least > 32 * len(found.words):
                raise BitstreamError(f"I-frame: {4 * len(found.words)} bytes found, too few for "
                                     f"{found.width}x{found.height}")
        codes = read_codes(found.words, shape, self.rate_models[found.rate_model])
        return torch.from_numpy(codes).to(self.device), (found.height, found.width)
