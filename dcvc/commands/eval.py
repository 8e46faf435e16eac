"""Measure trained codecs on whole videos: bits of written streams, PSNR, YUV PSNR, MS-SSIM (LPIPS)
into a results file. With --intra_only: I-frame codecs on every frame, side by side."""

import argparse
from dataclasses import replace
from functools import cache
from pathlib import Path

from dcvc.commands.arguments import add_device, add_flag, add_options
from dcvc.commands.options import (
    add_dists,
    add_exact,
    add_lpips,
    add_metrics,
    add_processes,
    add_qualities,
    add_refresh,
    add_sequences,
    dists_from,
    metrics_from,
    processes_from,
    sequences_from,
)
from dcvc.commands.output import (
    add_results_output,
    check_results_output,
    command_line,
    frame_progress,
    frames_folder,
    write_and_print,
)
from dcvc.commands.rates import add_quality_steps, steps_from
from dcvc.entropy.frame_head import written_quality
from dcvc.errors import InputError
from dcvc.intra.config import IntraConfig

RATES = ("uniform", "static", "prior")
FORMS = "compressai:NAME:QUALITY[,QUALITY…][:CHECKPOINT] or vqgan:CONFIG:CHECKPOINT[:RATE[,RATE…]]"
# One I-frame codec of --i_frame, and which rate models of a VQGAN to measure (None: all).
Intra = tuple[IntraConfig, tuple[str, ...] | None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_sequences(parser)
    add_metrics(parser)
    add_lpips(parser, "measure LPIPS too")
    add_dists(parser, "measure DISTS too")
    parser.add_argument("--model", nargs="+", default=[], metavar="RUN",
                        help="run folders or checkpoint files, one point of the curve each (with "
                             "--qualities a curve each)")
    add_qualities(parser, "measure each model at these qualities, 0 to 63, higher is better, in "
                          "quarter steps (default: its middle)")
    add_quality_steps(parser)
    add_refresh(parser)
    add_exact(parser)
    parser.add_argument("--name", default="dcvc", help="the curve's name")
    parser.add_argument("--i_frame", nargs="+", default=[], metavar="TYPE:…",
                        help=f"I-frame codecs: {FORMS}; RATE is uniform, static or prior "
                             "(default: all that the checkpoint holds)")
    add_options(parser, IntraConfig, ("pretrained", "weights", "tile"), pretrained={
        "help": "CompressAI's published weights, for --i_frame codecs without a checkpoint"})
    add_flag(parser, "intra_only", False,
             "measure every --i_frame codec on every frame, no P-frames; the curves are drawn too, "
             "beside the results file (.png), and the same crop of every codec (crops.png)")
    add_flag(parser, "estimate", False,
             "take the bits from likelihoods and write no streams: faster, but marked as an estimate")
    add_flag(parser, "decode", True,
             "decode every stream again, compare its frames, and measure the time")
    add_flag(parser, "cost", False,
             "also count each model's parameters and multiplications a pixel, for dcvc table --cost")
    add_flag(parser, "flicker", False,
             "measure how much the error changes from frame to frame along the motion")
    add_flag(parser, "copy", False, "also measure showing the last I-frame again until the next one")
    add_processes(parser, "models and sequences")
    add_device(parser)
    add_results_output(parser, "results.json")


def parse_i_frame(text: str, pretrained: bool) -> list[Intra]:
    """One value of --i_frame -> its codecs, one for each quality. Raises InputError."""
    kind, *parts = text.split(":")
    # The second part is the qualities or the weights; the third may be left out.
    qualities = parts[1].split(",") if len(parts) in (2, 3) else []
    third = parts[2] if len(parts) == 3 else None
    if kind == "compressai" and qualities and all(quality.isdigit() for quality in qualities):
        if third and len(qualities) > 1:
            raise InputError(f"--i_frame: found {len(qualities)} qualities with one checkpoint in "
                             f"{text!r}, needed one")
        published = pretrained and third is None
        return [(IntraConfig(type=kind, model_name=parts[0], quality=int(quality),
                             pretrained=published, checkpoint=third), None)
                for quality in qualities]
    if kind == "vqgan" and qualities:
        rates = tuple(third.split(",")) if third is not None else None
        if rates and not set(rates) <= set(RATES):
            raise InputError(f"--i_frame: found rate models {third!r}, needed some of "
                             f"{', '.join(RATES)}")
        # Weights that come with their configuration need no other: vqgan::FOLDER.
        return [(IntraConfig(type=kind, vqgan_config=parts[0] or None, vqgan_checkpoint=parts[1]),
                 rates)]
    raise InputError(f"--i_frame: found {text!r}, needed {FORMS}")


def codecs_from(options: argparse.Namespace, intra_period: int):
    """The codecs to measure (dcvc.evaluation.measured_codec), checked. Raises InputError."""
    from dcvc.device import choose_device

    intra = [(replace(config, weights=options.weights,
                      tile=options.tile if config.type == "vqgan" else None), rates)
             for text in options.i_frame
             for config, rates in parse_i_frame(text, options.i_frame_pretrained)]
    metrics, lpips = metrics_from(options)
    common = {"weights": options.weights,
              "estimate": options.estimate, "decode": options.decode,
              "device": choose_device(options.device), "lpips": lpips, "metrics": metrics, "dists": dists_from(options),
              "with_flicker": options.flicker}
    if options.intra_only:
        return _intra_codecs(options, intra, common)
    if not options.model:
        raise InputError("--model: missing, needed at least one run folder or checkpoint (or "
                         "--intra_only)")
    if len(intra) > 1:
        raise InputError(f"--i_frame: found {len(intra)} codecs, needed one at most unless "
                         "--intra_only is given")
    if intra and intra[0][1]:
        raise InputError("--i_frame: found a rate model, which only --intra_only compares; "
                         "streams take the best one")
    from dcvc.evaluation.measured_codec import MeasuredCodec

    names = distinct(options.model)
    common |= {"intra": intra[0][0] if intra else None, "intra_period": intra_period,
               "copy": options.copy, "refresh": options.refresh, "exact": options.exact,
               "steps": steps_from(options)}
    if not options.qualities:
        return [MeasuredCodec(label=options.name, setting=names[model], model=model, **common)
                for model in options.model]
    # A model is a curve of its own here, so several of them need names that differ.
    several = len(options.model) > 1
    # Named as they are written: two that are one in a stream are one point of the curve.
    qualities = list(map(written_quality, options.qualities))
    return [MeasuredCodec(label=f"{options.name} {names[model]}" if several else options.name,
                          setting=f"q{quality:g}", model=model, quality=quality, **common)
            for model in options.model for quality in qualities]


def _intra_codecs(options: argparse.Namespace, intra: list[Intra], common: dict):
    from dcvc.evaluation.measured_codec import MeasuredCodec

    if options.qualities or options.refresh:
        raise InputError("--intra_only: found --qualities or --refresh too, which are of a --model")
    if options.model:
        raise InputError("--intra_only: found --model too, which has P-frames; give one of them")
    if not intra:
        raise InputError("--intra_only: found no I-frame codec, needed at least one by --i_frame")
    names = distinct([config.vqgan_checkpoint for config, _ in intra if config.type == "vqgan"])
    codecs = []
    for config, rates in intra:
        vqgan = config.type == "vqgan"
        codecs.append(MeasuredCodec(
            label="VQGAN" if vqgan else config.model_name,
            setting=names[config.vqgan_checkpoint] if vqgan else f"q{config.quality}",
            model=None, intra=config, intra_period=1, rate_models=rates, **common))
    return codecs


def distinct(paths: list[str]) -> dict[str, str]:
    """A short name for each path: its last part, or all of it where two end alike."""
    whole = {path: Path(path).resolve() for path in paths}
    short = {path: file.stem if file.is_file() else file.name for path, file in whole.items()}
    if len(set(short.values())) == len(short):
        return short
    return {path: str(Path(path)) for path in paths}


def run(options: argparse.Namespace) -> int | None:
    from dcvc.checkpoint import load_codec
    from dcvc.evaluation.run import evaluate_codecs

    processes = processes_from(options)
    check_results_output(options, figure=options.intra_only)
    sequences, intra_period = sequences_from(options)
    codecs, folder = codecs_from(options, intra_period), frames_folder(options.output)
    cost = None
    if options.cost:
        from dcvc.bench.macs import cost_of

        cost = cache(cost_of)
    results = evaluate_codecs(codecs, sequences, folder, load_codec, command=command_line("eval"),
                              cost=cost, processes=processes, progress=frame_progress(options))
    write_and_print(options, results)
    if options.intra_only:
        from dcvc.report.crops import draw_crops
        from dcvc.report.figures import draw_rate_distortion

        picture = draw_rate_distortion(results["points"], Path(options.output).with_suffix(".png"))
        crops = draw_crops(results, frames_folder(options.output) / "crops.png")
        if not options.json:
            print(*filter(None, (picture, crops)), sep="\n")
    return 0
