"""Make one self-contained HTML page of results files: curves, tables, BD rates, decoded frames to compare."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", nargs="+", help="results files of dcvc eval and dcvc compare")
    parser.add_argument("-o", "--output", default="report.html", help="the page (default report.html)")
    parser.add_argument("--anchor", help="the curve that BD rates are counted against (default: the first anchor)")
    parser.add_argument("--title", default="Video codec comparison")


def run(options: argparse.Namespace) -> int | None:
    from dcvc.report import write_report

    print(write_report(options.results, options.output, anchor=options.anchor, title=options.title))
    return 0
