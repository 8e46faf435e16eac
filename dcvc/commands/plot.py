"""Draw rate-distortion curves of results files for a paper, as PDF, SVG or PNG."""

import argparse

from dcvc.commands.arguments import add_flag
from dcvc.commands.options import add_published, published_from
from dcvc.commands.output import FIGURE, add_overwrite, check_target
from dcvc.report.paper_figure import LABELS, WIDTHS, PaperFigure, draw_paper_figure
from dcvc.report.results import read_results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", nargs="+", metavar="RESULTS",
                        help="results files of dcvc eval and dcvc compare; points of one name in "
                             "several files are runs of one codec, drawn as their mean with "
                             "standard deviations")
    parser.add_argument("-o", "--output", default="figure.pdf", help="a .pdf, .svg or .png file")
    parser.add_argument("--metric", nargs="+", default=["psnr"], choices=tuple(LABELS),
                        metavar="METRIC", help=f"a panel each: {', '.join(LABELS)}")
    parser.add_argument("--sequence", metavar="NAME", help="one sequence (default: the mean)")
    parser.add_argument("--rate", choices=("log", "linear"), default="log", help="the rate's axis")
    parser.add_argument("--width", choices=tuple(WIDTHS), default="column",
                        help="of a column (3.5 inches) or of the page (7.16)")
    add_flag(parser, "difference", False,
             "beneath, the quality against the anchor's at equal rate")
    parser.add_argument("--anchor", help="the curve that differences are counted against (default: "
                                         "the first anchor)")
    add_published(parser)
    add_overwrite(parser)


def run(options: argparse.Namespace) -> int | None:
    check_target(options, "output", FIGURE)
    figure = PaperFigure(
        metrics=tuple(dict.fromkeys(options.metric)), sequence=options.sequence, rate=options.rate,
        width=options.width, difference=options.difference, anchor=options.anchor)
    caption = draw_paper_figure([read_results(path) for path in options.results], options.output,
                                figure, published_from(options))
    print(caption, options.output, sep="\n")
    return 0
