"""P-frames to bytes and back: the codec's own recursion with latents that are written or read."""

import numpy as np
import torch
from torch import Tensor, nn

from dcvc.entropy.coder import SymbolDecoder, SymbolEncoder
from dcvc.entropy.tables import conditional_tables, factorized_tables, tables_crc
from dcvc.entropy.wavefront import Coded, ContextModel, scale_levels
from dcvc.errors import InputError
from dcvc.inter.dcvc2021.latents import StreamLatents, require_finite
from dcvc.inter.dcvc2021.model import DCVC, HYPER_STRIDE
from dcvc.layers import crop, pad_to_multiple


class PFrameCoder:
    """Compress and decompress P-frames with one model, whose tables and fixed-point context models are made once.

    References and frames are float RGB (1, 3, H, W) in [0, 1]; both sides must hold the same reference.
    """

    def __init__(self, model: DCVC) -> None:
        self.model = model.eval()
        config = model.config
        self.tables = {"mv_z": factorized_tables(model.bitEstimator_z_mv), "z": factorized_tables(model.bitEstimator_z)}
        self.tables["mv_y"] = self.tables["y"] = conditional_tables(config.distribution)
        self.tables_crc = tables_crc(self.tables["mv_z"], self.tables["z"], self.tables["y"])
        rest = (config.distribution, config.parameter_order)
        self.contexts = {"mv_y": ContextModel(model.auto_regressive_mv, model.entropy_parameters_mv, *rest),
                         "y": ContextModel(model.auto_regressive, model.entropy_parameters, *rest)}

    @torch.no_grad()
    def compress(self, reference: Tensor, current: Tensor) -> tuple[bytes, Tensor, dict[str, Tensor]]:
        """-> payload, x_hat (1, 3, H, W) in [0, 1] as `decompress` gives it, and bits per latent."""
        if reference.shape != current.shape or current.dim() != 4 or current.shape[:2] != (1, 3):
            raise InputError(f"frames: found reference {tuple(reference.shape)} and current {tuple(current.shape)}, "
                             "needed two of the same shape (1, 3, H, W)")
        if not (torch.isfinite(current).all() and torch.isfinite(reference).all()):
            raise InputError("frames: found a value that is not finite")
        latents = EncoderLatents(self)
        x_hat, _ = self.model.code(latents, pad_to_multiple(reference, HYPER_STRIDE),
                                   pad_to_multiple(current, HYPER_STRIDE))
        return latents.encoder.to_bytes(), crop(x_hat, *current.shape[-2:]).clamp(0, 1), latents.bits

    @torch.no_grad()
    def decompress(self, reference: Tensor, payload: bytes, bits: dict[str, float] | None = None) -> Tensor:
        """-> x_hat (1, 3, H, W) in [0, 1]; `bits`, where given, receives what each latent cost. Raises BitstreamError
        where the payload does not fit."""
        latents = DecoderLatents(self, payload, bits)
        x_hat, _ = self.model.code(latents, pad_to_multiple(reference, HYPER_STRIDE), None)
        latents.decoder.finish()
        return crop(x_hat, *reference.shape[-2:]).clamp(0, 1)


class EncoderLatents(StreamLatents):
    """StreamLatents whose symbols are written."""

    def __init__(self, coder: PFrameCoder) -> None:
        super().__init__(coder.model)
        self.coder, self.encoder = coder, SymbolEncoder()

    def factorized(self, name: str, model: nn.Module, z: Tensor, shape: tuple[int, ...]) -> Tensor:
        z_hat = super().factorized(name, model, z, shape)
        symbols = self.symbols[name][0].cpu().numpy()
        self.encoder.push(symbols, self.coder.tables[name], _channels(shape))
        return z_hat

    def context(self, name: str, context: nn.Module, network: nn.Module) -> ContextModel:
        return self.coder.contexts[name]

    def keep(self, name: str, coded: list[Coded], levels: list[np.ndarray]) -> None:
        (item,), (level,) = coded, levels
        self.encoder.push(item.symbols.cpu().numpy(), self.coder.tables[name], level, item.batches)


class DecoderLatents:
    """Latents read from a payload. bits, where given, receives what the symbols cost by the integer tables: an ANS
    payload has no borders between latents, but its length is their sum and the rest of a word."""

    def __init__(self, coder: PFrameCoder, payload: bytes, bits: dict[str, float] | None = None) -> None:
        self.coder, self.decoder, self.bits = coder, SymbolDecoder(payload), bits

    def factorized(self, name: str, model: nn.Module, z: None, shape: tuple[int, ...]) -> Tensor:
        symbols = self._pop(name, _channels(shape))
        return torch.from_numpy(symbols)[None].to(model.medians.device, torch.float32) + model.medians

    def conditional(self, name: str, context: nn.Module, network: nn.Module, y: None, prior: Tensor) -> Tensor:
        require_finite(f"prior of {name}", prior)
        wavefront = self.coder.contexts[name]

        def step(_: slice, mean: Tensor, scale: Tensor) -> Tensor:
            level = scale_levels(wavefront.distribution, scale.cpu().numpy())
            return torch.from_numpy(self._pop(name, level)).to(mean.device)

        return wavefront.run(prior[0], step).y_hat[None].to(prior.device)

    def _pop(self, name: str, index: np.ndarray) -> np.ndarray:
        tables = self.coder.tables[name]
        symbols = self.decoder.pop(tables, index)
        if self.bits is not None:
            self.bits[name] = self.bits.get(name, 0.0) + tables.bits(symbols, index)
        return symbols


def _channels(shape: tuple[int, ...]) -> np.ndarray:
    """The channel number of every place of (1, C, h, w)."""
    return np.broadcast_to(np.arange(shape[1])[:, None, None], shape[1:])
