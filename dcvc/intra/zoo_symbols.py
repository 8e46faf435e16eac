"""How the latents of CompressAI's models are written and read: what decides symbols is integers alone.

    factorized     y by a table for each channel
    hyperprior     z by a table for each channel -> hyper synthesis -> scales (and means) of y
    with context   the same, and what is known of y already joins in, diagonal by diagonal

CompressAI computes scales in floats and cumulative tables in float32: with other instructions some
scale falls on the other side of an edge, or some table differs in one step, and what follows is noise.
Here the hyper synthesis runs by entropy/exact_convolution.py, the context model by entropy/wavefront.py,
and the tables are those of entropy/tables.py, made in float64. So every machine reads the same symbols,
and y_hat = symbol + mean is the same float on all of them; what synthesis shows of it is not.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from dcvc.device import holds_float64
from dcvc.entropy.coder import SymbolDecoder, SymbolEncoder, TableSet
from dcvc.entropy.exact_convolution import ExactConvolutions
from dcvc.entropy.factorized import Bottleneck
from dcvc.entropy.fixed_point import UNIT, check_weights, to_grid
from dcvc.entropy.scales import scale_levels
from dcvc.entropy.tables import conditional_tables, factorized_tables, tables_crc
from dcvc.entropy.wavefront import ContextModel
from dcvc.layers import MadeOfWeights

# The integer tables that CompressAI makes of a model, and what it makes them for.
TABLE_ENTRIES = ("_offset", "_quantized_cdf", "_cdf_length", "scale_table", "target")
# CompressAI's scales are 64 from 0.11 to 256, as those of our Gaussian.
DISTRIBUTION, ORDER = "gaussian", "scale_mean"


def without_tables(entries: dict[str, Tensor]) -> dict[str, Tensor]:
    """Entries of a zoo model without its integer tables, which other instructions make in other ways."""
    return {name: value for name, value in entries.items() if name.rpartition(".")[2] not in TABLE_ENTRIES}


def has_exact_symbols(model: nn.Module) -> bool:
    """Whether the model is one whose symbols can be coded here: the models of many rates ("vbr"), which
    multiply latents with gains, are not."""
    return not hasattr(model, "Gain")


def _bottleneck(model: nn.Module) -> Bottleneck:
    """CompressAI's model of z as ours, in float64."""
    found = Bottleneck(model.channels)
    entries = {f"{ours}{i}": value.detach().cpu()
               for ours, values in (("_matrix", model.matrices), ("_bias", model.biases), ("_factor", model.factors))
               for i, value in enumerate(values)}
    found.load_state_dict(entries | {"quantiles": model.quantiles.detach().cpu()})
    # float32 functions differ in their last bits between instruction sets, which 24 bits would show.
    return found.double()


@dataclass(frozen=True)
class _Parts:
    """What is made of a model's weights once. tables: of z, or of y where there is no z."""

    tables: TableSet
    medians: Tensor
    synthesis: ExactConvolutions | None
    context: ContextModel | None


