"""Results files -> the page's data -> the page.

    results files --report_data--> one table of JSON values: --write_page--> one HTML file:
                                   curves, BD deltas,                        page.html, page.css,
                                   pictures                                  page.js, the table

The page computes nothing but what it draws: numbers come from here, so that the terminal shows the
same ones. Everything is inside the one file: it needs no network, and a name from a results file
cannot become a part of the page's code.
"""

import html
import json
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from dcvc.errors import InputError
from dcvc.files import write_text
from dcvc.report.bd import bd, quality_for_bd
from dcvc.report.published import differences
from dcvc.report.rate_history import mean_rate, rates_over_time, waiting_bits, window_frames
from dcvc.report.results import check_results, curves, read_results

METRICS = {"psnr": "RGB PSNR (dB), mean of frames",
           "psnr_of_mean_mse": "RGB PSNR (dB), of mean MSE",
           "psnr_yuv": "YUV 4:2:0 PSNR 6:1:1 (dB)",
           "psnr_planes": "PSNR of the source's planes 6:1:1 (dB)",
           "psnr_y": "PSNR of the source's Y (dB)",
           "xpsnr": "XPSNR of the source's planes 6:1:1 (dB)", "ms_ssim": "MS-SSIM",
           "ms_ssim_planes": "MS-SSIM of the source's planes 6:1:1",
           "ssim_planes": "SSIM of the source's planes 6:1:1", "vmaf": "VMAF",
           "lpips": "LPIPS (lower is better)", "dists": "DISTS (lower is better)",
           "stsim": "STSIM, likeness of textures",
           "flicker": "flicker, levels of 255 (lower is better)"}
BD_METRICS = ("psnr", "psnr_yuv", "psnr_planes", "xpsnr", "ms_ssim", "ms_ssim_planes",
              "ssim_planes", "vmaf")
PERCEPTUAL = ("stsim", "dists", "lpips")
PICTURE_BUDGET = 11_000_000     # characters; the page stays below 15 MB with its numbers


def write_report(results: Sequence[dict | str | os.PathLike], out: str | os.PathLike, *,
                 anchor: str | None = None, title: str = "Video codec comparison") -> Path:
    """Results tables or files -> one HTML page that refers to nothing outside of it; its path.

    anchor: the codec that BD rates are counted against; by default the first anchor in the results.
    Raises InputError (no results, another schema, unknown anchor, files about different frames),
    MissingError, ReadError. Pictures that are gone are left out, and the page says so."""
    return write_page(report_data(results, anchor), out, title)


