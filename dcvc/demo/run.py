"""The whole job once, small enough for a laptop: videos -> VQGAN -> DCVC through its four stages -> what came of it."""

import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcvc.config import MODEL_SIZES, DataConfig, IntraConfig, TrainConfig
from dcvc.data import VideoReader, VideoValidationDataset
from dcvc.data.video_list import list_videos
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.errors import InputError
from dcvc.evaluation.estimated import code_sequence, evaluate, results_table
from dcvc.files import write_text
from dcvc.report.figures import draw_curves, draw_frames
from dcvc.schedule import Stage, schedule_table, stage

LAMBDA = 2560.0
INTRA_PERIOD = 8
CLIPS = 24


@dataclass(frozen=True)
class Lesson:
    """A stage, with the side of its crops in pixels and how many a step takes."""

    stage: Stage
    crop_size: int = 64
    batch_size: int = 2


def _lesson(number: int, gop: int, steps: int, **crops: int) -> Lesson:
    return Lesson(stage(number, gop_size=gop, learning_rate=1e-3, epochs=1_000_000, max_steps=steps,
                        cascaded=gop > 2), **crops)


# The last one sees latents of more than borders: after small crops alone the context model fails on whole frames.
LESSONS = (_lesson(1, 2, 150), _lesson(2, 2, 150), _lesson(3, 2, 100), _lesson(4, 2, 100), _lesson(4, 3, 150),
           _lesson(4, 5, 300), _lesson(4, 7, 90, crop_size=128, batch_size=1))


@dataclass(frozen=True)
class Demo:
    """folder: everything the demo writes. videos: the user's own folders; empty: synthetic clips are written."""

    folder: Path
    videos: tuple[str, ...] = ()
    val_videos: str | None = None
    seed: int = 0
    device: str = "auto"
    quiet: bool = False

    def tell(self, text: str) -> None:
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)


def run_demo(demo: Demo) -> dict[str, Any]:
    """Train both codecs and show what happened; returns the numbers that summary.txt prints.

    Raises InputError when the folder holds another demo, or the user's videos are too few.
    """
    started = time.monotonic()
    if demo.folder.exists() and any(demo.folder.iterdir()):
        if not (demo.folder / "demo.json").exists() and not (demo.folder / "clips").exists():
            raise InputError(f"{demo.folder}: found a folder with other files, needed an empty or new one; "
                             "choose another with --checkpoint_dir")
        demo.tell(f"beginning anew in {demo.folder}")
        for old in ("clips", "vqgan", "run"):
            shutil.rmtree(demo.folder / old, ignore_errors=True)
    demo.folder.mkdir(parents=True, exist_ok=True)
    train, val = _clips(demo)
    intra = _train_intra(demo, train)
    _train_stages(demo, train, val, intra)
    summary = _show(demo, val)
    summary["minutes"] = round((time.monotonic() - started) / 60, 2)
    write_text(demo.folder / "demo.json", json.dumps(summary, indent=1) + "\n")
    return summary


