"""Re-encode a data set once into short segments that are quick to seek in.

A sample is some frames from anywhere in a video. To decode them one has to begin at the keyframe
before, and videos often have one every 250 frames (x264's default): of each decoded GOP most is
thrown away. Here every video becomes files of `segment` frames with a keyframe every `keyframe`
frames, so that at most keyframe - 1 frames are decoded in vain:

    wanted frames              |·······|
    keyframe every 250   K----------------------------------------   decoded: all from K on
    keyframe every 4     K---K---K---K---K---K---K---K---K---K---K   decoded: wanted ones and 2 more

The price is disk space (keyframes are large) and one loss more: `visual` (CRF 12) is visually
lossless.

    1  measure   every frame of the videos, if an option looks at frames     stretches.py
    2  plan      which frames become which segment, what is left out, why    prepare_plan.py
    3  encode    segments, a few at a time, shared out over processes        segment_files.py
    4  finish    segments take their names; manifest.json is written last    prepare_folder.py

Each step depends on the sources and the options alone, not on processes, order or earlier tries,
and keeps what it finished: killed and begun again, it goes on, and comes to the same bytes.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import av

from dcvc.data.prepare_folder import BAD, PLAN, PreparedFolder, Source, read_json, sources_of
from dcvc.data.prepare_options import PrepareOptions, Shard
from dcvc.data.prepare_plan import Segment, SourcePlan, plan_source, refused_whole
from dcvc.data.segment_encoders import encoder_of
from dcvc.data.segment_files import (
    DamagedSource,
    SegmentFile,
    frames_of,
    only_in_order,
    write_segments,
)
from dcvc.data.stretches import measure
from dcvc.data.video_table import VideoTable
from dcvc.device import computing_threads
from dcvc.device.processes import share_out
from dcvc.errors import ReadError
from dcvc.files import short_stem, write_text
from dcvc.video.file_index import FileIndex
from dcvc.video.places import stem_of

# Called with (frames done, of how many, with what).
Progress = Callable[[int, int, str], None]
# What one process encodes at a time: little enough to share out one long video.
SEGMENTS_A_TASK = 8


@dataclass(frozen=True)
class _Task:
    """What a process does at a time: segments of one video; without any, to measure it. home: where
    what is made of this video goes."""

    row: FileIndex
    home: Path
    options: PrepareOptions
    segments: tuple[Segment, ...] = ()

    @property
    def frames(self) -> int:
        return sum(map(len, self.segments)) or len(self.row)

    @property
    def files(self) -> list[SegmentFile]:
        suffix = encoder_of(self.options).suffix
        return [SegmentFile(one, self.home / f"{one.first:07d}{suffix}") for one in self.segments]


def _run_task(task: _Task, skip_bad: bool) -> None:
    """In any process, which uses one core: as many as --processes says are in use, and no more. A video
    that cannot be read is noted in its home with skip_bad."""
    with computing_threads(1):
        _run_alone(task, skip_bad)


def _run_alone(task: _Task, skip_bad: bool) -> None:
    if skip_bad and (task.home / BAD).exists():
        return
    (task.home / BAD).unlink(missing_ok=True)
    try:
        if task.segments:
            write_segments(task.row, task.files, task.options)
        else:
            measures = measure(frames_of(task.row, range(len(task.row))))
            plan = plan_source(task.row, task.options, measures)
            write_text(task.home / PLAN, json.dumps(plan.as_dict()))
    except DamagedSource as error:
        if not skip_bad:
            raise ReadError(f"{error}; --skip_bad leaves such videos out") from None
        write_text(task.home / BAD, str(error))


@dataclass(frozen=True)
class _Run:
    """One call of `prepare`."""

    folder: PreparedFolder
    sources: list[Source]
    options: PrepareOptions
    processes: int
    skip_bad: bool
    progress: Progress

    def share_out(self, tasks: Iterable[_Task], count: int, what: str, done: int,
                  total: int) -> None:
        """count: of the tasks. done: frames that an earlier run finished, of all `total`."""
        self.progress(done, total, what)
        work = partial(_run_task, skip_bad=self.skip_bad)
        for task, _ in share_out(work, tasks, min(self.processes, max(1, count))):
            done += task.frames
            self.progress(done, total, what)

    def bad(self, source: Source) -> str | None:
        """Why the video cannot be read, as far as that is known."""
        file = self.folder.home(source) / BAD
        return file.read_text("utf-8") if file.exists() else None

    def plans(self) -> dict[int, SourcePlan]:
        """Number of the source -> its plan; after measuring what is not measured yet."""
        if self.options.looks_at_frames:
            self.measure()
        return {source.number: self.plan(source) for source in self.sources}

    def measure(self) -> None:
        frames = {source: len(source.row) for source in self.sources
                  if refused_whole(source.row, self.options) is None}
        missing = [source for source in frames if not (self.folder.home(source) / PLAN).exists()]
        done = sum(frames.values()) - sum(frames[source] for source in missing)
        self.share_out((self.task(source) for source in missing), len(missing), "looking", done,
                       sum(frames.values()))

    def plan(self, source: Source) -> SourcePlan:
        refused = refused_whole(source.row, self.options)
        if refused is not None or not self.options.looks_at_frames:
            return refused or plan_source(source.row, self.options)
        if self.bad(source):
            return SourcePlan((), ())
        return SourcePlan.from_dict(read_json(self.folder.home(source) / PLAN))

    def task(self, source: Source, segments: tuple[Segment, ...] = ()) -> _Task:
        return _Task(source.row, self.folder.home(source), self.options, segments)

    def encode(self, plans: dict[int, SourcePlan]) -> None:
        # A row is read once more for each task, when its turn comes.
        parts: list[tuple[Source, tuple[Segment, ...]]] = []
        done = 0
        for source in self.sources:
            files = self.task(source, plans[source.number].segments).files
            missing = tuple(each.segment for each in files if not each.file.exists())
            done += plans[source.number].frames - sum(map(len, missing))
            # From a file that is read from its start, all segments are taken in one go.
            at_a_time = len(missing) if only_in_order(source.row) else SEGMENTS_A_TASK
            parts += [(source, missing[k: k + at_a_time])
                      for k in range(0, len(missing), at_a_time or 1)]
        # The longest ones first: at the end no process is left with a long one alone.
        parts.sort(key=lambda part: sum(map(len, part[1])), reverse=True)
        total = sum(plans[source.number].frames for source in self.sources)
        self.share_out((self.task(*part) for part in parts), len(parts), "encoding", done, total)

    def entries(self, plans: dict[int, SourcePlan]) -> Iterator[tuple[Path, dict]]:
        """Where each segment lies, and what the manifest says of it."""
        for source in self.sources:
            if self.bad(source):
                continue
            # The number makes names unique and keeps the videos' order.
            name = short_stem(Path(stem_of(source.path) + ".mp4"), 80)
            stem = f"{source.number:07d}_{name}"
            for each in self.task(source, plans[source.number].segments).files:
                one = each.segment
                entry = {"file": f"{stem}_{one.first:07d}{each.file.suffix}", "source": source.path,
                         "first": one.first, "frames": len(one), "number": source.number}
                yield each.file, entry | ({"without": list(one.without)} if one.without else {})

    def work(self, described: list[dict], excluded: dict[str, str], total: str) -> dict:
        """All four steps; the manifest."""
        self.folder.begin(self.sources)
        plans = self.plans()
        self.encode(plans)
        placed = list(self.entries(plans))
        bad = {source.path: reason for source in self.sources if (reason := self.bad(source))}
        dropped = [{"number": source.number, "source": source.path, **asdict(one)}
                   for source in self.sources if source.path not in bad
                   for one in plans[source.number].dropped]
        manifest = {"settings": self.folder.settings, "segments": [entry for _, entry in placed],
                    "excluded": dict(sorted({**excluded, **bad}.items())), "sources": described,
                    "dropped": dropped, "total": total}
        self.folder.finish(manifest, {entry["file"]: home for home, entry in placed})
        return manifest


def prepare(table: VideoTable, out: str | os.PathLike, options: PrepareOptions | None = None, *,
            shard: Shard | None = None, processes: int = 1, skip_bad: bool = False,
            licences: Mapping[str, dict[str, str]] | None = None,
            progress: Progress | None = None) -> dict:
    """Write every video of `table` into `out` as files of `segment` frames, and manifest.json.

    shard: only this part of the videos; several may be at work in one folder. skip_bad: a damaged
    video is left out instead of an error. licences: columns about a video, for the manifest, by its
    path. Frames of odd sides lose their last row or column. Returns the manifest (of the shard):
    each segment's source, first frame and count; the settings; sources; what was dropped, and why.
    Raises InputError if `out` holds something else or an option cannot be had, ReadError (a damaged
    video).
    """
    options = options or PrepareOptions()
    encoder, licences = encoder_of(options), licences or {}
    settings = {**asdict(options), "encoder": encoder.library,
                "options": encoder.make_options(options),
                "libavcodec": list(av.library_versions["libavcodec"])}
    sources = sources_of(table)
    # All videos of the set, those of other shards and those without an index too.
    everything = [[source.key for source in sources], table.excluded_reasons()]
    total = hashlib.sha256(json.dumps(everything).encode()).hexdigest()[:24]
    if shard is not None:
        sources = [source for source in sources if shard.holds(source.number)]
    described = [_described(source, licences.get(source.path)) for source in sources]
    folder, excluded = PreparedFolder(Path(out), settings, shard), table.excluded_reasons()
    with folder.opened():
        manifest = folder.complete_manifest(described, total)
        if manifest is not None:
            folder.close_complete()
            return manifest
        run = _Run(folder, sources, options, processes, skip_bad, progress or (lambda *_: None))
        return run.work(described, excluded, total)


def _described(source: Source, columns: dict[str, str] | None) -> dict:
    described = {"number": source.number, "source": source.path, "size": source.size,
                 "mtime_ns": source.mtime_ns, "occurrence": source.occurrence}
    return described | ({"columns": columns} if columns else {})