def report_data(results: Sequence[dict | str | os.PathLike], anchor: str | None = None,
                published: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """What the page shows, as JSON values; see `write_report`. "bd": {metric: rows}. published:
    points from elsewhere (dcvc.report.published)."""
    tables, folders = [], []
    for item in results:
        if isinstance(item, dict):
            check_results(item, "results")
            tables.append(item)
            folders.append(Path())
        else:
            tables.append(read_results(item))
            folders.append(Path(item).parent)
    return page_data(tables, folders, anchor, published)


def write_page(data: dict[str, Any], out: str | os.PathLike, title: str) -> Path:
    """`report_data` -> the page."""
    data = {**data, "title": title}
    page = files("dcvc.report")
    text = page.joinpath("page.html").read_text(encoding="utf-8")
    # "<" could end or nest the script element, wherever a name brought it in.
    payload = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    for mark, value in (("/*STYLE*/", page.joinpath("page.css").read_text(encoding="utf-8")),
                        ("/*SCRIPT*/", page.joinpath("page.js").read_text(encoding="utf-8")),
                        ("<!--TITLE-->", html.escape(title)), ("/*DATA*/", payload)):
        text = text.replace(mark, value)
    write_text(out, text)
    return Path(out)


def checked_points(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same points. Raises InputError where there are none, or two of one name."""
    if not points:
        raise InputError("report: found no measured point in the results, needed at least one")
    names = [f"{point['codec']} {point['setting']}" for point in points]
    double = next((name for name in names if names.count(name) > 1), None)
    if double:
        raise InputError(f"report: found '{double}' twice in the results, needed every point "
                         "once; give another --name to dcvc eval")
    return points


def chosen_anchor(points: list[dict[str, Any]], anchor: str | None) -> str:
    """The curve that BD rates are counted against. Raises InputError for one that is not there."""
    kinds = {point["codec"]: point["kind"] for point in points}
    if anchor is not None and anchor not in kinds:
        raise InputError(f"--anchor: found {anchor!r}, needed one of {', '.join(kinds)}")
    # The curve with most points serves where nothing is called an anchor.
    longest = max(kinds, key=lambda codec: sum(point["codec"] == codec for point in points))
    return anchor or next((codec for codec, kind in kinds.items() if kind == "anchor"), longest)


def page_data(tables: list[dict[str, Any]], folders: list[Path], anchor: str | None,
              published: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """Everything the page shows, as JSON values."""
    from dcvc.report.pictures import HEAT_FULL_SCALE  # late: tables are made without pictures

    if not tables:
        raise InputError("report: found no results, needed at least one results file")
    sequences = joined_sequences(tables)
    points = checked_points([*(point for table in tables for point in table["points"]), *published])
    kinds = {point["codec"]: point["kind"] for point in points}
    anchor = chosen_anchor(points, anchor)
    pictures, lost = _pictures(tables, folders)
    return {
        "metrics": shown_metrics(points),
        "codecs": kinds, "anchor": anchor, "sequences": sequences,
        "points": [_slim(point, {s["name"]: s["fps"] for s in sequences}) for point in points],
        "bd": {m: bd_rows(points, m, anchor, [s["name"] for s in sequences]) for m in BD_METRICS
               if any(m in point["mean"] for point in points)},
        "pictures": pictures, "lost_pictures": lost, "crops": _crops(tables, folders),
        "missing": [gone for table in tables for gone in table.get("missing", [])],
        "notes": list(dict.fromkeys([note for table in tables for note in table.get("notes", [])]
                                    + differences(list(published), tables[0]))),
        "heat_scale": HEAT_FULL_SCALE,
        "made": [{"command": t["command"], "settings": t.get("settings", {}),
                  "made_by": t.get("made_by", {})}
                 for t in tables],
    }


def shown_metrics(points: list[dict[str, Any]]) -> dict[str, str]:
    """What was measured, the page's first choice in front: PSNR, but the perceptual metric of codecs
    with codes, where it was measured for all of those. Pixels tell little about what they paint."""
    found = [key for key in METRICS if any(key in point["mean"] for point in points)]
    tokens = [point for point in points if "perplexity" in point["mean"]]
    for name in PERCEPTUAL:
        if tokens and all(name in point["mean"] for point in tokens):
            # One that was fitted to people's judgements comes last here, and so first of all.
            found.sort(key=lambda key, first=name: key != first)
    return {key: METRICS[key] for key in found}


def joined_sequences(tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sequences of all tables. Raises InputError where tables are about different frames."""
    first = {s["name"]: s for s in tables[0]["sequences"]}
    for table in tables[1:]:
        other = {s["name"]: s for s in table["sequences"]}
        if other.keys() != first.keys():
            only = sorted(other.keys() ^ first.keys())
            raise InputError(f"report: sequence '{only[0]}' is in one results file only; needed "
                             "the same in all")
        for name, sequence in other.items():
            if sequence.get("digest") != first[name].get("digest"):
                raise InputError(f"report: sequence '{name}' has other frames in two results files "
                                 f"({first[name]['frames']} and {sequence['frames']} frames); "
                                 "needed the same content")
    return list(first.values())


def _slim(point: dict[str, Any], fps: dict[str, float]) -> dict[str, Any]:
    """A point with its per-frame numbers rounded: pages are read, not computed with. fps: of each
    sequence."""
    rows = []
    # What others publish of single sequences has no frames: BD rates use it, the page's curves do
    # not.
    for row in point["sequences"] if point["kind"] != "published" else ():
        frames = row["per_frame"]
        terms = {term: [round(v) for v in values]
                 for term, values in frames.get("terms", {}).items()}
        rows.append({**{k: v for k, v in row.items() if k not in ("per_frame", "snapshot")},
                     "type": frames["type"], "frame_bits": [round(v) for v in frames["bits"]],
                     "shown": (row["snapshot"] or {}).get("frame"),
                     "frame_psnr": [round(v, 2) for v in frames["psnr"]], "terms": terms,
                     "over_time": _over_time(frames["bits"], fps[row["name"]])})
    return {**point, "sequences": rows}


def _over_time(bits: list[float], fps: float) -> dict[str, Any]:
    """kbit/s in the window that ends with each frame, and seconds that wait in a channel of the mean
    rate."""
    mean = mean_rate(bits, fps)
    return {"fps": fps, "window": window_frames(len(bits), fps), "mean": round(mean / 1000, 2),
            "rate": [rate if rate is None else round(rate / 1000, 2)
                     for rate in rates_over_time(bits, fps)],
            "waiting": [round(waiting / mean, 3) if mean else 0.0
                        for waiting in waiting_bits(bits, mean, fps)]}


def bd_rows(points: list[dict], metric: str, anchor: str,
            sequences: list[str]) -> list[dict[str, Any]]:
    """BD of every codec but the anchor, over the mean curve and per sequence; a codec that has no
    number anywhere for the same reason gets one row."""
    rows_of: dict[str, list[dict[str, Any]]] = {}
    for name in [None, *sequences]:
        by_codec = {codec: [(rate, quality_for_bd(metric, quality)) for rate, quality in values]
                    for codec, values in curves(points, metric, name).items()}
        for codec, curve in by_codec.items():
            if codec != anchor:
                delta = bd(by_codec.get(anchor, []), curve).as_dict()
                row = {"sequence": name or "mean curve", "codec": codec, **delta}
                rows_of.setdefault(codec, []).append(row)
    for rows in rows_of.values():
        if len(rows) > 1 and rows[0]["problem"] and len({row["problem"] for row in rows}) == 1:
            rows[:] = [{**rows[0], "sequence": "all"}]
    return [row for rows in rows_of.values() for row in rows]


def _pictures(tables: list[dict], folders: list[Path]) -> tuple[dict, list[str]]:
    from dcvc.report.crops import located  # late: loads NumPy and Pillow
    from dcvc.report.pictures import embed

    originals: dict[str, Path] = {}
    decoded: dict[str, tuple[str, Path]] = {}
    for table, folder in zip(tables, folders, strict=True):
        for sequence in table["sequences"]:
            file = (sequence.get("snapshot") or {}).get("file")
            if file and sequence["name"] not in originals:
                originals[sequence["name"]] = located(file, folder)
        for point in table["points"]:
            for row in point["sequences"]:
                file = (row.get("snapshot") or {}).get("file")
                if file:
                    key = f"{point['codec']}|{point['setting']}|{row['name']}"
                    decoded[key] = (row["name"], located(file, folder))
    return embed(originals, decoded, PICTURE_BUDGET)


def _crops(tables: list[dict], folders: list[Path]) -> list[list[dict[str, str]]]:
    """Rows of {"title", "image"}: the same part of a frame by every codec, at about the same rate."""
    from dcvc.report.crops import crop_rows, nearest_in_rate  # late: loads NumPy and Pillow
    from dcvc.report.pictures import square_uri

    points = [(point, folder) for table, folder in zip(tables, folders, strict=True)
              for point in table["points"]]
    sequences = [(sequence, folders[0]) for sequence in tables[0]["sequences"]]
    return [[{"title": title, "image": square_uri(square)} for title, square in row]
            for row in crop_rows(sequences, nearest_in_rate(points)) if len(row) > 1]
