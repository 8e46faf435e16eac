"""The whole job of training a codec from nothing once, small enough for a laptop:

    videos -> VQGAN (I-frames) -> DCVC (P-frames), stage by stage -> numbers, pictures, a report

Videos are the user's own, or synthetic clips. What is trained, and how long: the recipe "demo".
"""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dcvc.checkpoint import load_codec, load_p_frame_checkpoint
from dcvc.config import from_dict
from dcvc.data.config import DataConfig
from dcvc.data.eval_sequences import open_sequences
from dcvc.data.validation_sets import VideoValidationDataset
from dcvc.data.video_list import list_videos
from dcvc.demo.folder import Demo
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.errors import InputError
from dcvc.evaluation.anchors import compare
from dcvc.evaluation.estimated import Sequences, code_sequence, evaluate, results_table
from dcvc.evaluation.measured_codec import MeasuredCodec
from dcvc.evaluation.run import evaluate_codecs
from dcvc.files import write_text
from dcvc.interfaces import FrameCodec, PFrameCodec, to_levels
from dcvc.intra.registry import build_intra_codec
from dcvc.models.run_folder import stage_folders
from dcvc.report import write_report
from dcvc.report.figures import draw_curves, draw_frames
from dcvc.report.results import write_results
from dcvc.training.config import TrainConfig
from dcvc.training.recipe_file import load_recipe
from dcvc.training.recipe_run import RecipeJob, TrainIntra, run_recipe
from dcvc.video.places import absolute
from dcvc.video.reader import VideoReader

INTRA_PERIOD = 8        # frames
CLIPS = 24              # synthetic ones to train on
EXAMPLES = 3            # sequences of which a frame is drawn


def run_classic_demo(demo: Demo, train_intra: TrainIntra) -> dict[str, Any]:
    """Train both codecs and show what happened; returns the numbers that summary.txt prints.

    train_intra: how the I-frame codec is trained (see run_recipe).

    Raises InputError when the folder holds another demo, or the user's videos are too few.
    """
    started = time.monotonic()
    demo.clear()
    train, val = _clips(demo)
    _train(demo, train, val, train_intra)
    summary = _show(demo, val)
    summary["minutes"] = round((time.monotonic() - started) / 60, 2)
    write_text(demo.folder / "demo.json", json.dumps(summary, indent=1) + "\n")
    return summary


