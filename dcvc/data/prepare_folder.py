"""The folder of a prepared set: what is finished in it, and how it becomes whole in spite of kills.

    OUT/0000003_name_0000064.mp4     a segment: of source 3, from its frame 64 on
    OUT/manifest.json                what all are made of; a folder without it is not complete
    OUT/.prepare/                    while it is made:
        settings.json                the options it was begun with
        <key>/0000064.mp4            a finished segment (a file has its name only when it is whole)
        <key>/plan.json              which frames are kept, where they had to be seen
        <key>/bad.txt                why the source cannot be read
        manifest.json                only while segments move to their places and back

A source's key is made of its path, size and time of change. So a source that changed has another
key, and nothing that was made of the old one is taken for it; a source that is new, or moves others
in number, costs none of the others' work.

At the end of the work:                                     killed, and begun again:

    1  .prepare/manifest.json is written                    1-3: there is a .prepare/manifest.json.
    2  segments are renamed to their places                      The segments it names move back to
    3  .prepare/manifest.json becomes OUT/manifest.json          their keys; work goes on from there
    4  .prepare is removed                                  4: OUT/manifest.json fits, and the rest
                                                               of .prepare is removed

A complete set whose sources changed is opened the same way: its manifest moves back into .prepare
first. Every step is a rename, and may be done again.

Shards (--shard 2/4) have all of this for themselves: .prepare-2-of-4 and manifest.2-of-4.json. Who
finds the manifests of all shards joins them into manifest.json.
"""

import hashlib
import json
import os
import re
import shutil
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcvc.config import differences
from dcvc.data.prepare_options import Shard
from dcvc.data.prepare_plan import plans_in
from dcvc.data.video_table import VideoTable
from dcvc.errors import InputError, ReadError
from dcvc.files import hold_alone, refusal_named, write_text
from dcvc.video.file_index import FileIndex

MANIFEST, WORK, PLAN, BAD = "manifest.json", ".prepare", "plan.json", "bad.txt"
_SHARD_NAME = re.compile(r"(?:\.prepare-|manifest\.)\d+-of-(\d+)(?:\.json)?")


@dataclass(frozen=True)
class Source:
    """A video of the set, by its row of the table: of hundreds of thousands, not all times of all
    frames are in memory. occurrence: how often its path came before."""

    number: int
    path: str
    size: int
    mtime_ns: int
    occurrence: int
    table: VideoTable

    @property
    def key(self) -> str:
        return source_key(self.path, self.size, self.mtime_ns, self.occurrence)

    @property
    def row(self) -> FileIndex:
        return self.table.row(self.number)


def sources_of(table: VideoTable) -> list[Source]:
    seen: Counter[str] = Counter()
    sources = []
    for number, row in enumerate(table.rows()):
        sources.append(Source(number, row.path, row.file_size, row.mtime_ns, seen[row.path], table))
        seen[row.path] += 1
    return sources


