"""Points from results files of microsoft/DCVC and microsoft/mlvc, and of whoever writes their
layout.

    {"UVG": {"Beauty_1920x1080_120fps_420_8bit_YUV.yuv": {"022": {"ave_all_frame_bpp": 0.0572,
                                                                  "ave_all_frame_psnr": 40.08,
                                                                  "ave_all_frame_psnr_y": 39.91, …
                                                                  "i_frame_num": 3, "p_frame_num":
                                                                  93}, …

Data sets, sequences, rates. Where a rate tells PSNR of Y, its planes were judged: `psnr` is then (6
Y + U + V) / 8, our psnr_planes. Where it does not, `psnr` is that of RGB. A similarity of 0 was not
measured.

Of a data set that has all of our sequences, by their names without ending, these alone count, one
by one and as their mean. Of a file that has them not, each data set is a curve of its own, and the
page's notes say that it is about other sequences. Points of two sequences belong together by the
name of their rate, or where names differ by their order.
"""

import math
import statistics
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Any

from dcvc.errors import InputError

BPP = "ave_all_frame_bpp"
# Their names -> ours, where the planes were judged, and for RGB.
OF_PLANES = {"psnr": "psnr_planes", "psnr_y": "psnr_y", "psnr_u": "psnr_u", "psnr_v": "psnr_v",
             "msssim": "ms_ssim_planes", "msssim_y": "ms_ssim_y", "msssim_u": "ms_ssim_u",
             "msssim_v": "ms_ssim_v", "psnr_rgb": "psnr", "msssim_rgb": "ms_ssim", "lpips": "lpips"}
OF_RGB = {"psnr": "psnr", "msssim": "ms_ssim", "psnr_rgb": "psnr", "msssim_rgb": "ms_ssim",
          "lpips": "lpips"}
NEEDED = ("needed data sets of sequences of rates with ave_all_frame_bpp and ave_all_frame_psnr, as "
          "microsoft/DCVC writes them")
# A sequence's rates: name -> what was measured.
Rates = dict[str, dict[str, Any]]


def points_of_json(values: Any, where: str, name: str, sequences: Collection[str],
                   unsaid: str) -> list[dict[str, Any]]:
    """The file's points, as results have them. name: of the curve; sequences: of our results;
    unsaid: stands for a condition that the file does not tell. Raises InputError."""
    sets = _checked(values, where)
    plain = {data_set: {PurePosixPath(sequence).stem if sequence.endswith(".yuv") else sequence: rates
                        for sequence, rates in found.items()}
             for data_set, found in sets.items()}
    ours = [data_set for data_set, found in plain.items() if sequences and set(sequences) <= set(found)]
    if ours:
        chosen = {name: {sequence: plain[ours[0]][sequence] for sequence in sequences}}
    else:
        several = len(plain) > 1
        chosen = {f"{name} {data_set}" if several else name: found
                  for data_set, found in plain.items()}
    return [point for codec, found in chosen.items()
            for point in _points(found, where, codec, bool(ours), unsaid)]


def _checked(values: Any, where: str) -> dict[str, dict[str, Rates]]:
    """The same values. Raises InputError for another layout."""
    def tables(value: Any, what: str) -> dict:
        if not isinstance(value, dict) or not value:
            raise InputError(f"{where}: found {type(value).__name__} {what}, {NEEDED}")
        return value

    for data_set, found in tables(values, "at its top").items():
        for sequence, rates in tables(found, f"as the data set '{data_set}'").items():
            for rate, row in tables(rates, f"as '{sequence}'").items():
                missing = [key for key in (BPP, "ave_all_frame_psnr", "ave_all_frame_psnr_rgb")
                           if not _is_number(tables(row, f"as '{sequence}' {rate}").get(key))]
                if BPP in missing or len(missing) > 1:
                    raise InputError(f"{where}: found no number {missing[0]} in '{sequence}' {rate}, "
                                     f"{NEEDED}")
    return values


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _points(found: dict[str, Rates], where: str, codec: str, ours: bool,
            unsaid: str) -> list[dict[str, Any]]:
    names = [list(rates) for rates in found.values()]
    if len({frozenset(each) for each in names}) > 1:
        # Rates that are called otherwise in each sequence: the lowest belongs to the lowest.
        if len({len(each) for each in names}) > 1:
            raise InputError(f"{where}: found sequences with other rates in {codec}, needed the same "
                             "in all")
        found = {sequence: {str(n): row for n, row in enumerate(
            sorted(rates.values(), key=lambda row: row[BPP]))} for sequence, rates in found.items()}
        names = [list(next(iter(found.values())))]
    points = []
    for rate in names[0]:
        rows = {sequence: _row(rates[rate]) for sequence, rates in found.items()}
        shared = [key for key in next(iter(rows.values())) if all(key in row for row in rows.values())]
        mean = {key: statistics.fmean(row[key] for row in rows.values()) for key in shared}
        settings = _conditions([rates[rate] for rates in found.values()], unsaid)
        points.append({
            "codec": codec, "kind": "published", "setting": rate, "rates": "published",
            "settings": {"source": where, **settings, "sequences": "the same" if ours else "others"},
            "mean": mean,
            "sequences": [{"name": sequence, **row} for sequence, row in rows.items()] if ours else []})
    return points


def _row(row: dict[str, Any]) -> dict[str, float]:
    known = OF_PLANES if "ave_all_frame_psnr_y" in row else OF_RGB
    measured = {"bpp": float(row[BPP])}
    for theirs, own in known.items():
        value = row.get(f"ave_all_frame_{theirs}")
        if _is_number(value) and not (theirs.startswith("msssim") and value == 0):
            measured[own] = float(value)
    return measured


def _conditions(rows: list[dict[str, Any]], unsaid: str) -> dict[str, str]:
    """frames, intra_period and conditions in words; the numbers of I-frames and P-frames tell the
    first two, unless all frames are called I-frames, as in files made from logs of other encoders."""
    def told(values: set) -> str:
        return str(values.pop()) if len(values) == 1 else unsaid

    counts = {(row.get("i_frame_num"), row.get("p_frame_num")) for row in rows}
    known = [(i, p) for i, p in counts if _is_number(i) and _is_number(p)]
    frames = {round(i + p) for i, p in known}
    periods = {-1 if i == 1 else math.ceil((i + p) / i) for i, p in known if i and p}
    complete = len(known) == len(counts)
    planes = all("ave_all_frame_psnr_y" in row for row in rows)
    return {"frames": told(frames) if complete else unsaid,
            "intra_period": told(periods) if complete and all(p for _, p in known) else unsaid,
            "conditions": "microsoft" if planes else unsaid}
