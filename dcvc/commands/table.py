"""Make a table of results files for a paper or a spreadsheet: CSV, LaTeX or Markdown."""

import argparse

from dcvc.commands.arguments import add_flag
from dcvc.commands.options import add_published, published_from
from dcvc.commands.output import add_overwrite, check_target
from dcvc.files import write_text
from dcvc.report.results import read_results
from dcvc.report.tables import FORMATS, bd_table, cost_table, points_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", nargs="+", metavar="RESULTS",
                        help="results files of dcvc eval and dcvc compare")
    parser.add_argument("--format", choices=tuple(FORMATS), default="markdown", help="of the table")
    kind = parser.add_mutually_exclusive_group()
    add_flag(kind, "bd", False, "BD rates of every curve and sequence, not the points themselves")
    add_flag(kind, "cost", False, "parameters, multiplications and speed of every curve")
    parser.add_argument("--metric", default="psnr",
                        help="what BD rates are counted by: psnr, psnr_yuv, psnr_planes, ms_ssim …")
    parser.add_argument("--anchor", help="the curve that BD rates are counted against (default: "
                                         "the first anchor)")
    add_published(parser)
    parser.add_argument("-o", "--output", help="the table (default: the terminal)")
    add_overwrite(parser)


def run(options: argparse.Namespace) -> int | None:
    if options.output:
        check_target(options, "output")
    results = [read_results(path) for path in options.results]
    published = published_from(options)
    if options.bd:
        table = bd_table(results, options.metric, options.anchor, published)
    elif options.cost:
        table = cost_table(results)
    else:
        table = points_table(results, published)
    text = FORMATS[options.format](table)
    if options.output:
        write_text(options.output, text)
        print(options.output)
    else:
        print(text, end="")
    return 0
