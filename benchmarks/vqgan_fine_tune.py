"""What fine-tuning a small VQGAN on a clip's first half gives on its second half, at equal rate.

    python benchmarks/vqgan_fine_tune.py ../shared/clips WORK --out benchmarks/vqgan_fine_tune.json

All clips are made small first (short side 144). A VQGAN is trained on the clips of train/, then
fine-tuned on the first half of each chosen clip of val/, and both are judged on its second half. As a
control the same model is trained as long on the clips of train/ again: what that gains is owed to
more training and not to the clip. What WORK already holds is not made again.

Equal rate: D·h·w·log2 K bits a frame are the same by construction; beside them stand bits by how often
each code occurs in the first half ("static"), for each of the three.
"""

import argparse
import dataclasses
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from dcvc.bench.data import versions
from dcvc.data import VideoValidationDataset
from dcvc.evaluation.metrics import psnr
from dcvc.files import write_text
from dcvc.intra import VQGANIFrameModel
from dcvc.intra.vqgan.config import VQGANConfig
from dcvc.intra.vqgan.rate import StaticRate
from dcvc.training.vqgan.config import FINE_TUNING, PriorTrainingConfig, VQGANTrainingConfig
from dcvc.training.vqgan.fine_tune import fine_tune
from dcvc.training.vqgan.prior_trainer import collect_codes, count_codes
from dcvc.training.vqgan.trainer import train_vqgan
from dcvc.video.reader import VideoReader
from dcvc.video.writer import VideoWriter

SHORT_SIDE, EXACT = 144, {"preset": "veryfast", "g": "4", "qp": "0"}
MODEL = VQGANConfig("EMAVQ", 256, 8, ch=8, ch_mult=(1, 1, 2), num_res_blocks=1, attn_resolutions=(),
                    z_channels=16, norm_groups=2)
BASE = VQGANTrainingConfig(MODEL, steps=1500, batch_size=4, crop_size=48, learning_rate=4e-3,
                           quantize_from=300, save_every=300)
ASKED_DB, ASKED_MINUTES = 1.0, 10
CLIPS = ("sam2_02_cups.mp4", "gopro_karma.mp4")


def write_small(source: Path, target: Path, frames: range) -> None:
    """These frames of a video, small and without further loss."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with VideoReader(source) as reader:
        height, width = reader.size
        scale = SHORT_SIDE / min(height, width)
        size = tuple(round(side * scale / 16) * 16 for side in (height, width))
        partial = target.with_suffix(".part.mkv")
        with VideoWriter(partial, size[::-1], 25, options=EXACT) as writer:
            for number in frames:
                if number >= len(reader):
                    break
                frame = reader.read(number, 1).float()
                small = F.interpolate(frame, size, mode="bilinear", antialias=True)
                writer.write(small[0].round().clamp(0, 255).byte().permute(1, 2, 0).numpy())
    partial.rename(target)


def make_clips(clips: Path, work: Path, chosen: list[str]) -> None:
    for source in sorted((clips / "train").iterdir()):
        if source.suffix != ".tsv":
            write_small(source, work / "train" / f"{source.stem}.mkv", range(0, 60, 3))
    for name in chosen:
        source = clips / "val" / name
        with VideoReader(source) as reader:
            half = len(reader) // 2
            end = min(len(reader), half + 150)
        write_small(source, work / source.stem / "first.mkv", range(half))
        write_small(source, work / source.stem / "second.mkv", range(half, end))


def judged(codec: VQGANIFrameModel, first: Path, second: Path) -> dict[str, float]:
    """PSNR over the second half and its bits per pixel, of 20 evenly spaced frames."""
    maps = collect_codes(codec, VideoValidationDataset([first]), PriorTrainingConfig(mirrored=False), quiet=True)[0]
    codec.rate_models["static"] = StaticRate(count_codes(maps, codec.levels, codec.codes).numpy())
    quality, bits = [], dict.fromkeys(codec.rate_models, 0.0)
    pixels = 0
    with VideoReader(second) as reader:
        for number in np.linspace(0, len(reader) - 1, 20).round().astype(int).tolist():
            frame = reader.read(number, 1).float() / 255
            codes = codec.codes_of(frame)
            x_hat = codec.frames_of(codes, *frame.shape[-2:])
            quality.append(psnr(x_hat[0], frame[0]))
            pixels += frame.shape[-2] * frame.shape[-1]
            for name in bits:
                bits[name] += float(codec.bits_of(codes.cpu().numpy(), name).sum())
    return {"psnr": float(np.mean(quality)), **{f"bpp_{key}": value / pixels for key, value in bits.items()}}


def tuned(options: argparse.Namespace, base: Path, videos: Path, out: Path) -> tuple:
    """The fine-tuned model's folder, its numbers, and minutes by the clock and of the processor."""
    if (out / "vqgan.pt").exists():
        return out, {}, (0.0, 0.0)
    settings = dataclasses.replace(FINE_TUNING, start=str(base), steps=options.steps, batch_size=4, crop_size=48,
                                   learning_rate=2e-3, prior_steps=0)
    began, processor = time.monotonic(), time.process_time()
    numbers = fine_tune(settings, [videos], out, device="cpu", quiet=True, resume=(out / "latest.pt").exists()).numbers
    return out, numbers, ((time.monotonic() - began) / 60, (time.process_time() - processor) / 60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--chosen", nargs="+", default=list(CLIPS))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    make_clips(options.clips, options.work, options.chosen)
    base = options.work / "base"
    if not (base / "done").exists():
        train_vqgan(BASE, [options.work / "train"], base, device="cpu", quiet=True,
                    resume=(base / "latest.pt").exists())
        (base / "done").touch()
    record = json.loads(options.out.read_text()) if options.out.exists() else {"clips": {}}
    control = tuned(options, base, options.work / "train", options.work / "control")[0]
    for name in options.chosen:
        folder = options.work / Path(name).stem
        if name in record["clips"]:
            continue
        out, numbers, minutes = tuned(options, base, folder / "first.mkv", folder / "tuned")
        start, longer, result = (
            judged(VQGANIFrameModel(None, one, "cpu", rate_model="uniform"), folder / "first.mkv",
                   folder / "second.mkv") for one in (base, control, out))
        record["clips"][name] = {
            "start": start, "control": longer, "tuned": result, "gain_db": result["psnr"] - start["psnr"],
            "gain_of_control_db": longer["psnr"] - start["psnr"],
            "kept_step": numbers.get("kept_step"), "steps": options.steps, "minutes": minutes[0],
            "processor_minutes": minutes[1], "load_average": os.getloadavg()[0]}
        record |= {"command": "python benchmarks/vqgan_fine_tune.py ../shared/clips WORK --out "
                              f"benchmarks/vqgan_fine_tune.json --steps {options.steps}",
                   "model": dataclasses.asdict(MODEL), "base_steps": BASE.steps, "short_side": SHORT_SIDE,
                   "asked": {"gain_db": ASKED_DB, "minutes": ASKED_MINUTES}, "threads": 1,
                   "versions": versions()}
        write_text(options.out, json.dumps(record, indent=1) + "\n")
        print(name, json.dumps(record["clips"][name]), flush=True)


if __name__ == "__main__":
    main()
