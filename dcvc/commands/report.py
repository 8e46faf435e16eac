"""Make one self-contained HTML page of results files: curves, tables, BD rates, decoded frames to compare."""

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", nargs="+", help="results files of dcvc eval and dcvc compare")
    parser.add_argument("-o", "--output", default="report.html", help="the page (default report.html)")
    parser.add_argument("--anchor", help="the curve that BD rates are counted against (default: the first anchor)")
    parser.add_argument("--title", default="Video codec comparison")
    parser.add_argument("--json", action="store_true", help="print the Bjontegaard deltas as JSON")


def run(options: argparse.Namespace) -> int | None:
    from dcvc.report.page import report_data, write_page

    data = report_data(options.results, options.anchor)
    written = write_page(data, options.output, options.title)
    deltas = [{"anchor": data["anchor"], "metric": metric, **row}
              for metric, rows in data["bd"].items() for row in rows]
    if options.json:
        print(json.dumps({"page": str(written), "bd": deltas}))
    else:
        print(*(bd_line(row) for row in deltas if row["sequence"] in ("mean curve", "all")), written, sep="\n")
    return 0


def bd_line(row: dict) -> str:
    what = f"{row['codec']} against {row['anchor']} by {row['metric']}"
    if row["problem"]:
        return f"{what}: no BD rate, {row['problem']}"
    warning = f" ({row['warning']})" if row["warning"] else ""
    quality = "no common rates" if row["bd_quality"] is None else f"{row['bd_quality']:+.3f} dB"
    return (f"{what}: {row['bd_rate']:+.2f} % rate, {quality}, {row['interpolation']} interpolation, "
            f"{row['overlap']:.0%} overlap{warning}")
