"""docs/bitstream.md once more, by hand: every symbol of the golden light stream, read with integers alone.

No float decides here which table a symbol has, but for powers and logarithms that are rounded at once. So any machine
reads these symbols, whatever its processor adds up in which order.
"""

import io
import math
from pathlib import Path

import numpy as np
from kit.golden_light import golden_codec
from stream_symbols import EDGES, PACE, SKIP, Reader, class_table

from dcvc.codec.stream_reader import StreamReader
from dcvc.entropy.stream_latents import DecoderLatents
from dcvc.layers import Chain, DepthConvBlock, Upsample

GOLDEN = Path(__file__).with_name("golden_light.dcvc").read_bytes()
LIMIT = 1 << 27
SIXTH = 10923           # in units of 2^-16


def rounded(x: np.ndarray, bits: int) -> np.ndarray:
    """x / 2^bits, half to even, limited; int64."""
    whole, rest, half = x >> bits, x & ((1 << bits) - 1), 1 << (bits - 1)
    return np.clip(whole + ((rest > half) | ((rest == half) & (whole % 2 == 1))), -LIMIT, LIMIT)


def grid(x: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(np.asarray(x, np.float64) * 2**18), -LIMIT, LIMIT).astype(np.int64)


def factor(x: np.ndarray) -> np.ndarray:
    return np.rint(np.asarray(x, np.float64) * 2**16) / 2**16


def convolution(layer, x: np.ndarray) -> np.ndarray:
    weight = layer.weight.detach().double().numpy()
    bits = 22 - math.ceil(math.log2(max(1.0, np.abs(weight).reshape(len(weight), -1).sum(1).max())))
    weight = np.rint(weight * 2.0**bits).astype(np.int64)
    bias = 0 if layer.bias is None else grid(layer.bias.detach().numpy())[:, None, None] << bits
    if layer.groups == 1:
        return rounded(np.einsum("oi,ihw->ohw", weight[:, :, 0, 0], x) + bias, bits)
    pad, (height, width) = layer.padding[0], x.shape[1:]
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    total = sum(weight[:, 0, i, j, None, None] * x[:, i:i + height, j:j + width]
                for i in range(2 * pad + 1) for j in range(2 * pad + 1))
    return rounded(total + bias, bits)


def activation(x: np.ndarray, fold: int = 1) -> np.ndarray:
    gate = rounded(x * SIXTH + (1 << 33), 16)
    product = x * np.clip(gate, 0, 1 << 18)
    return rounded(product.reshape(-1, fold, *x.shape[1:]).sum(1), 18)


def run(layer, x: np.ndarray) -> np.ndarray:
    if isinstance(layer, Chain):
        for inner in layer.conv:
            x = run(inner, x)
        return x
    if isinstance(layer, Upsample):
        x = convolution(layer.up.conv[0], x)
        channels, height, width = len(x) // 4, *x.shape[1:]
        x = x.reshape(channels, 2, 2, height, width).transpose(0, 3, 1, 4, 2).reshape(channels, 2 * height, 2 * width)
        return run(layer.conv, x)
    if not isinstance(layer, DepthConvBlock):
        return convolution(layer, x)
    x = x if layer.adaptor is None else convolution(layer.adaptor, x)
    inner = convolution(layer.dc[2], activation(convolution(layer.dc[0], x)))
    x = x + convolution(layer.dc[3], inner)
    return x + convolution(layer.ffn[2], activation(convolution(layer.ffn[0], x), 4))


def vector(table, quality: float) -> np.ndarray:
    table = table.detach().double().numpy()
    place = quality * ((len(table) - 1) / 63)
    row = min(int(place), len(table) - 1)
    high = table[min(row + 1, len(table) - 1)]
    return (table[row] * (high / table[row]) ** (place - row))[:, None, None]


def read_z(reader: Reader, model, quality: float, size: tuple[int, int]) -> np.ndarray:
    """z, (channels, H/64, W/64), by the tables of the quality's row."""
    tables = model.tables.z(int(quality * (model.config.z_rows - 1) / 63 + 0.5)).tables
    shape = (model.config.hyper_channels, *(-(side // -64) for side in size))
    numbers = np.repeat(np.arange(shape[0]), shape[1] * shape[2])
    return reader.batch(numbers, lambda number: (tables[number].first, tables[number].frequencies, True)).reshape(shape)


def read_y(reader: Reader, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symbols and classes of all places, skipped ones too."""
    classes = np.maximum(np.searchsorted(EDGES, scale, side="right") - 1, 0)
    symbols, coded = np.zeros(scale.shape, np.int64), scale > SKIP
    symbols[coded] = reader.batch(classes[coded], class_table)
    return symbols, classes


def symbols_by_hand(codec) -> list[np.ndarray]:
    """z and what is coded of y, of each frame, one behind the other."""
    found, trace, size = [], None, (-(34 // -16) * 16, -(51 // -16) * 16)
    height, width = size[0] // 16, size[1] // 16
    for record in StreamReader(io.BytesIO(GOLDEN)):
        intra, quality = record.name == "I", record.head.quality
        model = codec.intra if intra else codec.p_frame
        n, start = model.config.latent_channels, len(record.head.to_bytes())
        reader = Reader(record.payload[start + (8 if intra else 0):])
        z = read_z(reader, model, quality, size)
        unit = vector(model.q_prior, quality)
        hyper = run(model.hyper_dec if intra else model.hyper_decoder,
                    grid(z * factor(1 / vector(model.q_hyper, quality))))
        if intra:
            scale = run(model.y_prior_fusion, hyper)[:n, :height, :width]
        else:
            hyper = hyper[:, :height, :width]
            scale = hyper + run(model.scale_prior, np.concatenate((hyper, grid(trace))))
        scale = (scale * factor(unit) / 2**18).astype(np.float32)
        y, classes = read_y(reader, scale)
        assert (reader.state, reader.words) == (0, []), "symbols are left over"
        found += [z.ravel(), y[scale > SKIP]]
        trace = np.concatenate((np.minimum(np.abs(y), 15) / 4, factor((classes - factor(np.log(unit) / PACE)) / 16)))
        # Nothing is known of the frame before an I-frame or a refresh.
        trace *= not (intra or record.head.refresh)
    return found


def test_a_decoder_of_another_hand_reads_every_symbol(monkeypatch):
    seen, codec, pop = [], golden_codec(), DecoderLatents._pop

    def recorded(self, name, tables, index):
        seen.append(pop(self, name, tables, index))
        return seen[-1]

    monkeypatch.setattr(DecoderLatents, "_pop", recorded)
    assert len(list(codec.decode(StreamReader(io.BytesIO(GOLDEN))))) == 6
    by_hand = symbols_by_hand(codec)
    assert len(seen) == len(by_hand) == 12
    assert all(np.array_equal(ours.ravel(), theirs) for ours, theirs in zip(seen, by_hand, strict=True))
    assert sum(np.abs(symbols).sum() for symbols in by_hand) > 1000
