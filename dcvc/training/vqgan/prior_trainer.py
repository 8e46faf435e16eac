"""Learn how often codes occur and how they depend on their neighbours, for the VQGAN's checkpoint.

    videos ──> some frames of each ──> codes (D, h, w) ──> counts of each code        (static rates)
                                            └──> windows ──> network of neighbours    (prior)

A code that its neighbours announce costs few bits. The prior learns which those are; what is kept
are the weights that cost least on frames that it did not learn from.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dcvc.data import VideoValidationDataset
from dcvc.errors import InputError, TrainingError
from dcvc.files import save_tensors
from dcvc.intra.vqgan.codec import VQGANIFrameModel
from dcvc.intra.vqgan.config import VQGANConfig, config_to_values
from dcvc.intra.vqgan.layouts import TAMING
from dcvc.intra.vqgan.loading import config_and_file
from dcvc.intra.vqgan.prior import CodePrior, PriorConfig
from dcvc.intra.vqgan.rate_file import KEY, rate_models_to_file
from dcvc.training.vqgan.config import PriorTrainingConfig

# From so many videos on, whole ones are held out: of fewer, too little would be left.
MANY = 4
WARM_UP_STEPS = 100


def frames_of(videos: VideoValidationDataset, index: int, wanted: int) -> Iterator[Tensor]:
    """About `wanted` evenly spaced frames (3, H, W) of a video, in constant memory."""
    # Read in order and dropped one by one: seeking to each would decode most frames twice.
    total = videos.sequences[index].frames
    chosen = set(np.linspace(0, total - 1, min(wanted, total)).round().astype(int).tolist())
    for number, frame in enumerate(videos.stream(index)):
        if number in chosen:
            yield frame


def collect_codes(codec: VQGANIFrameModel, videos: VideoValidationDataset,
                  config: PriorTrainingConfig, quiet: bool = False) -> list[list[Tensor]]:
    """For each video, maps of codes or of their symbols, int64 (D, h, w), of the chosen frames."""
    by_video: list[list[Tensor]] = []
    indices = tqdm(range(len(videos)), desc="codes", unit="video", file=sys.stderr, disable=quiet)
    for index in indices:
        maps: list[Tensor] = []
        for frame in frames_of(videos, index, config.frames_per_video):
            for view in (frame, frame.flip(-1)) if config.mirrored else (frame,):
                # As the rate models see them: codes that have digits are split into symbols.
                symbols = codec.symbols.split(codec.codes_of(view[None]).cpu().numpy())
                maps.append(torch.from_numpy(symbols[0].copy()))
        by_video.append(maps)
    return by_video


def split_maps(by_video: Sequence[Sequence[Tensor]],
               held_out: float) -> tuple[list[Tensor], list[Tensor]]:
    """Maps to learn from, maps to judge by. Whole videos are held out where there are MANY, else
    single frames: frames of a video that was learned from look better than those of a new one."""
    many = len(by_video) >= MANY
    groups = list(by_video) if many else [[one] for maps in by_video for one in maps]
    count = max(1, round(len(groups) * held_out)) if len(groups) > 1 else 0
    # Evenly spaced, without the two ends: neighbours in the list are often alike.
    held = set(np.linspace(0, len(groups) - 1, count + 2).round().astype(int)[1:-1].tolist())
    learn = [one for number, maps in enumerate(groups) if number not in held for one in maps]
    return learn, [one for number in sorted(held) for one in groups[number]] or learn


def count_codes(maps: Sequence[Tensor], levels: int, codes: int) -> Tensor:
    """Histogram int64 (D, K)."""
    return torch.stack([
        sum(torch.bincount(one[level].flatten(), minlength=codes) for one in maps)
        for level in range(levels)])


def draw_windows(maps: Sequence[Tensor], config: PriorTrainingConfig, step: int) -> Tensor:
    """A batch of windows (B, D, s, t) with random corners, as large as a map drawn at random
    allows, up to `window`; larger maps are drawn more often."""
    # Of the step's number alone, as everywhere in training.
    rng = np.random.default_rng((config.seed, step))
    sizes = np.array([one.shape[-2:] for one in maps])
    # By area, so that every code is learned from equally often.
    areas = sizes.prod(1).astype(float)
    window = np.minimum(sizes[rng.choice(len(maps), p=areas / areas.sum())], config.window)
    # A batch has one size: only maps that it fits into take part.
    areas = np.where((sizes >= window).all(1), areas, 0.0)
    batch = []
    for choice in rng.choice(len(maps), config.batch_size, p=areas / areas.sum()):
        y, x = (int(rng.integers(room + 1)) for room in sizes[choice] - window)
        batch.append(maps[choice][:, y:y + window[0], x:x + window[1]])
    return torch.stack(batch)


@torch.no_grad()
def mean_bits(network: CodePrior, maps: Sequence[Tensor]) -> float:
    """Bits per code over whole maps."""
    # Of all codes together: a large map counts for more than a small one.
    total = sum(float(network.loss(one[None])) * one.numel() for one in maps)
    return total / sum(one.numel() for one in maps)


def fit_prior(network: CodePrior, by_video: Sequence[Sequence[Tensor]],
              config: PriorTrainingConfig, quiet: bool = False) -> float:
    """Train on the videos' code maps; keeps the weights that are best on what `split_maps` holds
    out, and returns their bits per code there. Raises TrainingError when the loss is not finite."""
    train, judge = split_maps(by_video, config.held_out)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=config.weight_decay)
    best, weights = math.inf, None
    bar = tqdm(range(config.steps), desc="prior", unit="step", file=sys.stderr, disable=quiet)
    every = max(1, config.steps // 10)           # judged ten times in all
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(config, step)
        loss = network.loss(draw_windows(train, config, step))
        # Nothing to go back to: such a training takes minutes and is begun again.
        if not bool(torch.isfinite(loss)):
            raise TrainingError(f"prior training: loss is {loss.item()} at step {step}; try a lower "
                                "--learning_rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % every == 0 or step + 1 == config.steps:
            bits = mean_bits(network, judge)
            bar.set_postfix(held_out=f"{bits:.3f}", train=f"{loss.item():.3f}")
            if bits < best:
                best = bits
                weights = {key: value.clone() for key, value in network.state_dict().items()}
    network.load_state_dict(weights)
    return best


def _learning_rate(config: PriorTrainingConfig, step: int) -> float:
    """A short rise, then a cosine down to 1 %."""
    rise = min(1.0, (step + 1) / min(WARM_UP_STEPS, config.steps))
    return config.learning_rate * rise * (0.505 + 0.495 * math.cos(math.pi * step / config.steps))


def train_prior(vqgan_config: str | Path | VQGANConfig | None, vqgan_checkpoint: str | Path,
                videos: str | Path | Sequence[str | Path], output: str | Path,
                config: PriorTrainingConfig | None = None, device: str = "cpu",
                quiet: bool = False) -> dict[str, float]:
    """Write `output`: the VQGAN's checkpoint with a histogram and a learned prior of its codes on
    `videos`.

    Returns bits per code: uniform, static (on the frames that were counted), prior (on held-out
    videos), and how many maps were seen. Raises InputError when output exists, and what reading
    models and videos raises.
    """
    config, output = config or PriorTrainingConfig(), Path(output)
    if output.exists():
        raise InputError(f"{output}: exists already; choose another --output")
    codec = VQGANIFrameModel(vqgan_config, vqgan_checkpoint, device)
    models, bits = fit_rate_models(codec, VideoValidationDataset(videos), config, quiet)
    save_tensors(output, {**_content(vqgan_config, vqgan_checkpoint), KEY: models})
    return bits


def fit_rate_models(codec: VQGANIFrameModel, videos: VideoValidationDataset,
                    config: PriorTrainingConfig,
                    quiet: bool = False) -> tuple[dict[str, Any], dict[str, float]]:
    """What a checkpoint holds under "rate_models", and bits per code as `train_prior` gives them."""
    by_video = collect_codes(codec, videos, config, quiet)
    maps = [one for video in by_video for one in video]
    sizes = codec.symbols.sizes
    counts = count_codes(maps, len(sizes), max(sizes))
    # Of the first weights; the windows are drawn by their own generator.
    torch.manual_seed(config.seed)
    network = CodePrior(PriorConfig(len(sizes), max(sizes), config.channels, config.hidden))
    network.set_codebooks(codec.model.quantize.tables())
    bits = fit_prior(network, by_video, config, quiet)
    # What coding each code by its frequency alone would cost: the entropy, in bits.
    share = counts.double() / counts.sum(1, keepdim=True)
    static = float(-(share * torch.log2(share.clamp_min(1e-12))).sum(1).mean())
    # Of whole codes, also where the statistics are those of the symbols that codes were split into.
    uniform, per_code = sum(map(math.log2, sizes)) / len(sizes), len(sizes) / codec.levels
    return rate_models_to_file(counts, network), {
        "uniform": uniform * per_code, "static": static * per_code, "prior": bits * per_code,
        "frames": float(len(maps))}


def _content(vqgan_config: str | Path | VQGANConfig | None,
             vqgan_checkpoint: str | Path) -> dict[str, Any]:
    """What the VQGAN's file holds, to which the rate models are added."""
    config, file = config_and_file(vqgan_config, vqgan_checkpoint)
    # Layouts that lie in several files or have other names: one file of ours, with its config.
    if file.layout != TAMING.name:
        return {"model": file.state, "config": config_to_values(config)}
    # Whoever uses the prior does not go on with the training: its state would double the file.
    content = {key: value for key, value in file.content.items() if key != "training"}
    if all(isinstance(value, Tensor) for value in content.values()):
        content = {"model": content}                         # a bare table of weights
    return content