def source_key(path: str, size: int, mtime_ns: int, occurrence: int) -> str:
    text = json.dumps([path, size, mtime_ns, occurrence])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def read_json(path: Path) -> Any:
    """None where there is no such file. Raises ReadError for a damaged one."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ReadError(f"{path}: cannot read ({error}); needed what `dcvc prepare` wrote, or no "
                        "such file") from None


class PreparedFolder:
    """See the top. Use it within `opened()`."""

    def __init__(self, folder: Path, settings: dict, shard: Shard | None) -> None:
        self.folder, self.settings, self.shard = folder, settings, shard
        label = shard.label if shard else ""
        self.work = folder / (f"{WORK}-{label}" if shard else WORK)
        self.manifest_file = folder / (f"manifest.{label}.json" if shard else MANIFEST)
        self._moving = self.work / MANIFEST

    @contextmanager
    def opened(self):
        """Alone in this folder (a second process is refused), with what was begun in it."""
        self._check()
        with ExitStack() as stack:
            with refusal_named(self.folder):
                self.work.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context(open(self.work / "lock", "w"))
            hold_alone(lock, f"{self.folder}: another `dcvc prepare` is at work in it, needed one "
                             "at a time; wait for its end")
            yield self

    def _check(self) -> None:
        """Raises InputError for files of others, another division, other settings."""
        names = sorted(os.listdir(self.folder)) if self.folder.exists() else []
        begun = [name for name in names
                 if name in (MANIFEST, WORK) or _SHARD_NAME.fullmatch(name)]
        if names and not begun:
            raise InputError(f"{self.folder}: found files in it, needed an empty or new folder")
        counts = {int(match[1]) for name in names if (match := _SHARD_NAME.fullmatch(name))}
        mine = {self.shard.count} if self.shard else set()
        whole = self.folder / MANIFEST
        if counts - mine and not (not self.shard and whole.exists()):
            raise InputError(f"{self.folder}: found parts of --shard I/{min(counts - mine)}, "
                             "needed the same division, or an empty or new folder")
        if self.shard and begun and not counts:
            raise InputError(f"{self.folder}: found a set prepared without --shard, needed the "
                             "same way, or an empty or new folder")
        for file in (whole, self.manifest_file, self._moving, self.work / "settings.json"):
            self._check_settings(file, read_json(file))

    def _check_settings(self, file: Path, content: dict | None) -> None:
        if content is None:
            return
        there = content.get("settings", {})
        if "sources" not in content and file.name != "settings.json":
            raise InputError(f"{self.folder}: found files in it (a set of an older version), "
                             "needed an empty or new folder")
        changed = differences(there, self.settings)
        if changed:
            raise InputError(f"{self.folder}: found a set of other settings "
                             f"({'; '.join(changed)}), needed an empty or new folder, or the same "
                             "settings")

    def complete_manifest(self, sources: list[dict], total: str) -> dict | None:
        """The manifest, where the set is complete and its sources are as they were."""
        manifest = read_json(self.manifest_file)
        if manifest is None or (manifest["sources"], manifest["total"]) != (sources, total):
            return None
        there = set(os.listdir(self.folder))
        return manifest if all(entry["file"] in there for entry in manifest["segments"]) else None

    def begin(self, sources: list[Source]) -> None:
        """Bring back what an earlier run finished, as far as it is of these sources."""
        write_text(self.work / "settings.json", json.dumps({"settings": self.settings}))
        # First of all, nothing may say any more that the set is complete.
        if self.shard:
            (self.folder / MANIFEST).unlink(missing_ok=True)
        else:
            for name in os.listdir(self.folder):
                if _SHARD_NAME.fullmatch(name) and name.endswith(".json"):
                    (self.folder / name).unlink()
        if self.manifest_file.exists():
            os.replace(self.manifest_file, self._moving)
        manifest = read_json(self._moving)
        if manifest is not None:
            self._take_back(manifest, {source.key for source in sources})
            self._moving.unlink()
        for source in sources:
            self.home(source).mkdir(exist_ok=True)

    def _take_back(self, manifest: dict, wanted: set[str]) -> None:
        keys = {entry["number"]: source_key(entry["source"], entry["size"], entry["mtime_ns"],
                                            entry["occurrence"]) for entry in manifest["sources"]}
        for number, plan in plans_in(manifest).items():
            # Of a source that could not be read there is neither; it is tried again.
            if keys[number] in wanted and (plan.segments or plan.dropped):
                home = self.work / keys[number]
                home.mkdir(exist_ok=True)
                write_text(home / PLAN, json.dumps(plan.as_dict()))
        for entry in manifest["segments"]:
            file, key = self.folder / entry["file"], keys[entry["number"]]
            if not file.exists():
                continue
            if key in wanted:
                os.replace(file, self.work / key / f"{entry['first']:07d}{file.suffix}")
            else:
                file.unlink()

    def home(self, source: Source) -> Path:
        return self.work / source.key

    def finish(self, manifest: dict, homes: dict[str, Path]) -> None:
        """homes: name of a segment's file -> where it lies now. See the top."""
        write_text(self._moving, json.dumps(manifest, indent=1))
        with refusal_named(self.folder):
            for name, home in homes.items():
                os.replace(home, self.folder / name)
            os.replace(self._moving, self.manifest_file)
        self.close_complete()

    def close_complete(self) -> None:
        """Join the shards where all are there, and leave nothing but the set."""
        joined = self._joined_shards() if self.shard else None
        if joined is not None:
            # By way of .prepare, for a kill must not leave a temporary file beside the segments.
            write_text(self.work / "joined.json", json.dumps(joined, indent=1))
            os.replace(self.work / "joined.json", self.folder / MANIFEST)
        shutil.rmtree(self.work, ignore_errors=True)

    def _joined_shards(self) -> dict | None:
        """The manifest of all shards, once all are there. Raises InputError where they are not of
        the same sources."""
        parts = [read_json(self.folder / f"manifest.{Shard(k + 1, self.shard.count).label}.json")
                 for k in range(self.shard.count)]
        if None in parts:
            return None
        for k, part in enumerate(parts):
            if (part["total"], part["settings"]) != (parts[0]["total"], parts[0]["settings"]):
                raise InputError(f"{self.folder}: found shard {k + 1} made of other sources than "
                                 "shard 1, needed the same; run the older of them again")
        excluded = {path: reason for part in parts for path, reason in part["excluded"].items()}
        joined = {**parts[0], "excluded": dict(sorted(excluded.items()))}
        for name in ("segments", "sources", "dropped"):
            entries = [entry for part in parts for entry in part[name]]
            # Within a source they are in order.
            joined[name] = sorted(entries, key=lambda entry: entry["number"])
        return joined
