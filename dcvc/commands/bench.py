"""Measure speed on this machine: video readers, a large index, coding, training.

dcvc bench data DIR compares this reader with OpenCV, torchcodec and PNG files; dcvc bench index a simulated data set
of a million files; dcvc bench coding and dcvc bench train the codecs.
"""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from dcvc.commands.arguments import add_device
from dcvc.inter.registry import DEFAULT_CODEC, codec_entry, codec_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="what", required=True, metavar="data|index|coding|train")
    for name, (what, add, _) in KINDS.items():
        kind = kinds.add_parser(name, help=what, description=what.capitalize() + ".", allow_abbrev=False)
        add(kind)
        kind.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> None:
    _, _, measure = KINDS[options.what]
    result, as_text = measure(options)
    from dcvc.bench.data import versions

    record = {"command": "dcvc bench " + " ".join(sys.argv[2:]), **result, "versions": versions()}
    print(json.dumps(record, indent=2) if options.json else as_text(result))


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video_dir", nargs="+", help="folders, video files, .txt lists of paths or an index")
    parser.add_argument("--gop_size", type=int, default=7, help="frames per sample")
    parser.add_argument("--crop_size", type=int, default=256, help="pixels")
    parser.add_argument("--samples", type=int, default=40, help="samples per reader")
    parser.add_argument("--seed", type=int, default=0, help="which samples")
    parser.add_argument("--png", action="store_true", help="also write the samples as PNG files and read these")
    parser.add_argument("--workers", action="store_true", help="also samples/s with one and two loader workers")


def _data(options: argparse.Namespace) -> tuple[dict[str, Any], Callable]:
    from dcvc.bench.data import as_table, bench_data, bench_workers
    from dcvc.data.video_table import build_table

    result = bench_data(build_table(options.video_dir), gop=options.gop_size, crop=options.crop_size,
                        samples=options.samples, seed=options.seed, png=options.png)
    if options.workers:
        result["workers"] = bench_workers(options.video_dir, gop=options.gop_size, crop=options.crop_size)
    return result, as_table


def _index_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--files", type=int, default=1_000_000, help="simulated files")


def _index(options: argparse.Namespace) -> tuple[dict[str, Any], Callable]:
    from dcvc.bench.index import bench_index

    return bench_index(options.files), lambda result: json.dumps(result, indent=2)


def _model_arguments(parser: argparse.ArgumentParser) -> None:
    sizes = {name: None for codec in codec_names() for name in codec_entry(codec).sizes}
    parser.add_argument("--codec", choices=codec_names(), default=DEFAULT_CODEC, help="which P-frame codec")
    parser.add_argument("--model_size", choices=tuple(sizes), help="its size (default: the published one)")


def _coding_arguments(parser: argparse.ArgumentParser) -> None:
    _model_arguments(parser)
    parser.add_argument("--width", type=int, default=320, help="pixels")
    parser.add_argument("--height", type=int, default=192, help="pixels")
    parser.add_argument("--frames", type=int, default=4, help="P-frames of a run")
    parser.add_argument("--repeats", type=int, default=3, help="runs")


def _coding(options: argparse.Namespace) -> tuple[dict[str, Any], Callable]:
    from dcvc.bench.coding import as_text, bench_coding

    size = options.model_size or codec_entry(options.codec).default_size
    return bench_coding(options.codec, size, options.height, options.width, options.frames, options.repeats), as_text


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    _model_arguments(parser)
    parser.add_argument("--gop_size", type=int, default=2, help="frames per sample")
    parser.add_argument("--crop_size", type=int, default=128, help="pixels")
    parser.add_argument("--batch_size", type=int, default=2, help="clips")
    parser.add_argument("--repeats", type=int, default=5, help="steps of each loop")
    parser.add_argument("--mixed_precision", choices=("no", "bf16"), default="no", help="of ours, on a GPU")
    add_device(parser)


def _train(options: argparse.Namespace) -> tuple[dict[str, Any], Callable]:
    from dcvc.bench.training import as_text, bench_checkpointing, bench_training
    from dcvc.device import choose_device

    size = options.model_size or codec_entry(options.codec).default_size
    device = choose_device(options.device)
    result = bench_training(options.codec, size, options.batch_size, options.crop_size, options.gop_size,
                            options.repeats, device=device, mixed_precision=options.mixed_precision)
    if device == "cpu":
        result["checkpointing"] = bench_checkpointing(options.codec, size)
    return result, as_text


# name -> what it measures, how its options are declared, how it runs (-> result, how to print it).
KINDS: dict[str, tuple[str, Callable, Callable]] = {
    "data": ("this video reader beside OpenCV, torchcodec and PNG files", _data_arguments, _data),
    "index": ("a simulated data set of many files", _index_arguments, _index),
    "coding": ("frames per second of encoder and decoder", _coding_arguments, _coding),
    "train": ("every stage of training against a plain loop", _train_arguments, _train),
}
