"""P-frames to bytes and back: the latents of the codec's own flow, written to a payload or read.

    payload of one frame, one ANS stream without borders:    mv_z | mv_y | z | y

The order is that in which a decoder needs them: z gives the prior of y, motion the context of both.

    encoder   z -> round -> push with the channel's table            -> z_hat -> prior
              y -> quantise, diagonal by diagonal -> push with the scale's table -> y_hat
    decoder   pop with the channel's table                           -> z_hat -> prior
              for each diagonal: mean, scale -> pop with the scale's table -> + mean -> y_hat
"""

import numpy as np
import torch
from torch import Tensor, nn

from dcvc.entropy.coder import SymbolDecoder, SymbolEncoder
from dcvc.entropy.scales import scale_levels
from dcvc.entropy.tables import conditional_tables, factorized_tables, tables_crc
from dcvc.entropy.wavefront import CodedLatent, ContextModel
from dcvc.inter.dcvc2021.config import DCVCConfig
from dcvc.inter.dcvc2021.latents import StreamLatents, require_finite


class LatentCoder:
    """Integer tables and fixed-point context models of one model's weights, for all its frames.

    factorized: name of a hyper latent -> its factorised model. contexts: name of a latent ->
    (masked convolution, parameter network).
    """

    def __init__(self, config: DCVCConfig, factorized: dict[str, nn.Module],
                 contexts: dict[str, tuple[nn.Module, nn.Module]]) -> None:
        self.config = config
        self.tables = {name: factorized_tables(model) for name, model in factorized.items()}
        conditional = conditional_tables(config.distribution)
        # The order of the sets is a part of the stream format.
        self.tables_crc = tables_crc(*self.tables.values(), conditional)
        self.tables.update(dict.fromkeys(contexts, conditional))
        self.contexts = {
            name: ContextModel(*networks, config.distribution, config.parameter_order)
            for name, networks in contexts.items()}


class EncoderLatents(StreamLatents):
    """StreamLatents whose symbols are written, of one frame."""

    def __init__(self, coder: LatentCoder) -> None:
        super().__init__(coder.config)
        self.coder, self.encoder = coder, SymbolEncoder()

    def factorized(self, name: str, model: nn.Module, z: Tensor, shape: tuple[int, ...]) -> Tensor:
        # A payload holds one frame, the only one of the batch.
        z_hat = super().factorized(name, model, z, shape)
        symbols = self.symbols[name][0].cpu().numpy()
        self.encoder.push(symbols, self.coder.tables[name], _channels(shape))
        return z_hat

    def context_model(self, name: str, context: nn.Module, network: nn.Module) -> ContextModel:
        return self.coder.contexts[name]

    def write(self, name: str, coded: list[tuple[CodedLatent, np.ndarray]]) -> None:
        ((latent, levels),) = coded
        # A decoder pops a diagonal at a time, because its means depend on the diagonals before.
        self.encoder.push(
            latent.symbols.cpu().numpy(), self.coder.tables[name], levels, latent.batches)


class DecoderLatents:
    """Latents read from a payload.

    bits, where given, receives what the symbols cost by the integer tables: the payload has no
    borders between latents, but its length is their sum and the rest of a word.
    """

    def __init__(self, coder: LatentCoder, payload: bytes,
                 bits: dict[str, float] | None = None) -> None:
        self.coder, self.decoder, self.bits = coder, SymbolDecoder(payload), bits

    def factorized(self, name: str, model: nn.Module, z: None, shape: tuple[int, ...]) -> Tensor:
        symbols = torch.from_numpy(self._pop(name, _channels(shape)))[None]
        return symbols.to(model.medians.device, torch.float32) + model.medians

    def conditional(self, name: str, context: nn.Module, network: nn.Module, y: None,
                    prior: Tensor) -> Tensor:
        # A damaged z may send the networks anywhere; on the grid NaN would become some number.
        require_finite(f"prior of {name}", prior)
        model = self.coder.contexts[name]

        def symbols_of(_: slice, mean: Tensor, scale: Tensor) -> Tensor:
            levels = scale_levels(model.distribution, scale.cpu().numpy())
            return torch.from_numpy(self._pop(name, levels)).to(mean.device)

        return model.run(prior[0], symbols_of).y_hat[None].to(prior.device)

    def _pop(self, name: str, index: np.ndarray) -> np.ndarray:
        tables = self.coder.tables[name]
        # Costs are counted only where somebody asks for them (`dcvc info`).
        symbols = self.decoder.pop(tables, index)
        if self.bits is not None:
            self.bits[name] = self.bits.get(name, 0.0) + tables.bits(symbols, index)
        return symbols


def _channels(shape: tuple[int, ...]) -> np.ndarray:
    """The channel number, which is the table's number, of every place of (1, C, h, w)."""
    return np.broadcast_to(np.arange(shape[1])[:, None, None], shape[1:])
