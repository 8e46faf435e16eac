"""Make one self-contained HTML page of results files: curves, tables, BD rates, decoded frames to
compare."""

import argparse
import json

from dcvc.commands.arguments import add_flag
from dcvc.commands.options import add_published, published_from
from dcvc.commands.output import FIGURE, PAGE, add_overwrite, check_target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", nargs="+", metavar="RESULTS",
                        help="results files of dcvc eval and dcvc compare")
    parser.add_argument("-o", "--output", default="report.html", help="the page")
    parser.add_argument("--picture", metavar="PNG", help="also the curves as a picture")
    parser.add_argument("--anchor", help="the curve that BD rates are counted against (default: "
                                         "the first anchor)")
    parser.add_argument("--title", default="Video codec comparison", help="title of the page")
    add_published(parser)
    add_overwrite(parser)
    add_flag(parser, "json", False, "print the BD rates as JSON")


def run(options: argparse.Namespace) -> int | None:
    from dcvc.report.page import report_data, write_page

    check_target(options, "output", PAGE)
    if options.picture:
        check_target(options, "picture", FIGURE)
    data = report_data(options.results, options.anchor, published_from(options))
    written = [write_page(data, options.output, options.title)]
    if options.picture:
        from dcvc.report.figures import draw_rate_distortion

        written.append(draw_rate_distortion(data["points"], options.picture))
    deltas = [{"anchor": data["anchor"], "metric": metric, **row}
              for metric, rows in data["bd"].items() for row in rows]
    if options.json:
        names = dict(zip(("page", "picture"), map(str, written), strict=False))
        print(json.dumps({**names, "bd": deltas}))
    else:
        print(*(bd_line(row) for row in deltas if row["sequence"] in ("mean curve", "all")),
              *written, sep="\n")
    return 0


def bd_line(row: dict) -> str:
    what = f"{row['codec']} against {row['anchor']} by {row['metric']}"
    if row["problem"]:
        return f"{what}: no BD rate, {row['problem']}"
    warning = f" ({row['warning']})" if row["warning"] else ""
    quality = "no common rates" if row["bd_quality"] is None else f"{row['bd_quality']:+.3f} dB"
    return (f"{what}: {row['bd_rate']:+.2f} % rate, {quality}, {row['interpolation']} "
            f"interpolation, {row['overlap']:.0%} overlap{warning}")