class ZooSymbols:
    """Latents of a zoo model to bytes and back, one frame at a time.

    Raises InputError naming the layer whose weights are too large for exact arithmetic."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._made: MadeOfWeights[_Parts] = MadeOfWeights()

    def encode(self, x: Tensor) -> tuple[bytes, Tensor, tuple[int, int]]:
        """x (1, 3, H, W), padded -> the symbols, y_hat (1, C, H / 16, W / 16) and the shape that
        `decode` needs: of z, or of y where there is no z."""
        parts, encoder = self.parts, SymbolEncoder()
        y = self.model.g_a(x)
        if parts.synthesis is None:
            y_hat = self._push_by_channel(encoder, y)
            return encoder.to_bytes(), y_hat, tuple(y.shape[2:])
        # What has no means looks at magnitudes.
        z = self.model.h_a(y if self._has_means else y.abs())
        z_hat = self._push_by_channel(encoder, z)
        y, prior = y.detach()[0], self._prior(z_hat)
        tables = conditional_tables(DISTRIBUTION)
        if parts.context is not None:
            coded = parts.context.quantise(y, prior / UNIT)
            levels = scale_levels(DISTRIBUTION, coded.scales.cpu().numpy())
            encoder.push(coded.symbols.cpu().numpy(), tables, levels, coded.batches)
            return encoder.to_bytes(), self._shown(coded.y_hat), tuple(z.shape[2:])
        scale, mean = self._divided(prior)
        # y in units too: then y - mean is exact, and a tie is a tie on every machine.
        symbols = y.to(mean.device).double().mul_(UNIT).sub_(mean).mul_(1 / UNIT).round_()
        encoder.push(symbols.cpu().numpy(), tables, scale_levels(DISTRIBUTION, scale.cpu().numpy()))
        y_hat = self._shown(symbols.mul(UNIT).add_(mean).mul_(1 / UNIT).float())
        return encoder.to_bytes(), y_hat, tuple(z.shape[2:])

    def decode(self, payload: bytes, shape: tuple[int, int]) -> Tensor:
        """The symbols -> y_hat, what `encode` had to the last bit. Raises BitstreamError for symbols of
        another size."""
        parts, decoder = self.parts, SymbolDecoder(payload)
        found = self._pop_by_channel(decoder, shape)
        if parts.synthesis is not None:
            found = self._pop_y(decoder, self._prior(found))
        decoder.finish()
        return found

    def _pop_y(self, decoder: SymbolDecoder, prior: Tensor) -> Tensor:
        tables, context = conditional_tables(DISTRIBUTION), self.parts.context

        def symbols_of(_: slice, mean: Tensor, scale: Tensor) -> Tensor:
            levels = scale_levels(DISTRIBUTION, scale.cpu().numpy())
            return torch.from_numpy(decoder.pop(tables, levels)).to(mean.device)

        if context is not None:
            return self._shown(context.run(prior / UNIT, symbols_of).y_hat)
        scale, mean = self._divided(prior)
        symbols = symbols_of(slice(None), mean, scale).double()
        return self._shown(symbols.mul_(UNIT).add_(mean).mul_(1 / UNIT).float())

    @property
    def tables_crc(self) -> int:
        """CRC-32 of all integer tables."""
        return tables_crc(self.parts.tables, conditional_tables(DISTRIBUTION))

    @property
    def parts(self) -> _Parts:
        return self._made.get(self._weights, self._make)

    @property
    def _has_means(self) -> bool:
        # Of the layers at the end one is a convolution, without means a ReLU follows.
        return isinstance(self.model.h_s[-1], nn.Conv2d)

    def _weights(self) -> Iterator[Tensor]:
        for name in ("entropy_bottleneck", "h_s", "context_prediction", "entropy_parameters"):
            if hasattr(self.model, name):
                yield from getattr(self.model, name).parameters()

    def _make(self) -> _Parts:
        model, bottleneck = self.model, _bottleneck(self.model.entropy_bottleneck)
        medians = bottleneck.medians.float().to(model.entropy_bottleneck.quantiles.device)
        synthesis = context = None
        if hasattr(model, "h_s"):
            synthesis = ExactConvolutions("h_s", self._on_a_float64_device(model.h_s))
        if hasattr(model, "context_prediction"):
            layers = [("context_prediction", model.context_prediction),
                      *((f"entropy_parameters.{i}", model.entropy_parameters[i]) for i in (0, 2, 4))]
            for name, layer in layers:
                check_weights(name, layer.weight, layer.bias)
            context = ContextModel(model.context_prediction, model.entropy_parameters, DISTRIBUTION, ORDER)
        return _Parts(factorized_tables(bottleneck), medians, synthesis, context)

    @staticmethod
    def _on_a_float64_device(network: nn.Sequential) -> nn.Sequential:
        if holds_float64(next(network.parameters()).device.type):
            return network
        return copy.deepcopy(network).cpu()

    def _prior(self, z_hat: Tensor) -> Tensor:
        """z_hat (1, C, h, w) -> what the hyper synthesis gives, float64 integers in units of 2^-18."""
        synthesis, device = self.parts.synthesis, z_hat.device
        return synthesis(to_grid(z_hat[0] if holds_float64(device.type) else z_hat[0].cpu()))

    def _divided(self, prior: Tensor) -> tuple[Tensor, Tensor]:
        """-> scales and means."""
        if self._has_means:
            return tuple(part.contiguous() for part in prior.chunk(2))
        return prior, torch.zeros_like(prior)

    def _shown(self, y_hat: Tensor) -> Tensor:
        return y_hat[None].to(next(self.model.parameters()).device)

    def _push_by_channel(self, encoder: SymbolEncoder, x: Tensor) -> Tensor:
        parts = self.parts
        symbols = torch.round(x.detach() - parts.medians)
        encoder.push(symbols[0].cpu().numpy(), parts.tables, _channels(x.shape[1:]))
        return symbols + parts.medians

    def _pop_by_channel(self, decoder: SymbolDecoder, shape: tuple[int, int]) -> Tensor:
        parts = self.parts
        symbols = decoder.pop(parts.tables, _channels((len(parts.tables), *shape)))
        return torch.from_numpy(symbols)[None].to(parts.medians.device, torch.float32) + parts.medians


def _channels(shape: tuple[int, ...]) -> np.ndarray:
    """The channel number, which is the table's number, of every place of (C, h, w)."""
    return np.broadcast_to(np.arange(shape[0])[:, None, None], shape)
