"""Measure trained codecs on whole videos: bits of written streams, PSNR, YUV PSNR, MS-SSIM (LPIPS) into a results
file. With --intra_only: I-frame codecs on every frame, side by side."""

import argparse
from pathlib import Path

from dcvc.commands.arguments import add_device, add_flag
from dcvc.commands.options import (
    add_sequences,
    command_line,
    finish,
    frames_folder,
    progress_of,
    sequences_from,
)
from dcvc.errors import InputError

RATES = ("uniform", "static", "prior")
FORMS = "compressai:NAME:QUALITY[,QUALITY…][:CHECKPOINT] or vqgan:CONFIG:CHECKPOINT[:RATE[,RATE…]]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_sequences(parser, "results.json")
    parser.add_argument("--model", nargs="+", default=[], help="run folders or checkpoints, one point each (one per λ)")
    parser.add_argument("--name", default="dcvc", help="the curve's name")
    parser.add_argument("--i_frame", nargs="+", default=[], metavar="TYPE:…",
                        help=f"I-frame codecs: {FORMS}; RATE is uniform, static or prior (default: all that the "
                             "checkpoint holds)")
    add_flag(parser, "intra_only", False, "every --i_frame codec on every frame, no P-frames; draws OUTPUT.png too")
    add_flag(parser, "i_frame_pretrained", True, "published weights for CompressAI codecs without a checkpoint")
    add_flag(parser, "estimate", False, "bits from likelihoods instead of written streams: faster, marked as such")
    add_flag(parser, "decode", True, "decode every stream again, compare and time it")
    add_flag(parser, "copy", False, "also measure copying the last I-frame")
    parser.add_argument("--processes", type=int, default=1, help="share models and sequences out over N processes")
    add_device(parser)


def parse_i_frame(text: str, pretrained: bool) -> list[tuple]:
    """One --i_frame value -> [(IntraConfig, rate models or None)], one for each quality."""
    from dcvc.intra.config import IntraConfig

    kind, *parts = text.split(":")
    if kind == "compressai" and len(parts) in (2, 3) and all(q.isdigit() for q in parts[1].split(",")):
        checkpoint, qualities = (parts[2] if len(parts) == 3 else None), parts[1].split(",")
        if checkpoint and len(qualities) > 1:
            raise InputError(f"--i_frame: found {len(qualities)} qualities with one checkpoint in {text!r}, needed one")
        return [(IntraConfig("compressai", parts[0], int(quality), pretrained and checkpoint is None, checkpoint), None)
                for quality in qualities]
    if kind == "vqgan" and len(parts) in (2, 3):
        rates = tuple(parts[2].split(",")) if len(parts) == 3 else None
        if rates and not set(rates) <= set(RATES):
            raise InputError(f"--i_frame: found rate models {parts[2]!r}, needed some of {', '.join(RATES)}")
        return [(IntraConfig("vqgan", vqgan_config=parts[0], vqgan_checkpoint=parts[1]), rates)]
    raise InputError(f"--i_frame: found {text!r}, needed {FORMS}")


def jobs_from(options: argparse.Namespace):
    from dcvc.device import choose_device
    from dcvc.evaluation.job import EvalJob

    intra = [pair for text in options.i_frame for pair in parse_i_frame(text, options.i_frame_pretrained)]
    common = {"estimate": options.estimate, "decode": options.decode, "device": choose_device(options.device),
              "lpips": tuple(options.lpips_weights)}
    if options.intra_only:
        if options.model:
            raise InputError("--intra_only: found --model too, which has P-frames; give one of them")
        if not intra:
            raise InputError("--intra_only: found no I-frame codec, needed at least one by --i_frame")
        names = distinct([c.vqgan_checkpoint for c, _ in intra if c.type == "vqgan"])
        return [EvalJob(c.model_name if c.type == "compressai" else "VQGAN",
                        f"q{c.quality}" if c.type == "compressai" else names[c.vqgan_checkpoint],
                        None, c, 1, rate_models=rates, **common) for c, rates in intra]
    if not options.model:
        raise InputError("--model: missing, needed at least one run folder or checkpoint (or --intra_only)")
    if len(intra) > 1:
        raise InputError(f"--i_frame: found {len(intra)} codecs, needed one at most unless --intra_only is given")
    if intra and intra[0][1]:
        raise InputError("--i_frame: found a rate model, which only --intra_only compares; streams take the best one")
    names = distinct(options.model)
    return [EvalJob(options.name, names[model], model, intra[0][0] if intra else None, options.gop_size,
                    copy=options.copy, **common) for model in options.model]


def distinct(paths: list[str]) -> dict[str, str]:
    """A short name for each path: its last part, or all of it where two end alike."""
    short = {path: Path(path).resolve().stem if Path(path).is_file() else Path(path).resolve().name for path in paths}
    return short if len(set(short.values())) == len(short) else {path: str(Path(path)) for path in paths}


def run(options: argparse.Namespace) -> int | None:
    from dcvc.evaluation.run import evaluate_codecs

    if options.processes < 1:
        raise InputError(f"--processes: found {options.processes}, needed at least 1")
    sequences = sequences_from(options)
    jobs = jobs_from(options)
    results = evaluate_codecs(jobs, sequences, frames_folder(options.output), command=command_line("eval"),
                              processes=options.processes, progress=progress_of(options))
    finish(options, results)
    if options.intra_only:
        from dcvc.report.figures import draw_rate_distortion

        picture = draw_rate_distortion(results, Path(options.output).with_suffix(".png"))
        if not options.json:
            print(picture)
    return 0