def _clips(demo: Demo) -> tuple[list[str], str]:
    """Training sources and the validation source."""
    clips = demo.folder / "clips"
    clips.mkdir(parents=True, exist_ok=True)
    if not demo.videos:
        demo.tell("1/3 writing synthetic clips: leaves that move, grow, turn and hide each other")
        bar = not demo.quiet
        write_synthetic_clips(clips / "train", count=CLIPS, frames=24, seed=demo.seed, progress=bar)
        write_synthetic_clips(clips / "val", count=3, frames=16, seed=demo.seed + 1, progress=bar)
        return [str(clips / "train")], str(clips / "val")
    demo.tell("1/3 taking your videos")
    if demo.val_videos:
        return list(demo.videos), demo.val_videos
    files = sorted({absolute(file) for source in demo.videos
                    for file in list_videos(source)})
    if len(files) < 2:
        raise InputError(f"{' '.join(demo.videos)}: found {len(files)} video, needed at least 2 "
                         "(one is kept for validation); or name --val_video_dir")
    # A fifth of the videos judges the codec, but no more than three: they take time.
    kept = max(1, min(3, len(files) // 5))
    write_text(clips / "train.txt", "\n".join(files[kept:]) + "\n")
    write_text(clips / "val.txt", "\n".join(files[:kept]) + "\n")
    return [str(clips / "train.txt")], str(clips / "val.txt")


def _train(demo: Demo, train: list[str], val: str, train_intra: TrainIntra) -> None:
    """Both codecs, by the recipe "demo"."""
    recipe = load_recipe("demo")
    demo.tell("2/3 training both codecs: a small VQGAN for the I-frames, then the P-frame codec "
              "stage by stage")
    # Crops are no larger than the smallest of the first videos.
    smallest = min(min(VideoReader(file).size) for source in train
                   for file in list_videos(source)[:1]) // 2 * 2
    recipe = replace(recipe, stages=tuple(
        replace(item, crop_size=min(item.crop_size, smallest)) for item in recipe.stages))
    data = from_dict(DataConfig, {**recipe.data, "use_video_dataset": True,
                                  "train_video_dir": train, "val_video_dir": val})
    config = from_dict(TrainConfig, {**recipe.train, "seed": demo.seed})
    job = RecipeJob(recipe=recipe, data=data, intra=None, train=config, run=demo.folder / "run",
                    device=demo.device, quiet=demo.quiet)
    run_recipe(job, demo.tell, train_intra)


def _show(demo: Demo, val: str) -> dict[str, Any]:
    """Writes summary.txt and the files that it names; returns its numbers."""
    demo.tell("3/3 evaluating on clips that were not trained on")
    run = demo.folder / "run"
    loaded = load_p_frame_checkpoint(run)
    intra = build_intra_codec(loaded.intra, "cpu")
    sequences = VideoValidationDataset(val, max_frames=2 * INTRA_PERIOD)
    results = evaluate(intra, loaded.model, sequences, intra_period=INTRA_PERIOD)
    write_text(demo.folder / "results.json", json.dumps(results, indent=1))
    curves = draw_curves([folder for _, folder in stage_folders(run)], demo.folder / "curves.png")
    frames = _draw_examples(intra, loaded.model, sequences, demo.folder / "frames.png")
    report = _write_report(demo, val, run)
    mean = results["mean"]
    i_frames, p_frames, previous = mean["I"], mean["P"], mean["copy_psnr"]
    gain = p_frames["psnr"] - previous
    text = (f"{results_table(results)}\n\nP-frames {p_frames['psnr']:.2f} dB, the previous frame "
            f"shown again {previous:.2f} dB: {gain:+.2f} dB\n"
            f"mean P-frame rate {p_frames['bpp']:.4f} bpp, I-frame rate {i_frames['bpp']:.4f} bpp "
            f"(estimates: {100 * p_frames['bpp'] / i_frames['bpp']:.0f} % of an I-frame)\n"
            f"curves {curves}\nframes {frames}\nrun    {run}\nreport {report}\n")
    write_text(demo.folder / "summary.txt", text)
    print(text)
    return {"psnr_gain_over_copy_db": gain, "bpp_p": p_frames["bpp"], "bpp_i": i_frames["bpp"],
            "psnr_p": p_frames["psnr"], "psnr_i": i_frames["psnr"], "psnr_copy": previous}


@torch.no_grad()
def _draw_examples(intra: FrameCodec, p_frame: PFrameCodec, sequences: Sequences,
                   path: Path) -> Path:
    """Each sequence's fourth frame: original, the frame before it, that frame moved, reconstruction."""

    def picture(frame: Tensor) -> np.ndarray:
        return to_levels(frame[0]).permute(1, 2, 0).numpy()

    rows = []
    for index in range(min(EXAMPLES, len(sequences))):
        coded = code_sequence(intra, p_frame, sequences.stream(index), intra_period=INTRA_PERIOD)
        for number, (kind, frame, previous, output) in enumerate(coded):
            if number == 3 and kind == "P":
                bpp = float(output.total_bits) / (frame.shape[-1] * frame.shape[-2])
                predicted, _ = p_frame.reconstruct(p_frame.start(previous), frame,
                                                   until="prediction")
                rows += [("original", picture(frame)), ("previous frame", picture(previous)),
                         ("previous frame, moved", picture(predicted.prediction)),
                         (f"P-frame, {bpp:.3f} bpp", picture(output.x_hat))]
                break
    return draw_frames(rows, path)


def _write_report(demo: Demo, val: str, run: Path) -> Path:
    """The page that compares written streams with x264, and with copying the last I-frame."""
    demo.tell("writing streams, and comparing them with x264")
    sequences = [sequence for file in list_videos(val)
                 for sequence in open_sequences(file, max_frames=INTRA_PERIOD)]
    codec = MeasuredCodec(label="dcvc demo", setting="demo", model=str(run),
                          intra_period=INTRA_PERIOD, copy=True)
    ours = evaluate_codecs([codec], sequences, demo.folder / "eval_frames", load_codec,
                           command="dcvc demo")
    anchors = compare(sequences, {"x264": None}, demo.folder / "compare_frames",
                      intra_period=INTRA_PERIOD, command="dcvc demo")
    files = [demo.folder / "eval.json", demo.folder / "compare.json"]
    for file, results in zip(files, (ours, anchors), strict=True):
        write_results(file, results)
    return write_report(files, demo.folder / "report.html", title="dcvc demo")
