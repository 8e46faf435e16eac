"""Streams of VQGANs of other projects' layouts: random sizes decoded in a fresh process, damaged payloads."""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from kit import vqgan_layouts
from torch import Tensor

from dcvc.errors import BitstreamError
from dcvc.intra import VQGANIFrameModel
from dcvc.intra.vqgan.config import config_to_values
from dcvc.intra.vqgan.prior import CodePrior, PriorConfig
from dcvc.intra.vqgan.rate_file import KEY, rate_models_to_file

# Bytes that a file may differ from its estimate beside 0.5 %: its header, the coder's last word.
HEAD = 16
DECODE = "import sys; from kit.layout_streams import decode_streams; decode_streams(*sys.argv[1:])"
KINDS = ("flip", "bytes", "cut", "insert", "remove", "noise", "other weights", "swapped parts")


def random_prior(tables: list[Tensor]) -> CodePrior:
    """A prior of random weights for symbols that have these tables."""
    network = CodePrior(PriorConfig(len(tables), max(map(len, tables)), 8, 16))
    network.set_codebooks(tables)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return network


def rated(folder: Path, layout: str, seed: int = 0) -> VQGANIFrameModel:
    """One file of ours with the layout's model and rate models that fit its codes well enough to pay."""
    config = vqgan_layouts.CONFIGS[layout]
    state = vqgan_layouts.random_state(config, seed)
    path = folder / f"{layout}.pt"
    torch.save({"model": state, "config": config_to_values(config)}, path)
    codec = VQGANIFrameModel(None, path)
    symbols = codec.symbols.split(codec.codes_of(frame(80, 64, 7)).numpy())[0]
    counts = torch.from_numpy(np.stack([np.bincount(plane.ravel(), minlength=max(codec.symbols.sizes))
                                        for plane in symbols]))
    network = random_prior(codec.model.quantize.tables())
    for level, plane in enumerate(counts):
        grouped = network.out["group"][level].bias
        grouped.data.copy_(torch.log((plane[:len(grouped)] + 1) / (plane + 1).sum()))
    torch.save({"model": state, "config": config_to_values(config), KEY: rate_models_to_file(counts, network)}, path)
    return VQGANIFrameModel(None, path)


def frame(height: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 5, generator=generator)
    return (torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
            + 0.2 * torch.rand(1, 3, height, width, generator=generator)).clamp(0, 1)


def decode_streams(file: str, checkpoint: str) -> None:
    """In another process: decode and compare with what the encoder saw."""
    data, codec, equal = np.load(file), VQGANIFrameModel(None, checkpoint), 0
    names = [key.removeprefix("payload") for key in data.files if key.startswith("payload")]
    for name in names:
        equal += np.array_equal(codec.decompress(data[f"payload{name}"].tobytes()).numpy(), data[f"frame{name}"])
    print(json.dumps({"streams": len(names), "equal": equal}))


def round_trips(folder: Path, layout: str, number: int, seed: int = 3) -> dict:
    """Code `number` random sizes, the rate models in turn; decode in a fresh process. Returns how many came
    back bit for bit, how many streams each rate model made, and the largest gap between bytes and estimate as
    a share of what is allowed."""
    rng, arrays, used, gap = np.random.default_rng(seed), {}, Counter(), 0.0
    codec = rated(folder, layout)
    names = list(codec.rate_models)
    for count in range(number):
        codec.rate_name = names[count % len(names)]
        smallest = codec.multiple
        height, width = (int(side) for side in rng.integers(smallest, 16 * smallest, 2))
        if count < 2:                            # one position of the latent, and one row of them
            height, width = smallest, smallest * (1 + 5 * count)
        x = frame(height, width, count)
        # What `compress` does, step by step: the estimate needs its codes too.
        codes = codec.codes_of(x)
        estimate = float(codec.bits_of(codes.numpy()).sum()) / 8
        payload, x_hat = codec.payload_of(codes, height, width), codec.frames_of(codes, height, width)
        assert bool(torch.isfinite(x_hat).all())
        gap = max(gap, abs(len(payload) - estimate) / (0.005 * estimate + HEAD))
        used[payload[0] & 7] += 1
        arrays |= {f"payload{count}": np.frombuffer(payload, np.uint8), f"frame{count}": x_hat.numpy()}
    np.savez(folder / "streams.npz", **arrays)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", DECODE, str(folder / "streams.npz"), str(folder / f"{layout}.pt")],
                          env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "rate_models": {str(key): used[key] for key in sorted(used)},
            "largest_gap_of_allowed": round(gap, 3)}


def damaged(payload: bytes, foreign: bytes, kind: str, source: random.Random) -> bytes:
    at, data = source.randrange(len(payload)), bytearray(payload)
    if kind == "flip":
        data[at] ^= 1 << source.randrange(8)
    elif kind == "bytes":
        data[at:at + 4] = source.randbytes(len(data[at:at + 4]))
    elif kind == "cut":
        del data[at:]
    elif kind == "insert":
        data[at:at] = source.randbytes(source.randrange(1, 9))
    elif kind == "remove":
        del data[at:at + source.randrange(1, 9)]
    elif kind == "noise":
        return source.randbytes(source.randrange(200))
    elif kind == "other weights":
        return foreign
    else:
        return bytes(data[at:] + data[:at])
    return bytes(data)


def damaged_payloads(folder: Path, layout: str, number: int, seed: int = 0) -> dict:
    """`number` damaged payloads of all kinds in turn -> counts by kind. refused: by a BitstreamError; harmless:
    the damage left the same bytes; silent: decoded, which must be 0 (any other error ends the run)."""
    (folder / "other").mkdir(exist_ok=True)
    codec, stranger = rated(folder, layout), rated(folder / "other", layout, seed=1)
    payloads, foreign = [], []
    for name in codec.rate_models:
        for one, into in ((codec, payloads), (stranger, foreign)):
            one.rate_name = name
            into.append(one.compress(frame(60, 50, 2))[0])
    source, slowest = random.Random(seed), 0.0
    found = {"refused": Counter(), "harmless": Counter(), "silent": Counter()}
    for count in range(number):
        kind, which = KINDS[count % len(KINDS)], source.randrange(len(payloads))
        bad, began = damaged(payloads[which], foreign[which], kind, source), time.perf_counter()
        try:
            codec.decompress(bad)
            found["harmless" if bad == payloads[which] else "silent"][kind] += 1
        except BitstreamError:
            found["refused"][kind] += 1
        slowest = max(slowest, time.perf_counter() - began)
    return {"payloads": number, **{key: dict(counts) for key, counts in found.items()},
            "slowest_seconds": round(slowest, 3)}