def _clips(demo: Demo) -> tuple[list[str], str]:
    """Training sources and the validation source."""
    clips = demo.folder / "clips"
    clips.mkdir(parents=True, exist_ok=True)
    if not demo.videos:
        demo.tell("1/4 writing synthetic clips: dead leaves that pan, zoom, turn and hide each other")
        write_synthetic_clips(clips / "train", count=CLIPS, frames=24, seed=demo.seed, progress=not demo.quiet)
        write_synthetic_clips(clips / "val", count=3, frames=16, seed=demo.seed + 1, progress=not demo.quiet)
        return [str(clips / "train")], str(clips / "val")
    demo.tell("1/4 taking your videos")
    if demo.val_videos:
        return list(demo.videos), demo.val_videos
    files = sorted({str(Path(file).resolve()) for source in demo.videos for file in list_videos(source)})
    if len(files) < 2:
        raise InputError(f"{' '.join(demo.videos)}: found {len(files)} video, needed at least 2 (one is kept for "
                         "validation); or name --val_video_dir")
    held = max(1, min(3, len(files) // 5))
    write_text(clips / "train.txt", "\n".join(files[held:]) + "\n")
    write_text(clips / "val.txt", "\n".join(files[:held]) + "\n")
    return [str(clips / "train.txt")], str(clips / "val.txt")


def _train_intra(demo: Demo, train: list[str]) -> IntraConfig:
    from dcvc.training.vqgan.trainer import VQGAN_PRESETS, train_vqgan

    demo.tell("2/4 training a small VQGAN, the I-frame codec")
    trained = train_vqgan(VQGAN_PRESETS["demo"], train, demo.folder / "vqgan", seed=demo.seed, device=demo.device,
                          quiet=demo.quiet)
    return IntraConfig("vqgan", vqgan_config=str(trained.config), vqgan_checkpoint=str(trained.checkpoint))


def _train_stages(demo: Demo, train: list[str], val: str, intra: IntraConfig) -> None:
    from dcvc.training.trainer import Job, train_stage

    table = schedule_table(tuple(lesson.stage for lesson in LESSONS))
    demo.tell(f"3/4 training the P-frame codec through its stages\n{table}")
    smallest = min(min(VideoReader(file).size) for source in train for file in list_videos(source)[:1])
    config = TrainConfig(lambda_value=LAMBDA, seed=demo.seed, use_ema=True, ema_decay=0.98, eval_freq=1_000_000,
                         eval_max_frames=INTRA_PERIOD, eval_intra_period=INTRA_PERIOD)
    for lesson in LESSONS:
        data = DataConfig(True, tuple(train), val, crop_size=min(lesson.crop_size, smallest // 2 * 2),
                          batch_size=lesson.batch_size, num_workers=1)
        train_stage(Job(lesson.stage, data, intra, config, demo.folder / "run", inter=MODEL_SIZES["tiny"],
                        device=demo.device, quiet=demo.quiet))


def _show(demo: Demo, val: str) -> dict[str, Any]:
    from dcvc.checkpoint import load_p_frame_checkpoint, stage_folders
    from dcvc.intra import build_intra_codec

    demo.tell("4/4 evaluating on clips that were not trained on")
    run = demo.folder / "run"
    loaded = load_p_frame_checkpoint(run)
    intra = build_intra_codec(loaded.intra, "cpu")
    sequences = VideoValidationDataset(val, max_frames=2 * INTRA_PERIOD)
    results = evaluate(intra, loaded.model, sequences, intra_period=INTRA_PERIOD)
    write_text(demo.folder / "results.json", json.dumps(results, indent=1))
    curves = draw_curves([folder for _, folder in stage_folders(run)], demo.folder / "curves.png")
    frames = _draw_examples(intra, loaded.model, sequences, demo.folder / "frames.png")
    mean = results["mean"]
    gain = mean["P"]["psnr"] - mean["copy_psnr"]
    text = (f"{results_table(results)}\n\nP-frames {mean['P']['psnr']:.2f} dB, copying the reference "
            f"{mean['copy_psnr']:.2f} dB: {gain:+.2f} dB\n"
            f"mean P-frame rate {mean['P']['bpp']:.4f} bpp, I-frame rate {mean['I']['bpp']:.4f} bpp "
            f"(estimates: {100 * mean['P']['bpp'] / mean['I']['bpp']:.0f} % of an I-frame)\n"
            f"curves {curves}\nframes {frames}\nrun    {run}\nreport {_write_report(demo, val, run)}\n")
    write_text(demo.folder / "summary.txt", text)
    print(text)
    return {"psnr_gain_over_copy_db": gain, "bpp_p": mean["P"]["bpp"], "bpp_i": mean["I"]["bpp"],
            "psnr_p": mean["P"]["psnr"], "psnr_i": mean["I"]["psnr"], "psnr_copy": mean["copy_psnr"]}


def _write_report(demo: Demo, val: str, run: Path) -> Path:
    """The page that compares written streams of this codec with x264 and with copying the last I-frame."""
    from dcvc.data.eval_sequences import open_sequences
    from dcvc.evaluation.anchors import compare
    from dcvc.evaluation.run import EvalJob, evaluate_codecs
    from dcvc.report import write_report
    from dcvc.report.results import write_results

    demo.tell("writing streams, and comparing them with x264")
    sequences = [sequence for file in list_videos(val) for sequence in open_sequences(file, max_frames=INTRA_PERIOD)]
    ours = evaluate_codecs([EvalJob("dcvc demo", "demo", str(run), gop=INTRA_PERIOD, copy=True)], sequences,
                           demo.folder / "eval_frames", command="dcvc demo")
    anchors = compare(sequences, {"x264": None}, demo.folder / "compare_frames", gop=INTRA_PERIOD, command="dcvc demo")
    write_results(demo.folder / "eval.json", ours)
    write_results(demo.folder / "compare.json", anchors)
    files = [demo.folder / "eval.json", demo.folder / "compare.json"]
    return write_report(files, demo.folder / "report.html", title="dcvc demo")


@torch.no_grad()
def _draw_examples(intra, p_frame, sequences, path: Path) -> Path:
    """Each sequence's fourth frame: original, copied reference, motion-compensated by us, reconstruction."""

    def picture(frame: Tensor):
        return (frame[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()

    rows = []
    for index in range(min(3, len(sequences))):
        coded = code_sequence(intra, p_frame, sequences.stream(index), intra_period=INTRA_PERIOD)
        for number, (kind, frame, reference, output) in enumerate(coded):
            if number == 3 and kind == "P":
                bpp = float(output.total_bits) / (frame.shape[-1] * frame.shape[-2])
                moved = p_frame(reference, frame, contextual=False).prediction
                rows += [("original", picture(frame)), ("reference, copied", picture(reference)),
                         ("reference, moved", picture(moved)), (f"P-frame, {bpp:.3f} bpp", picture(output.x_hat))]
                break
    return draw_frames(rows, path)
