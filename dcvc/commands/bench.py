"""Measure speed on this machine: video readers, a large index, coding, training.

dcvc bench data DIR compares this reader with OpenCV, torchcodec and PNG files; dcvc bench index
simulates a data set of a million files; dcvc bench coding and dcvc bench train measure the codecs.
"""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from dcvc.commands.arguments import SubcommandParser, add_device, add_flag
from dcvc.commands.options import add_p_frame, add_sources

# What a measurement gives: its numbers, and how they are printed.
Measured = tuple[dict[str, Any], Callable[[dict[str, Any]], str]]


class Bench(NamedTuple):
    """One subcommand. measures: a phrase for its help."""

    measures: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Measured]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="what", required=True, metavar="KIND",
                                  parser_class=SubcommandParser)
    for name, bench in BENCHES.items():
        text = f"Measure {bench.measures}."
        kind = kinds.add_parser(name, help=bench.measures, description=text)
        bench.add_arguments(kind)
        add_flag(kind, "json", False, "print the numbers as JSON")


def run(options: argparse.Namespace) -> None:
    result, as_text = BENCHES[options.what].run(options)
    from dcvc.bench.data import versions

    record = {"command": "dcvc bench " + " ".join(sys.argv[2:]), **result, "versions": versions()}
    print(json.dumps(record, indent=2) if options.json else as_text(result))


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    add_sources(parser)
    parser.add_argument("--gop_size", type=int, default=7, help="frames of a sample")
    parser.add_argument("--crop_size", type=int, default=256, help="side of a sample in pixels")
    parser.add_argument("--samples", type=int, default=40, help="samples that each reader reads")
    parser.add_argument("--seed", type=int, default=0, help="another number reads other samples")
    add_flag(parser, "png", False, "also write the samples as PNG files, and read these")
    add_flag(parser, "workers", False,
             "also count samples per second with one and with two worker processes")


def _data(options: argparse.Namespace) -> Measured:
    from dcvc.bench.data import as_table, bench_data, bench_workers
    from dcvc.data.video_table import build_table

    shape = {"gop": options.gop_size, "crop": options.crop_size}
    result = bench_data(build_table(options.video_dir), samples=options.samples, seed=options.seed,
                        png=options.png, **shape)
    if options.workers:
        result["workers"] = bench_workers(options.video_dir, **shape)
    return result, as_table


def _index_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--files", type=int, default=1_000_000,
                        help="files of the simulated data set")


def _index(options: argparse.Namespace) -> Measured:
    from dcvc.bench.index import bench_index

    return bench_index(options.files), lambda result: json.dumps(result, indent=2)


def _size(options: argparse.Namespace) -> str:
    from dcvc.inter.registry import codec_entry

    return options.model_size or codec_entry(options.codec).default_size


def _coding_arguments(parser: argparse.ArgumentParser) -> None:
    add_p_frame(parser)
    parser.add_argument("--width", type=int, default=320, help="of a frame, pixels")
    parser.add_argument("--height", type=int, default=192, help="of a frame, pixels")
    parser.add_argument("--frames", type=int, default=4, help="P-frames of a run")
    parser.add_argument("--repeats", type=int, default=3, help="runs; their median counts")


def _coding(options: argparse.Namespace) -> Measured:
    from dcvc.bench.coding import as_text, bench_coding

    return bench_coding(options.codec, _size(options), height=options.height, width=options.width,
                        frames=options.frames, repeats=options.repeats), as_text


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    add_p_frame(parser)
    parser.add_argument("--gop_size", type=int, default=2, help="frames of a sample")
    parser.add_argument("--crop_size", type=int, default=128, help="side of a sample in pixels")
    parser.add_argument("--batch_size", type=int, default=2, help="samples of a step")
    parser.add_argument("--repeats", type=int, default=5,
                        help="steps of each loop; their median counts")
    parser.add_argument("--mixed_precision", choices=("no", "bf16"), default="no",
                        help="number format of this project's loop on a GPU")
    add_flag(parser, "compile", False, "this project's loop by torch.compile")
    add_device(parser)


def _train(options: argparse.Namespace) -> Measured:
    from dcvc.bench.training import as_text, bench_checkpointing, bench_training
    from dcvc.device import choose_device

    size, device = _size(options), choose_device(options.device)
    result = bench_training(options.codec, size, batch=options.batch_size, crop=options.crop_size,
                            gop=options.gop_size, repeats=options.repeats, device=device,
                            mixed_precision=options.mixed_precision, compiled=options.compile)
    if device == "cpu":
        result["checkpointing"] = bench_checkpointing(options.codec, size)
    return result, as_text


BENCHES: dict[str, Bench] = {
    "data": Bench("this reader beside OpenCV, torchcodec and PNG files", _data_arguments, _data),
    "index": Bench("the index of a simulated data set of many files", _index_arguments, _index),
    "coding": Bench("frames per second of an encoder and a decoder", _coding_arguments, _coding),
    "train": Bench("every stage of training beside a plain loop", _train_arguments, _train),
}
