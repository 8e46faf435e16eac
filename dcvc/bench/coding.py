"""Speed of context coding: the wavefront against raster order, for the latents of one frame, in one run."""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dcvc.config import DCVCConfig
from dcvc.entropy.coder import SymbolDecoder, SymbolEncoder
from dcvc.entropy.tables import conditional_tables
from dcvc.entropy.wavefront import ContextModel
from dcvc.inter import DCVC


class _Latent:
    """Random latent and prior of one frame with the networks that code it."""

    def __init__(self, model: DCVC, name: str, height: int, width: int) -> None:
        motion = name == "mv_y"
        self.context = model.auto_regressive_mv if motion else model.auto_regressive
        self.network = model.entropy_parameters_mv if motion else model.entropy_parameters
        self.tables = conditional_tables(model.config.distribution)
        channels = self.context.in_channels
        self.y = 1.5 * torch.randn(channels, height // 16, width // 16)
        self.prior = torch.randn(2 * channels, height // 16, width // 16)
        self.payload = b""
        self.symbols: Tensor | None = None

    def encode(self) -> None:
        model, encoder = ContextModel(self.context, self.network, "laplace", "mean_scale"), SymbolEncoder()
        y = model.channels_last(self.y)

        def step(diagonal, mean, level):
            symbols = torch.round(y[diagonal.rows, diagonal.columns] - mean)
            encoder.push(symbols.numpy(), self.tables, level.numpy())
            return symbols

        self.symbols = model.run(self.prior, step).symbols
        self.payload = encoder.to_bytes()

    def decode(self) -> Tensor:
        model, decoder = ContextModel(self.context, self.network, "laplace", "mean_scale"), SymbolDecoder(self.payload)
        return model.run(self.prior, lambda diagonal, mean, level: torch.from_numpy(
            decoder.pop(self.tables, level.numpy()).astype(np.float64))).symbols

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


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


@torch.no_grad()
def bench_coding(height: int = 1088, width: int = 1920, repeats: int = 3, config: DCVCConfig | None = None) -> dict:
    """Both latents of one frame, medians over `repeats` alternating runs.

    The raster loop is timed without entropy coding and once for both directions, which it needs alike. Its float32
    symbols may differ where a value lies on a rounding border; `agreement` is the share that does not.
    """
    torch.manual_seed(0)
    model = DCVC(config)
    latents = [_Latent(model, name, height, width) for name in ("mv_y", "y")]
    times: dict[str, list[float]] = {"encode": [], "decode": [], "raster": []}
    raster: list[Tensor] = []
    for _ in range(repeats):
        times["encode"].append(sum(_seconds(latent.encode) for latent in latents))
        times["decode"].append(sum(_seconds(latent.decode) for latent in latents))
        begin = time.perf_counter()
        raster = [latent.raster() for latent in latents]
        times["raster"].append(time.perf_counter() - begin)
    same = all(torch.equal(latent.decode(), latent.symbols) for latent in latents)
    equal = [float((found == latent.symbols).float().mean()) for found, latent in zip(raster, latents, strict=True)]
    seconds = {name: statistics.median(values) for name, values in times.items()}
    return {"width": width, "height": height, "threads": torch.get_num_threads(), "repeats": repeats,
            "seconds": seconds, "encode_speedup": seconds["raster"] / seconds["encode"],
            "decode_speedup": seconds["raster"] / seconds["decode"], "decoded_identical": same,
            "raster_agreement": min(equal), "bytes": sum(len(latent.payload) for latent in latents)}


def as_text(result: dict) -> str:
    seconds = result["seconds"]
    return (f"{result['width']}x{result['height']}, both latents, {result['threads']} threads\n"
            f"raster order  {seconds['raster']:8.2f} s each way, without entropy coding\n"
            f"encode        {seconds['encode']:8.2f} s, {result['encode_speedup']:.1f} times as fast\n"
            f"decode        {seconds['decode']:8.2f} s, {result['decode_speedup']:.1f} times as fast\n"
            f"decoded symbols identical: {result['decoded_identical']}; "
            f"equal to the float32 raster loop's: {result['raster_agreement']:.4%}")
