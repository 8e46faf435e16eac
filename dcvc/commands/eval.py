"""Measure trained codecs on whole videos: bits of written streams, PSNR, YUV PSNR and MS-SSIM into a results file."""

import argparse
from pathlib import Path

from dcvc.commands.arguments import add_device, add_flag
from dcvc.commands.sequence_options import (
    add_sequences,
    command_line,
    finish,
    frames_folder,
    sequences_from,
    teller,
)
from dcvc.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_sequences(parser, "results.json")
    parser.add_argument("--model", nargs="+", default=[], help="run folders or checkpoints, one point each")
    parser.add_argument("--name", default="dcvc", help="the curve's name")
    parser.add_argument("--i_frame", nargs="+", default=[], metavar="TYPE:…",
                        help="I-frame codecs: compressai:NAME:QUALITY[:CHECKPOINT] or vqgan:CONFIG:CHECKPOINT")
    add_flag(parser, "intra_only", False, "every --i_frame codec on every frame, no P-frames")
    add_flag(parser, "i_frame_pretrained", True, "published weights for CompressAI codecs without a checkpoint")
    add_flag(parser, "estimate", False, "bits from likelihoods instead of written streams: faster, marked as such")
    add_flag(parser, "decode", True, "decode every stream again, compare and time it")
    add_flag(parser, "copy", False, "also measure copying the last I-frame")
    parser.add_argument("--processes", type=int, default=1, help="share the sequences out over N processes")
    add_device(parser)


def parse_i_frame(text: str, pretrained: bool):
    from dcvc.config import IntraConfig

    kind, *parts = text.split(":")
    if kind == "compressai" and len(parts) in (2, 3) and parts[1].isdigit():
        checkpoint = parts[2] if len(parts) == 3 else None
        return IntraConfig("compressai", parts[0], int(parts[1]), pretrained and checkpoint is None, checkpoint)
    if kind == "vqgan" and len(parts) == 2:
        return IntraConfig("vqgan", vqgan_config=parts[0], vqgan_checkpoint=parts[1])
    raise InputError(f"--i_frame: found {text!r}, needed compressai:NAME:QUALITY[:CHECKPOINT] or "
                     "vqgan:CONFIG:CHECKPOINT")


def jobs_from(options: argparse.Namespace):
    import torch

    from dcvc.evaluate_streams import EvalJob

    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    intra = [parse_i_frame(text, options.i_frame_pretrained) for text in options.i_frame]
    common = {"estimate": options.estimate, "decode": options.decode, "device": device}
    if options.intra_only:
        if not intra:
            raise InputError("--intra_only: found no I-frame codec, needed at least one by --i_frame")
        return [EvalJob(c.model_name if c.type == "compressai" else f"vqgan {Path(c.vqgan_config).stem}",
                        f"q{c.quality}" if c.type == "compressai" else Path(c.vqgan_checkpoint).stem,
                        None, c, 1, **common) for c in intra]
    if not options.model:
        raise InputError("--model: missing, needed at least one run folder or checkpoint (or --intra_only)")
    if len(intra) > 1:
        raise InputError(f"--i_frame: found {len(intra)} codecs, needed one at most unless --intra_only is given")
    names = [Path(model).resolve().name for model in options.model]
    settings = names if len(set(names)) == len(names) else [str(Path(m)) for m in options.model]
    return [EvalJob(options.name, setting, model, intra[0] if intra else None, options.gop_size, copy=options.copy,
                    **common) for setting, model in zip(settings, options.model, strict=True)]


def run(options: argparse.Namespace) -> int | None:
    from dcvc.evaluate_streams import evaluate_codecs

    if options.processes < 1:
        raise InputError(f"--processes: found {options.processes}, needed at least 1")
    sequences = sequences_from(options)
    jobs = jobs_from(options)
    finish(options, evaluate_codecs(jobs, sequences, frames_folder(options.output), command=command_line("eval"),
                                    processes=options.processes, progress=teller(options.quiet)))
    return 0
