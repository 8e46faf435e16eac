"""A table about the sources of a set (licence, author, address …), carried into its manifest.

A CSV or TSV file whose first row names the columns; the column `file` says which video a row is
about: a path from the table's folder, an absolute one, or a name that only one video has.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dcvc.data.video_list import decode_text
from dcvc.errors import InputError, ReadError

KEY = "file"


def read_licences(table: str, videos: Sequence[str]) -> dict[str, dict[str, str]]:
    """Video -> its columns, for those that have a row. Raises ReadError, InputError for a table
    without the column, or that names a video twice."""
    try:
        text = decode_text(Path(table).read_bytes(), table)
    except OSError as error:
        raise ReadError(f"{table}: cannot read this table ({error.strerror})") from None
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    if KEY not in (rows.fieldnames or ()):
        found = ", ".join(rows.fieldnames or ()) or "none"
        raise InputError(f"{table}: found the columns {found}, needed one named {KEY}")
    by_path = {os.path.realpath(video): video for video in videos}
    names = Counter(os.path.basename(path) for path in by_path)
    by_name = {os.path.basename(path): video for path, video in by_path.items()}
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        named = row.pop(KEY) or ""
        video = by_path.get(os.path.realpath(Path(table).parent / named))
        if video is None and names[named] == 1:
            video = by_name[named]
        if video is None:
            continue
        if video in found:
            raise InputError(f"{table}: found {named} twice (line {rows.line_num}), needed one row "
                             "a video")
        # What stands behind the last named column has no name.
        found[video] = {name: value or "" for name, value in row.items() if name is not None}
    return found
