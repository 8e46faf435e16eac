"""Points from elsewhere, a paper's or another tool's, from a CSV file beside ours, or from a
results file of microsoft/DCVC's layout (published_json).

    codec,setting,bpp,psnr_planes,source,frames,intra_period,conditions
    DCVC-XY,q0,0.021,33.10,"Li et al. 2025, table 3",96,32,microsoft
    DCVC-XY,q1,0.043,34.92,"Li et al. 2025, table 3",96,32,microsoft

One row is one point of a curve, the mean over the sequences that our results are about. `codec`,
`bpp` and at least one quality, by its name in results files, are needed; `source` says where the
numbers are from. What a row says of its conditions is compared with ours: another number of frames,
intra period or name of conditions stands in the notes of the page, and so does what it leaves
unsaid. A published point has no frames, pictures or speed.
"""

import csv
import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from dcvc.errors import InputError, MissingError, ReadError
from dcvc.report.published_json import points_of_json
from dcvc.report.results import QUALITIES

CONDITIONS = ("frames", "intra_period", "conditions")
COLUMNS = ("codec", "setting", "bpp", *QUALITIES, "source", *CONDITIONS)
UNSAID = "not told"


def read_published(path: str | Path, sequences: Collection[str] = ()) -> list[dict[str, Any]]:
    """The points of a .json file of microsoft/DCVC's layout, or of a CSV file, as results have
    them. sequences: names of those that our results are about. Raises MissingError, ReadError, and
    InputError for another layout."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise MissingError(f"{path}: no such file of published points") from None
    except (OSError, ValueError) as error:
        raise ReadError(f"{path}: cannot be read as text ({error})") from None
    if Path(path).suffix.lower() == ".json":
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ReadError(f"{path}: cannot be read as JSON ({error})") from None
        return points_of_json(values, str(path), Path(path).stem, sequences, UNSAID)
    rows = csv.DictReader(text.splitlines(), skipinitialspace=True)
    heads = [head.strip() for head in rows.fieldnames or ()]
    rows.fieldnames = heads
    unknown = next((head for head in heads if head not in COLUMNS), None)
    if unknown is not None:
        raise InputError(f"{path}: found a column '{unknown}', needed some of {', '.join(COLUMNS)}")
    qualities = [head for head in heads if head in QUALITIES]
    if not {"codec", "bpp"} <= set(heads) or not qualities:
        raise InputError(f"{path}: found the columns {', '.join(heads) or 'none'}, needed codec, "
                         f"bpp and a quality such as {QUALITIES[0]}")
    points = [_point(f"{path}, line {rows.line_num}", row, qualities) for row in rows]
    if not points:
        raise InputError(f"{path}: found no rows, needed a point in each")
    return points


def _point(where: str, row: dict[str, str | None], qualities: list[str]) -> dict[str, Any]:
    if None in row or None in row.values():
        raise InputError(f"{where}: found another number of values than columns; needed "
                         "one for each")
    values = {name: text.strip() for name, text in row.items()}
    mean = {name: _number(where, name, values[name])
            for name in ("bpp", *qualities) if values[name]}
    if not values["codec"] or "bpp" not in mean or len(mean) < 2 or mean["bpp"] <= 0:
        raise InputError(f"{where}: found no codec, no bpp above 0 or no quality; needed all three")
    settings = {name: values.get(name) or UNSAID for name in ("source", *CONDITIONS)}
    setting = values.get("setting") or f"{mean['bpp']:g} bpp"
    return {"codec": values["codec"], "kind": "published", "setting": setting,
            "rates": "published", "settings": settings, "mean": mean, "sequences": []}


def _number(where: str, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: found {name} '{text}', needed a number")
    return value


def conditions_of(table: dict[str, Any]) -> dict[str, str]:
    """Those of a results file, in words that a published point may give."""
    frames = sorted({sequence["frames"] for sequence in table["sequences"]})
    settings = table.get("settings", {})
    return {"frames": "-".join(str(count) for count in dict.fromkeys((frames[0], frames[-1]))),
            "intra_period": str(settings.get("gop_size", UNSAID)),
            "conditions": settings.get("conditions", "none")}


def conditions_in_words(tables: Sequence[dict[str, Any]]) -> str:
    """Of all results files, for captions. Where files differ, such as in their intra period, each
    value stands there."""
    told = [conditions_of(table) for table in tables]
    frames, period, conditions = (" and ".join(dict.fromkeys(each[name] for each in told))
                                  for name in CONDITIONS)
    return f"{frames} frames, an I-frame every {period}, conditions: {conditions}"


def differences(points: list[dict[str, Any]], table: dict[str, Any]) -> list[str]:
    """What is not the same as in our results: one note for each curve and condition."""
    ours, notes = conditions_of(table), []
    for point in points:
        if point["settings"].get("sequences") == "others":
            notes.append(f"{point['codec']} is published of other sequences than these")
        for name in CONDITIONS:
            # One I-frame is written -1 there, and as many frames as there are here.
            theirs, own = point["settings"][name], ours[name]
            alike = theirs == own or (name == "intra_period" and theirs == "-1"
                                      and own == ours["frames"])
            if not alike:
                notes.append(f"{point['codec']} is published with {name} {theirs}, these results "
                             f"have {own}")
    return list(dict.fromkeys(notes))
