"""Measure x264, x265, AV1 and VP9, or a program of yours, with the frames and the metrics of dcvc
eval."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dcvc.commands.options import (
    add_lpips,
    add_metrics,
    add_processes,
    add_qualities,
    add_sequences,
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
from dcvc.errors import InputError
from dcvc.evaluation.anchor_modes import MODES, PIXELS
from dcvc.files import home_cache

if TYPE_CHECKING:
    from dcvc.device.processes import Share


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_sequences(parser)
    add_metrics(parser)
    add_lpips(parser, "measure LPIPS too")
    parser.add_argument("--anchors", nargs="*", default=["x264", "x265", "svt-av1", "vp9"],
                        metavar="NAME[:CRF,CRF…]",
                        help="x264, x265, svt-av1, aom-av1 or vp9, with the CRF values to "
                             "measure, if you like: x264:22,27,32,37; none at all with "
                             "--anchor_command")
    add_qualities(parser, "measure anchors without CRF values of their own at these qualities: 0 "
                          "(the encoder's largest CRF) to 63 (CRF 0), as dcvc eval takes them")
    parser.add_argument("--speed", help="the encoder's own preset: medium, veryslow … for x264 and "
                                        "x265, 8 … for svt-av1, 4 … for vp9")
    parser.add_argument("--anchor_mode", nargs="+", choices=MODES, default=MODES[:1],
                        metavar="MODE", help=f"{', '.join(MODES)}, a curve each: no look-ahead; look-ahead, 4 "
                             "references, only to earlier frames; B-frames")
    parser.add_argument("--anchor_pixels", choices=PIXELS,
                        help="what the encoders get (default: yuv420p, or the source's own planes "
                             "with --conditions)")
    parser.add_argument("--anchor_command", nargs=2, action="append", default=[],
                        metavar=("NAME", "COMMAND"),
                        help="a program of yours, with {input} {bitstream} {output} {quality} "
                             "and, if you like, {width} {height} {frames} {fps} {intra_period} {depth} "
                             "{chroma}; && between several commands; may be given repeatedly")
    parser.add_argument("--command_qualities", type=int, nargs="+", default=[22, 27, 32, 37],
                        metavar="Q", help="what {quality} stands for, a point each")
    parser.add_argument("--command_seconds", type=float, default=86400.0, metavar="S",
                        help="end a command that takes longer")
    add_processes(parser, "anchors and sequences")
    parser.add_argument("--cache", default=str(home_cache() / "anchors"), metavar="DIR",
                        help="where results are kept, for the next call with these frames and settings")
    parser.add_argument("--no_cache", action="store_true",
                        help="measure everything anew and keep nothing")
    add_results_output(parser, "anchors.json")


def parse_anchor(text: str) -> tuple[str, tuple[int, ...] | None]:
    """"x264:22,27" -> ("x264", (22, 27)); "x264" -> ("x264", None)."""
    name, colon, values = text.partition(":")
    if not colon:
        return name, None
    try:
        return name, tuple(int(value) for value in values.split(","))
    except ValueError:
        raise InputError(f"--anchors: found {text!r}, needed NAME or NAME:CRF,CRF… with whole "
                         "numbers") from None


def programs_from(options: argparse.Namespace):
    """The user's own encoders (dcvc.evaluation.anchor_program), checked. Raises InputError."""
    from dcvc.evaluation.anchor_program import Program

    if not options.command_seconds > 0:
        raise InputError(f"--command_seconds: found {options.command_seconds:g}, needed above 0")
    names = [name for name, _ in options.anchor_command]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise InputError(f"--anchor_command: found {double} twice, needed a name for each")
    qualities = tuple(dict.fromkeys(options.command_qualities))
    programs = tuple(Program(name, template, qualities, options.command_seconds)
                     for name, template in options.anchor_command)
    for program in programs:
        program.check()
    return programs


def run(options: argparse.Namespace) -> int | None:
    from dcvc.device.processes import shared

    # First: other processes import the library while this one does.
    with shared(processes_from(options), "dcvc.evaluation.anchors") as share:
        return _run(options, share)


def _run(options: argparse.Namespace, share: "Share") -> int:
    from dcvc.evaluation.anchor_encoders import find_anchor
    from dcvc.evaluation.anchors import compare

    anchors: dict[str, tuple[int, ...] | None] = {}
    for name, qualities in map(parse_anchor, options.anchors):
        if name in anchors:
            raise InputError(f"--anchors: found {name} twice, needed its CRF values together: "
                             f"{name}:22,27,32,37")
        if qualities is None and options.qualities:
            qualities = tuple(map(find_anchor(name).crf, options.qualities))
        anchors[name] = qualities
    programs = programs_from(options)
    if not anchors and not programs:
        raise InputError("--anchors: found none, and no --anchor_command, needed one of them")
    metrics, lpips = metrics_from(options)
    check_results_output(options)
    sequences, intra_period = sequences_from(options)
    results = compare(sequences, anchors, frames_folder(options.output), intra_period=intra_period,
                      preset=options.speed, cache=None if options.no_cache else Path(options.cache),
                      command=command_line("compare"), lpips=lpips, metrics=metrics,
                      modes=tuple(dict.fromkeys(options.anchor_mode)),
                      pixels=options.anchor_pixels, programs=programs,
                      share=share, progress=frame_progress(options))
    write_and_print(options, results)
    return 0
