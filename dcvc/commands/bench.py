"""Measure speed on this machine: `dcvc bench data DIR` compares video readers, `dcvc bench index` a million files."""

import argparse
import json
import sys

from dcvc.bench.data import as_table, bench_data, bench_workers, versions
from dcvc.bench.index import bench_index
from dcvc.commands.arguments import add_device
from dcvc.config import MODEL_SIZES
from dcvc.data.video_table import build_table
from dcvc.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("data", "index", "coding", "train"),
                        help="data: OpenCV, torchcodec and PNG files beside our reader; index: a simulated data set of "
                        "many files; coding: the codec itself; train: every stage against a plain loop")
    parser.add_argument("video_dir", nargs="*", help="data: folders, video files, .txt lists of paths or an index")
    parser.add_argument("--gop_size", type=int, default=7, help="frames per sample")
    parser.add_argument("--crop_size", type=int, default=256, help="pixels")
    parser.add_argument("--samples", type=int, default=40, help="samples per reader")
    parser.add_argument("--seed", type=int, default=0, help="which samples")
    parser.add_argument("--png", action="store_true", help="also write the samples as PNG files and read these")
    parser.add_argument("--workers", action="store_true", help="data: also samples/s with one and two loader workers")
    parser.add_argument("--files", type=int, default=1_000_000, help="index: simulated files")
    parser.add_argument("--model_size", choices=tuple(MODEL_SIZES), default="dcvc2021", help="train: which model")
    parser.add_argument("--batch_size", type=int, default=2, help="train: clips")
    parser.add_argument("--repeats", type=int, default=5, help="train, coding: steps of each loop")
    parser.add_argument("--mixed_precision", choices=("no", "bf16"), default="no", help="train: of ours, on a GPU")
    add_device(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _run_training(options: argparse.Namespace) -> None:
    import torch

    from dcvc.bench.training import as_text, bench_checkpointing, bench_training

    device = "cuda" if torch.cuda.is_available() and options.device != "cpu" else "cpu"
    crop = options.crop_size if "crop_size" in options.given else 128
    gop = options.gop_size if "gop_size" in options.given else 2
    result = bench_training(options.model_size, options.batch_size, crop, gop, options.repeats, device=device,
                            mixed_precision=options.mixed_precision)
    if device == "cpu":
        result["checkpointing"] = bench_checkpointing(options.model_size)
    record = {"command": "dcvc bench " + " ".join(sys.argv[2:]), **result, "versions": versions()}
    print(json.dumps(record, indent=1) if options.json else as_text(result))


def run(options: argparse.Namespace) -> None:
    if options.what == "coding":
        from dcvc.bench.coding import as_text, bench_coding

        result = bench_coding(repeats=options.repeats if "repeats" in options.given else 3)
        print(json.dumps({**result, "versions": versions()}, indent=2) if options.json else as_text(result))
        return
    if options.what == "train":
        _run_training(options)
        return
    if options.what == "index":
        print(json.dumps(bench_index(options.files), indent=2))
        return
    if not options.video_dir:
        raise InputError("video_dir: missing, needed a folder of videos after `dcvc bench data`")
    result = bench_data(build_table(options.video_dir), gop=options.gop_size, crop=options.crop_size,
                        samples=options.samples, seed=options.seed, png=options.png)
    if options.workers:
        result["workers"] = bench_workers(options.video_dir, gop=options.gop_size, crop=options.crop_size)
    print(json.dumps({**result, "versions": versions()}, indent=2) if options.json else as_table(result))
