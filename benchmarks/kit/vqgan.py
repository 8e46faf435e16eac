"""VQGAN I-frames measured: bytes and speed of the rate models, round trips in other processes."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dcvc.data import VideoValidationDataset
from dcvc.evaluation.metrics import psnr_from_mse
from dcvc.files import save_tensors, write_text
from dcvc.intra.vqgan.codec import VQGANIFrameModel
from dcvc.intra.vqgan.config import VQGANConfig, config_to_values
from dcvc.intra.vqgan.model import VQGAN
from dcvc.intra.vqgan.prior import CodePrior, PriorConfig
from dcvc.intra.vqgan.rate import RateModel, read_codes, write_codes
from dcvc.intra.vqgan.rate_file import KEY, rate_models_to_file
from dcvc.intra.vqgan.stream import RATE_MODELS
from dcvc.training.vqgan.prior_trainer import frames_of

# Bytes that a file may differ from its estimate beside 0.5 %: its header, the coder's last word.
HEAD = 16
TINY = VQGANConfig(variant="EMAVQ", n_embed=64, embed_dim=8, ch=8, ch_mult=(1, 1, 1, 2, 2),
                   num_res_blocks=1, attn_resolutions=(), z_channels=16, norm_groups=4)
DECODE = "import sys; from kit.vqgan import decode_streams; decode_streams(sys.argv[1])"


def measure_rates(config: str | Path, checkpoint: str | Path, videos: str | Path,
                  frames_per_video: int) -> dict:
    """Payload bytes of evenly spaced frames of each video, by each rate model of the checkpoint.

    gap: the largest |file - estimate| of a frame, as a share of what is allowed (0.5 % + 16 bytes).
    """
    codec = VQGANIFrameModel(config, checkpoint)
    sequences = VideoValidationDataset(videos)
    rows, gap = [], 0.0
    for index in range(len(sequences)):
        sizes, errors = Counter(), []
        for frame in frames_of(sequences, index, frames_per_video):
            x, pixels = frame[None], frame.shape[-1] * frame.shape[-2]
            codes = codec.codes_of(x)
            for name in codec.rate_models:
                estimate = float(codec.bits_of(codes.cpu().numpy(), name).sum()) / 8
                payload = codec.payload_of(codes, *x.shape[-2:], name)
                sizes[name] += len(payload)
                gap = max(gap, abs(len(payload) - estimate) / (0.005 * estimate + HEAD))
            errors.append(float((codec.decompress(payload) - x).square().mean()))
        rows.append({"video": Path(sequences.sequences[index].path).name,
                     "width": x.shape[-1], "height": x.shape[-2], "frames": len(errors),
                     "psnr": psnr_from_mse(float(np.mean(errors))), "bytes": dict(sizes),
                     "bpp": {name: 8 * size / (pixels * len(errors))
                             for name, size in sizes.items()}})
    total = sum((Counter(row["bytes"]) for row in rows), Counter())
    learned = total["prior"]
    return {"videos": rows, "bytes": dict(total), "largest_gap_of_allowed": gap,
            "prior_saves_percent_of_uniform": 100 * (1 - learned / total["uniform"]),
            "prior_saves_percent_of_static": 100 * (1 - learned / total["static"])}


def random_prior(levels: int, codes: int, scale: float = 0.3) -> CodePrior:
    """A prior of the default size with random weights.

    What its network and its tables cost in time does not depend on their values.
    """
    network = CodePrior(PriorConfig(levels, codes))
    network.set_codebooks(torch.randn(levels, codes, 8))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=scale)
    return network


def _median_seconds(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def measure_speed(model: RateModel, indices: np.ndarray, repeats: int) -> dict[str, float]:
    """Median seconds for codes `(1, D, h, w)`.

    Encoding counts what the codec does: write, then decode to check.
    """
    words = write_codes(indices, model)

    def encode() -> None:
        decoded = read_codes(write_codes(indices, model), indices.shape, model)
        assert np.array_equal(decoded, indices)

    return {"encode_s": _median_seconds(encode, repeats),
            "decode_s": _median_seconds(lambda: read_codes(words, indices.shape, model), repeats),
            "bytes": 4 * len(words)}


# ---- round trips


def soft_frames(rng: np.random.Generator, batch: int, height: int, width: int) -> Tensor:
    """Random frames `(B, 3, H, W)` with structure at every scale."""
    x = torch.zeros(batch, 3, height, width)
    for size in (2, 5, 13, 33):
        noise = torch.from_numpy(rng.random((batch, 3, size, size), dtype=np.float32))
        x += F.interpolate(noise, (height, width), mode="bilinear") / 4
    return x


def make_rated_vqgan(folder: Path, config: VQGANConfig = TINY,
                     seed: int = 0) -> tuple[Path, Path]:
    """Files of a VQGAN with random weights whose rate models fit its codes well enough to pay."""
    torch.manual_seed(seed)
    rng, model = np.random.default_rng(seed), VQGAN(config).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name:
                value.add_(0.1 * torch.randn_like(value))
        z = model.prequant(soft_frames(rng, 8, 256, 256) * 2 - 1)
        z = z.permute(0, 2, 3, 1).flatten(0, 2)
        table = model.quantize.embedding.weight
        table.copy_(z[torch.randperm(len(z))[:config.n_embed]])
        # Three quarters of the codes are far away and rarely chosen: a histogram saves bits.
        table[config.n_embed // 4:].mul_(3)
        codes = model.encode(soft_frames(rng, 8, 256, 256) * 2 - 1)
        counts = torch.bincount(codes.flatten(), minlength=config.n_embed)[None]
        network = random_prior(1, config.n_embed, 0.05)
        network.out["group"][0].bias.copy_(torch.log((counts[0] + 1) / (counts + 1).sum()))
    files = folder / "vqgan.json", folder / "vqgan.pt"
    write_text(files[0], json.dumps(config_to_values(config)))
    save_tensors(files[1], {"model": model.state_dict(),
                            KEY: rate_models_to_file(counts, network)})
    return files


def decode_streams(folder: str) -> None:
    """In another process: decode FOLDER/streams.npz and compare with what the encoder saw."""
    codec = VQGANIFrameModel(f"{folder}/vqgan.json", f"{folder}/vqgan.pt")
    data = np.load(f"{folder}/streams.npz")
    names = [name.removeprefix("payload") for name in data.files if name.startswith("payload")]
    equal = 0
    for name in names:
        x_hat = codec.decompress(data[f"payload{name}"].tobytes())
        equal += np.array_equal(x_hat.numpy(), data[f"frame{name}"])
    print(json.dumps({"streams": len(names), "equal": equal}))


def _decoded_elsewhere(folder: Path) -> dict[str, int]:
    """What `decode_streams` counts in a fresh process, which finds the modules of this one."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", DECODE, str(folder)], env=environment,
                          capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def round_trips(folder: Path, number: int, smallest: int = 16, largest: int = 300,
                seed: int = 3) -> dict:
    """Code frames of `number` random sizes, the rate models in turn; decode in fresh processes.

    Returns how many came back bit for bit, how many streams each rate model made, and the largest
    gap as in `measure_rates`.
    """
    codec = VQGANIFrameModel(*make_rated_vqgan(folder))
    rng, result, used = np.random.default_rng(seed), Counter(), Counter()
    gap, arrays = 0.0, {}
    for count in range(number):
        codec.rate_name = RATE_MODELS[count % len(RATE_MODELS)]
        height, width = map(int, rng.integers(smallest, largest + 1, 2))
        x = soft_frames(rng, 1, height, width)
        estimate, (payload, x_hat) = float(codec(x).total_bits) / 8, codec.compress(x)
        gap = max(gap, abs(len(payload) - estimate) / (0.005 * estimate + HEAD))
        used[RATE_MODELS[payload[0] & 7]] += 1
        result["shape_kept"] += x_hat.shape == x.shape
        arrays[f"payload{count}"] = np.frombuffer(payload, np.uint8)
        arrays[f"frame{count}"] = x_hat.numpy()
        if count % 100 == 99 or count == number - 1:
            np.savez(folder / "streams.npz", **arrays)
            result.update(_decoded_elsewhere(folder))
            arrays = {}
    return {**result, "rate_models": dict(used), "largest_gap_of_allowed": gap}
