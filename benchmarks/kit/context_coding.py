"""Speed of context coding: the wavefront against raster order, for the latents of one frame, in one run."""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dcvc.entropy.coder import SymbolDecoder, SymbolEncoder
from dcvc.entropy.fixed_point import LIMIT, UNIT, to_grid
from dcvc.entropy.scales import scale_levels
from dcvc.entropy.tables import conditional_tables
from dcvc.entropy.wavefront import ContextModel, coding_order
from dcvc.inter import DCVC
from dcvc.inter.dcvc2021.config import DCVCConfig


class _Latent:
    """Random latent and prior of one frame with the networks that code it."""

    def __init__(self, model: DCVC, name: str, height: int, width: int) -> None:
        motion = name == "mv_y"
        self.context = model.auto_regressive_mv if motion else model.auto_regressive
        self.network = model.entropy_parameters_mv if motion else model.entropy_parameters
        self.distribution = model.config.distribution
        self.tables = conditional_tables(self.distribution)
        self.model = ContextModel(self.context, self.network, self.distribution, model.config.parameter_order)
        channels = self.context.in_channels
        self.y = 1.5 * torch.randn(channels, height // 16, width // 16)
        self.prior = torch.randn(2 * channels, height // 16, width // 16)
        self.payload = self.payload_in_raster_order = b""
        self.symbols: Tensor | None = None

    def levels(self, scales: Tensor) -> np.ndarray:
        return scale_levels(self.distribution, scales.numpy())

    def encode(self) -> None:
        encoder, coded = SymbolEncoder(), self.model.quantise(self.y, self.prior)
        encoder.push(coded.symbols.numpy(), self.tables, self.levels(coded.scales), coded.batches)
        self.payload, self.symbols = encoder.to_bytes(), coded.spatial(coded.symbols)

    def decode(self) -> Tensor:
        decoder = SymbolDecoder(self.payload)
        coded = self.model.run(self.prior, lambda _, mean, scale: torch.from_numpy(
            decoder.pop(self.tables, self.levels(scale))))
        decoder.finish()
        return coded.spatial(coded.symbols)

    def raster(self) -> Tensor:
        """Position after position with the float32 networks, as the published code does; no entropy coding."""
        channels, height, width = self.y.shape
        weight = self.context.weight * self.context.mask
        known = torch.zeros(1, channels, height + 4, width + 4)
        symbols = torch.zeros(channels, height, width)
        for row in range(height):
            for column in range(width):
                predicted = F.conv2d(known[:, :, row: row + 5, column: column + 5], weight, self.context.bias)
                prior = self.prior[None, :, row: row + 1, column: column + 1]
                mean = self.network(torch.cat((prior, predicted), dim=1))[0, :channels, 0, 0]
                symbols[:, row, column] = torch.round(self.y[:, row, column] - mean)
                known[0, :, row + 2, column + 2] = symbols[:, row, column] + mean
        return symbols

    def raster_coder(self, payload: bytes | None = None) -> tuple[Tensor, bytes]:
        """The raster-order coder whole: position after position through the stream's own fixed-point layers, each
        position's symbols written (or, given a payload, read). -> symbols (C, H, W), payload."""
        channels, height, width = self.y.shape
        y, symbols = self.y.double().mul(UNIT), torch.empty(self.y.shape, dtype=torch.float64)
        base = self.model.from_prior(to_grid(self.prior.flatten(1).t())).reshape(height, width, 1, -1)
        known, buffers = torch.zeros(height + 2, width + 4, channels, dtype=torch.float64), self.model.buffers(1)
        encoder, decoder = SymbolEncoder(), SymbolDecoder(payload or b"")
        for row in range(height):
            for column in range(width):
                taps = [known[row + down, column: column + count].reshape(1, -1) for down, count in
                        ((0, 5), (1, 5), (2, 2))]
                mean, scale = self.model.parameters(taps, base[row, column], buffers)
                level = self.levels(scale)
                if payload is None:
                    symbol = y[:, row, column].sub(mean[0]).mul_(1 / UNIT).round_()
                    encoder.push(symbol.numpy(), self.tables, level)
                else:
                    symbol = torch.from_numpy(decoder.pop(self.tables, level)[0]).double()
                symbols[:, row, column] = symbol
                known[row + 2, column + 2] = (mean[0] + symbol * UNIT).clamp_(-LIMIT, LIMIT)
        return symbols, encoder.to_bytes()


def _timed(work: Callable[[], object]) -> tuple[float, object]:
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def _model(config: DCVCConfig | None) -> DCVC:
    """An untrained model whose predicted means and scales spread as a trained one's: scales over the coded range."""
    torch.manual_seed(0)
    model = DCVC(config).eval()
    with torch.no_grad():
        for network in (model.entropy_parameters, model.entropy_parameters_mv):
            network[-1].weight.mul_(10)
    return model


@torch.no_grad()
def bench_coding(height: int = 1088, width: int = 1920, repeats: int = 3, config: DCVCConfig | None = None) -> dict:
    """Both latents of one frame, networks and entropy coding, medians over `repeats` alternating runs.

    Two baselines: `raster`, the published way, float32 networks position by position without any entropy coding,
    which both directions need alike, and `raster_encode`/`raster_decode`, the same order through the stream's own
    arithmetic with entropy coding: its symbols must be identical. The speed-ups are against the faster one.
    """
    latents = [_Latent(_model(config), name, height, width) for name in ("mv_y", "y")]
    coding_order.cache_clear()
    for latent in latents:
        latent.encode()                                     # tables and caches, as in any frame but the first
    works = {"encode": _Latent.encode, "decode": _Latent.decode, "raster": _Latent.raster,
             "raster_encode": _Latent.raster_coder,
             "raster_decode": lambda latent: latent.raster_coder(latent.payload_in_raster_order)}
    times: dict[str, list[float]] = {name: [] for name in works}
    found: dict[str, list] = {}
    for _ in range(repeats):
        for name, work in works.items():
            results = [_timed(lambda latent=latent, work=work: work(latent)) for latent in latents]
            times[name].append(sum(seconds for seconds, _ in results))
            found[name] = [result for _, result in results]
            if name == "raster_encode":
                for latent, (_, payload) in zip(latents, found[name], strict=True):
                    latent.payload_in_raster_order = payload
    seconds = {name: statistics.median(values) for name, values in times.items()}

    def same(symbols: list[Tensor]) -> bool:
        return all(torch.equal(own, latent.symbols) for own, latent in zip(symbols, latents, strict=True))

    levels = np.concatenate([latent.levels(latent.model.quantise(latent.y, latent.prior).scales).reshape(-1)
                             for latent in latents])
    return {
        "width": width, "height": height, "threads": torch.get_num_threads(), "repeats": repeats, "seconds": seconds,
        "all_seconds": times, "symbols": sum(latent.y.numel() for latent in latents),
        "encode_speedup": min(seconds["raster"], seconds["raster_encode"]) / seconds["encode"],
        "decode_speedup": min(seconds["raster"], seconds["raster_decode"]) / seconds["decode"],
        "encode_speedup_with_coding": seconds["raster_encode"] / seconds["encode"],
        "decode_speedup_with_coding": seconds["raster_decode"] / seconds["decode"],
        "encode_speedup_over_the_published_order": seconds["raster"] / seconds["encode"],
        "decode_speedup_over_the_published_order": seconds["raster"] / seconds["decode"],
        "identical_to_raster_order": same([symbols for symbols, _ in found["raster_encode"]]),
        "decoded_identical": same(found["decode"]) and same([symbols for symbols, _ in found["raster_decode"]]),
        "float32_raster_agreement": min(float((symbols == latent.symbols).float().mean()) for symbols, latent in
                                        zip(found["raster"], latents, strict=True)),
        "levels_used": int(len(np.unique(levels))), "bytes": sum(len(latent.payload) for latent in latents)}


def as_text(result: dict) -> str:
    seconds = result["seconds"]
    return (f"{result['width']}x{result['height']}, both latents, {result['threads']} threads\n"
            f"raster order  {seconds['raster']:8.2f} s each way, float32 networks without entropy coding\n"
            f"raster order  {seconds['raster_encode']:8.2f} s and {seconds['raster_decode']:.2f} s with it\n"
            f"encode        {seconds['encode']:8.2f} s, {result['encode_speedup']:.1f} times as fast\n"
            f"decode        {seconds['decode']:8.2f} s, {result['decode_speedup']:.1f} times as fast\n"
            f"symbols identical to the raster order's: {result['identical_to_raster_order']}, after decoding: "
            f"{result['decoded_identical']}; equal to the float32 loop's: {result['float32_raster_agreement']:.4%}")
