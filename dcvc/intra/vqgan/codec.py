"""The VQGAN as an I-frame codec: any frame size, codes and their bits, a real stream.

    compress      x -> padded to a multiple of f -> `codes_of` -> `payload_of` -> bytes
    decompress    bytes -> `codes_from` -> `frames_of`, cropped -> x_hat

Codes that have digits are split into symbols before a rate model codes them, and joined behind it.

x_hat of `compress` comes from `frames_of` as well, so both ways give the same picture bit for bit.
The four steps are public for those who compare rate models on the same codes.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dcvc.errors import BitstreamError, InputError
from dcvc.interfaces import FrozenCodec, IntraOutput, Quality, check_frames, check_quality
from dcvc.intra.vqgan.config import NAME, STREAM_ID, VQGANConfig, config_to_values
from dcvc.intra.vqgan.loading import config_and_file, load_vqgan
from dcvc.intra.vqgan.model import VQGAN
from dcvc.intra.vqgan.multiscale import MultiScaleQuantizer
from dcvc.intra.vqgan.rate import RateModel, UniformRate, read_codes, write_codes
from dcvc.intra.vqgan.rate_file import rate_models_from_file
from dcvc.intra.vqgan.stream import LARGEST_SIDE, Payload, read_payload, write_payload
from dcvc.intra.vqgan.symbols import Symbols, sizes_of
from dcvc.intra.vqgan.tiles import decode_tiled, encode_tiled, tile_size
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

    vq_config_path: JSON or YAML file, or a word of dcvc.intra.vqgan.config.PUBLISHED or TOLD; None:
    that beside the weights, or what they tell. vq_checkpoint_path: the weights, a file or a folder.
    rate_model: "auto" takes the best one that the checkpoint holds (prior, static,
    uniform); a name insists on that one. weights: "raw" or "ema", of a file that holds both. tile:
    pixels a side of the tiles that frames are coded in (dcvc.intra.vqgan.tiles), None: whole. Raises
    MissingError, ReadError, InputError with one line that names the file and what does not fit.
    """

    name = NAME
    stream_id = STREAM_ID
    # All rate models code by integer tables, and the prior's are computed exactly (prior.py).
    symbols_exact = True

    def __init__(self, vq_config_path: str | Path | VQGANConfig | None,
                 vq_checkpoint_path: str | Path, device: str | torch.device = "cpu",
                 rate_model: RateChoice = "auto", weights: str | None = None,
                 tile: int | None = None) -> None:
        super().__init__()
        config, file = config_and_file(vq_config_path, vq_checkpoint_path, weights)
        self.model = load_vqgan(config, file)
        self.config, self.multiple = config, config.factor
        self.tile = tile_size(tile, config) if tile else 0
        self.levels, self.codes = config.levels, config.n_embed
        self.symbols = Symbols(self.levels, sizes_of(config))
        self.model_id = model_fingerprint(self.model)
        # From the simplest to the best; "auto" takes the last.
        self.rate_models: dict[str, RateModel] = {"uniform": UniformRate(self.symbols.sizes)}
        self.rate_models |= rate_models_from_file(file.content, len(self.symbols.sizes),
                                                  self.symbols.sizes, file.where)
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
            if self._tiled(padded.shape[-2:], self.tile):
                return encode_tiled(self.model, padded * 2 - 1, self.tile)
            return self.model.encode(padded * 2 - 1)

    def _tiled(self, sides: Sequence[int], tile: int) -> bool:
        """Whether a frame of these sides has more than one tile; else it is coded as a whole."""
        return bool(tile) and max(sides) > tile * self.multiple

    @torch.inference_mode()
    def _frames(self, codes: Tensor, height: int, width: int, tile: int) -> Tensor:
        grid = self._grid(height, width)
        with torch.autocast(codes.device.type, enabled=False):
            if self._tiled((height, width), tile):
                x_hat = decode_tiled(self.model, codes, grid, tile)
            else:
                x_hat = self.model.decode(codes, grid)
        # In place: at full size every copy counts.
        return crop(x_hat, height, width).add_(1).mul_(0.5).clamp_(0, 1)

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of the latent of a frame, padded up to the next multiple of f."""
        return -(-height // self.multiple), -(-width // self.multiple)

    def _as_owner(self, codes: Tensor, grid: tuple[int, int]) -> Tensor | list[Tensor]:
        """Codes `(B, D, h, w)` as the tools of such models give them: see `encode_indices`."""
        if isinstance(self.model.quantize, MultiScaleQuantizer):
            return self.model.quantize.split(codes, grid)
        return codes[:, 0] if self.levels == 1 else codes

    def encode_indices(self, x: Tensor) -> Tensor | list[Tensor]:
        """x: float RGB `(B, 3, H, W)` in [0, 1] -> int64 `(B, h, w)`, with D > 1 `(B, D, h, w)`;
        of a VAR a list of `(B, h, w)`, a grid for each scale.

        The grid h, w is that of the frame padded to a multiple of f.
        """
        return self._as_owner(self.codes_of(x).clone(), self._grid(*x.shape[-2:]))

    def decode_indices(self, indices: Tensor | Sequence[Tensor]) -> Tensor:
        """Codes as `encode_indices` gives them -> `(B, 3, f·h, f·w)` in [0, 1].

        Raises InputError for another shape and for codes outside [0, K).
        """
        if isinstance(self.model.quantize, MultiScaleQuantizer):
            indices, grid = self._joined_scales(indices)
        else:
            needed = f"needed integers (B, {self.levels}, h, w)"
            if not isinstance(indices, Tensor):
                raise InputError(f"indices: found {type(indices).__name__}, {needed}")
            if indices.ndim == 3:
                indices = indices[:, None]
            if indices.ndim != 4 or indices.shape[1] != self.levels or indices.is_floating_point():
                raise InputError(f"indices: found {tuple(indices.shape)} {indices.dtype}, {needed}")
            if indices.numel() == 0:
                raise InputError(f"indices: found none, {needed}")
            grid = indices.shape[-2:]
        least, greatest = int(indices.min()), int(indices.max())
        if least < 0 or greatest >= self.codes:
            raise InputError(f"indices: found {least}..{greatest}, needed 0..{self.codes - 1} "
                             f"(K is {self.codes})")
        height, width = (side * self.multiple for side in grid)
        return self._frames(indices.to(self.device, torch.int64), height, width, self.tile).clone()

    def _joined_scales(self, indices: Sequence[Tensor]) -> tuple[Tensor, tuple[int, int]]:
        """A VAR's grids -> codes `(B, 1, 1, n)` and the size of the last grid."""
        scales = len(self.config.scales)
        found = [tuple(one.shape) for one in indices] if isinstance(indices, (list, tuple)) else []
        if len(found) != scales or any(len(shape) != 3 for shape in found):
            raise InputError(f"indices: found {found or type(indices).__name__}, needed a list of "
                             f"{scales} grids (B, h, w), one a scale")
        grid = found[-1][1:]
        needed = [(found[-1][0], *size) for size in self.model.quantize.grids(grid)]
        if found != needed or not all(found[-1]):
            raise InputError(f"indices: found grids {found}, needed {needed}")
        return torch.cat([one.flatten(1) for one in indices], dim=1)[:, None, None], grid

    def forward(self, x: Tensor, quality: Quality = None) -> IntraOutput:
        """x: float RGB `(B, 3, H, W)` in [0, 1] -> reconstruction, bits of the batch, codes.

        There is one likelihood per code; those of a VAR are `(B, n)`, scale by scale. The estimate
        is that of the codec's rate model, or of the uniform one where that is cheaper, as in
        `compress`.
        """
        check_quality("a VQGAN", self.rates, quality)
        codes = self.codes_of(x)
        bits = torch.from_numpy(self.bits_of(codes.cpu().numpy()))
        total = bits.sum().to(codes.device, torch.float32)
        # Float64, so that the likelihoods' own sum is exact too; MPS has float32 only.
        precision = torch.float32 if codes.device.type == "mps" else torch.float64
        likelihoods = torch.exp2(-bits).to(codes.device, precision)
        # Clones are ordinary tensors: what leaves here may enter a graph that is differentiated.
        x_hat, codes = self.frames_of(codes, *x.shape[-2:]), codes.clone()
        codes = self._as_owner(codes, self._grid(*x.shape[-2:]))
        if self.levels == 1:
            likelihoods = likelihoods[:, 0, 0] if isinstance(codes, list) else likelihoods[:, 0]
        return IntraOutput(x_hat, {"i": total}, likelihoods={"y": likelihoods}, indices=codes)

    def bits_of(self, codes: np.ndarray, rate_name: str | None = None) -> np.ndarray:
        """Bits of each code `(B, D, h, w)`, by the codec's rate model or the one named.

        As `payload_of` does, it takes the uniform model where that is cheaper.
        """
        models = [self.rate_models[name] for name in {"uniform", rate_name or self.rate_name}]
        symbols = self.symbols.split(codes)
        cheapest = min((np.stack([model.bits(frame) for frame in symbols]) for model in models),
                       key=np.sum)
        return self.symbols.per_code(cheapest)

    def compress(self, x: Tensor, quality: Quality = None) -> tuple[bytes, Tensor]:
        """Frames `(B, 3, H, W)` -> payload and the reconstruction that `decompress` gives."""
        check_quality("a VQGAN", self.rates, quality)
        codes = self.codes_of(x)
        return self.payload_of(codes, *x.shape[-2:]), self.frames_of(codes, *x.shape[-2:])

    def frames_of(self, codes: Tensor, height: int, width: int, tile: int | None = None) -> Tensor:
        """Codes `(B, D, h, w)` -> frames `(B, 3, height, width)` in [0, 1]. tile: side of the tiles
        in positions of the latent, 0: none; None: the codec's own."""
        return self._frames(codes, height, width, self.tile if tile is None else tile).clone()

    def payload_of(self, codes: Tensor, height: int, width: int,
                   rate_name: str | None = None) -> bytes:
        """Codes `(B, D, h, w)` of frames of that size -> payload.

        Written by the codec's rate model or the one named. Its codes are decoded again before they
        are handed out; where they are not the same, or cost more, the uniform model is written.
        """
        if max(height, width) > LARGEST_SIDE:
            raise InputError(f"frame: found {width}x{height}, needed sides of at most "
                             f"{LARGEST_SIDE}")
        indices = self.symbols.split(codes.cpu().numpy())
        rate_name = rate_name or self.rate_name
        # A prior trained on other pictures can cost more than knowing nothing.
        chosen, words = "uniform", write_codes(indices, self.rate_models["uniform"])
        if rate_name != "uniform":
            trial = write_codes(indices, self.rate_models[rate_name])
            if len(trial) < len(words) and self._reproduces(trial, indices, rate_name):
                chosen, words = rate_name, trial
        return write_payload(Payload(height=height, width=width, batch=len(indices),
                                     rate_model=chosen, fingerprint=self._fingerprint(chosen),
                                     words=words,
                                     tile=self.tile if self._tiled((height, width), self.tile)
                                     else 0))

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
        # As the encoder decoded it, whatever this codec's own tiles are.
        return self.frames_of(codes, *size, tile=read_payload(payload).tile)

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
        grid = self._grid(found.height, found.width)
        _, *positions = self.model.quantize.shape(grid)
        shape = (found.batch, len(self.symbols.sizes), *positions)
        # A short payload that claims a huge frame must not cost the memory of one.
        if (found.rate_model == "uniform"
                and self.rate_models["uniform"].total_bits(shape) > 32 * len(found.words)):
            raise BitstreamError(f"I-frame: {4 * len(found.words)} bytes found, too few for "
                                 f"{found.width}x{found.height}")
        symbols = read_codes(found.words, shape, self.rate_models[found.rate_model])
        # A table may have places that no code takes; only a stream made to mislead leads there.
        if symbols.min() < 0:
            raise BitstreamError("I-frame: its words hold a code that there is not; damaged")
        codes = torch.from_numpy(self.symbols.join(symbols))
        return codes.to(self.device), (found.height, found.width)
