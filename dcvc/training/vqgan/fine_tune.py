"""Fine-tuning of a VQGAN of any layout on one's own videos.

    file or folder ──> weights, config ──> training ──> the best weights on held-out frames
                                                           ├──> OUT/vqgan.pt, vqgan.json    ours, with
                                                           │    rate models fitted to their codes
                                                           └──> OUT/as_read/…    the layout they came
                                                                in, for their owner's tools

Both hold the same numbers, so a stream made with one is decoded with the other. What is judged by
never meets what is trained on: given videos, else every fourth video (three at most), else the last
third of the only one.
"""

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from dcvc.data import VideoGOPDataset, VideoValidationDataset
from dcvc.data.video_gops import GOPPlace
from dcvc.data.video_list import as_list, list_videos
from dcvc.errors import InputError
from dcvc.files import save_tensors, write_text
from dcvc.intra.vqgan.codec import VQGANIFrameModel
from dcvc.intra.vqgan.config import VQGANConfig
from dcvc.intra.vqgan.loading import config_and_file, load_vqgan
from dcvc.intra.vqgan.rate_file import KEY
from dcvc.intra.vqgan.vqgan_file import VQGANFile
from dcvc.intra.vqgan.writing import write_as_read
from dcvc.training.vqgan.config import PriorTrainingConfig, VQGANTrainingConfig
from dcvc.training.vqgan.judge import (
    BEST,
    Start,
    describe_best,
    first_judgement,
    read_best,
)
from dcvc.training.vqgan.prior_trainer import fit_rate_models
from dcvc.training.vqgan.trainer import TrainedVQGAN, train_vqgan
from dcvc.video.reader import VideoReader

AS_READ = "as_read"
HELD_OUT_EVERY, MOST_HELD_OUT = 4, 3
# Of all videos together, and the largest side of what is cut out of their middle.
JUDGED_FRAMES, JUDGED_SIDE = 24, 512


class LeadingFrames(VideoGOPDataset):
    """Single frames of the first two thirds of each video: the last third is judged by."""

    def choose_gop(self, index: int, rng: np.random.Generator, any_video: bool = False) -> GOPPlace:
        place = super().choose_gop(index, rng, any_video)
        frames = int(self.table.frames[place.row])
        # In proportion, so that the draws of a seed stay what they are.
        return dataclasses.replace(place, start=place.start * _border(frames) // frames)


def _border(frames: int) -> int:
    """The first frame that is held out of a video alone."""
    return max(1, frames * 2 // 3)


@dataclass(frozen=True)
class Split:
    """Videos to train on and to judge by; alone: both are the same one, which is shared out."""

    train: list[str]
    judged: list[str]
    alone: bool


def split(videos: Sequence[str | Path], judged: Sequence[str | Path] = ()) -> Split:
    """Raises MissingError, InputError where there are none."""
    # Each file once, also where a folder and a file in it are given.
    files = _files(videos)
    if judged:
        return Split(files, _files(judged), alone=False)
    if len(files) == 1:
        return Split(files, files, alone=True)
    # From the middle of each four: the first and the last video are often unlike the rest.
    held_out = files[1::HELD_OUT_EVERY][:MOST_HELD_OUT]
    return Split([file for file in files if file not in held_out], held_out, alone=False)


def _files(sources: Sequence[str | Path]) -> list[str]:
    return list(dict.fromkeys(str(file) for source in as_list(sources)
                              for file in list_videos(source)))


def judged_frames(parts: Split, factor: int) -> list[Tensor]:
    """Evenly spaced frames of what is held out, uint8, cut to multiples of `factor`.

    Raises InputError for videos that are too small or short, ReadError."""
    frames, share = [], max(1, JUDGED_FRAMES // len(parts.judged))
    for file in parts.judged:
        with VideoReader(file) as reader:
            first = _border(len(reader)) if parts.alone else 0
            if first >= len(reader):
                raise InputError(f"{file}: found {len(reader)} frame, needed at least 2: the last "
                                 "third is kept to judge by; or give --val_video_dir")
            wanted = np.linspace(first, len(reader) - 1, min(share, len(reader) - first))
            for number in sorted(set(wanted.round().astype(int).tolist())):
                frames.append(_centre(reader.read(number, 1)[0], factor, file))
    return frames


def _centre(frame: Tensor, factor: int, file: str) -> Tensor:
    sides = [min(side, JUDGED_SIDE) // factor * factor for side in frame.shape[-2:]]
    if not all(sides):
        raise InputError(f"{file}: found {frame.shape[-1]}x{frame.shape[-2]}, needed at least "
                         f"{factor} pixels a side (f of the VQGAN)")
    top, left = ((have - want) // 2 for have, want in zip(frame.shape[-2:], sides, strict=True))
    return frame[:, top:top + sides[0], left:left + sides[1]].clone()


# The model of the file to start from, and the file: read once, for it may be large.
StartRead = tuple[VQGANConfig, VQGANFile]


def fine_tune(config: VQGANTrainingConfig, videos: Sequence[str | Path], out_dir: str | Path, *,
              val_videos: Sequence[str | Path] = (),
              vqgan_config: str | Path | VQGANConfig | None = None, read: StartRead | None = None,
              device: str = "auto", resume: bool = False, quiet: bool = False) -> TrainedVQGAN:
    """Train `config.start` further and write OUT/vqgan.{json,pt} and OUT/as_read/.

    vqgan_config: as --vqgan_config takes it. read: what config_and_file gave, where it was asked.
    numbers: those of train_vqgan; val_psnr and start_psnr in dB on held-out frames, kept_step (0:
    nothing was better than the start). Raises what train_vqgan raises, and for what cannot be read.
    """
    out_dir = Path(out_dir)
    model, file = read or config_and_file(vqgan_config, config.start, config.weights)
    # Loading finds what is wrong with the file now; the weights themselves are taken from it later.
    load_vqgan(model, file)
    config = dataclasses.replace(config, model=model)
    parts = split(videos, val_videos)
    # Before training: a video that is too small or damaged should not be found out at its end.
    start = Start(file.state, judged_frames(parts, config.model.factor))
    kind = LeadingFrames if parts.alone else VideoGOPDataset
    dataset = kind(parts.train, gop_size=1, crop_size=config.crop_size, seed=config.seed,
                   small_videos=config.small_videos)
    trained = train_vqgan(config, dataset, out_dir, device=device, resume=resume, quiet=quiet,
                          start=start)
    best, first = read_best(out_dir), first_judgement(out_dir)
    # The same run again, perhaps longer, writes all of these anew.
    rates = _rate_models(config, out_dir, parts, quiet)
    if not is_ours(file):
        write_as_read(config.start, best["model"], out_dir / AS_READ)
    write_ours(best, rates, out_dir)
    if not quiet:
        print(describe_best(best, first), file=sys.stderr)
    numbers = {**trained.numbers, "kept_step": float(best["step"]), "val_psnr": best["psnr"]}
    if first:
        numbers["start_psnr"] = first["psnr"]
    return dataclasses.replace(trained, numbers=numbers)


def is_ours(file: VQGANFile) -> bool:
    """Whether this kit made the file: rate models in a copy of it would be those of other codes."""
    return KEY in file.content


def write_ours(best: dict[str, Any], rates: dict[str, Any], out_dir: Path) -> None:
    """OUT/vqgan.json and vqgan.pt."""
    write_text(out_dir / "vqgan.json", json.dumps(best["config"], indent=1) + "\n")
    save_tensors(out_dir / "vqgan.pt", {
        "step": best["step"], "model": best["model"], "config": best["config"], **rates})


def _rate_models(config: VQGANTrainingConfig, out_dir: Path, parts: Split,
                 quiet: bool) -> dict[str, Any]:
    """What the codes of the kept weights cost, learned on the videos that were trained on."""
    if not config.prior_steps:
        return {}
    # From the file and not from the trainer: these are the weights that will code.
    codec = VQGANIFrameModel(config.model, out_dir / BEST, "cpu", rate_model="uniform")
    settings = PriorTrainingConfig(steps=config.prior_steps, seed=config.seed)
    # Of all maps there are: also of a single video, whose last third costs bits like the rest.
    models, _ = fit_rate_models(codec, VideoValidationDataset(parts.train), settings, quiet)
    return {KEY: models}
