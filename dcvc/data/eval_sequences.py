"""Sequences to judge a codec by: videos, raw .yuv files and folders of pictures, read in one way.

    a video file         ─▶ video_sequence   ─┐
    a raw .yuv file      ─▶ raw_sequence     ─┼─▶ EvalSequence ── stream() ─▶ frame, frame, …
    a folder of pictures ─▶ picture_sequence ─┘

`open_sequences` finds all of them in a folder, for `dcvc eval` and `dcvc compare`. The data sets in
validation_sets.py are lists of them, for validation while training. Frames are read only when they
are asked for, one at a time: hundreds of long sequences cost no memory.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from dcvc.config import nearest
from dcvc.data.conditions import Conditions
from dcvc.data.presets import PRESETS
from dcvc.data.raw_files import (
    RAW_EXTENSION,
    RawFormat,
    parse_size,
    rate_in_name,
    raw_format,
)
from dcvc.data.video_list import LIST_EXTENSION, PathLike, as_list, list_videos, read_lines
from dcvc.errors import InputError, MissingError
from dcvc.video.coded_video import index_video
from dcvc.video.file_index import FileIndex
from dcvc.video.folders import walk_folders
from dcvc.video.frame_stack import Planes, frame_format, planar_format
from dcvc.video.images import (
    image_notes,
    image_size,
    list_images,
    natural_key,
    read_image,
)
from dcvc.video.places import TAR, read_by_ffmpeg, stem_of
from dcvc.video.reader import VideoReader
from dcvc.video.yuv_to_rgb import Colour

# Where no name tells the frame rate. Bits per second are off by a factor then, bits per pixel not.
_RATE_ASSUMED = 25.0


class SourceFrame(NamedTuple):
    """uint8 `(3, H, W)` RGB, and the samples that it was made of where these are judged."""

    rgb: Tensor
    planes: Planes | None = None


@dataclass(frozen=True)
class EvalSequence:
    """One sequence; plain data, so that it travels to other processes.

    width, height: in pixels. fps: frames per second. frames: how many `stream` gives. colour: in
    words, how the samples are coded. notes: what is assumed or suspicious. index: a video file's;
    raw: a .yuv file's format, complete. A sequence that has neither is a folder of pictures.
    conditions: how its samples are read, and that it is judged on its own planes.
    """

    name: str
    path: str
    width: int
    height: int
    fps: float
    frames: int
    colour: str
    notes: tuple[str, ...] = ()
    index: FileIndex | None = field(default=None, repr=False, compare=False)
    raw: RawFormat | None = None
    conditions: Conditions | None = None

    def stream(self) -> Iterator[Tensor]:
        """Its frames as uint8 `(3, H, W)` RGB, one at a time. Raises as `source_frames`."""
        return (frame.rgb for frame in self.source_frames())

    def source_frames(self) -> Iterator[SourceFrame]:
        """Its frames, one at a time, with their planes where it is judged on them. Raises
        ReadError, InputError (too few frames, pictures of differing sizes)."""
        # Counted: a file may have been cut short since it was opened.
        count = 0
        for frame in islice(self._frames(), self.frames):
            count += 1
            if not isinstance(frame, Planes):
                yield SourceFrame(frame)
                continue
            yield SourceFrame(frame.rgb()[0], frame if self.conditions else None)
        if count != self.frames:
            raise InputError(f"{self.path}: ends after {count} frames, needed {self.frames}")

    def _frames(self) -> Iterator[Tensor | Planes]:
        if self.raw is not None:
            return self.raw.read(self.path)
        if self.index is None:
            return self._pictures()
        if self.conditions is None:
            return iter(VideoReader(self.path, index=self.index))
        reader = VideoReader(self.path, index=self.index, matrix=self.conditions.matrix,
                             full_range=self.conditions.full_range)
        return reader.frames("yuv")

    @property
    def planar(self) -> tuple[str, Colour] | None:
        """The planar pixel format of its samples, and their colour; None for pictures."""
        if self.raw is not None:
            return planar_format(self.raw.layout, self.raw.matrix, self.raw.full_range)
        if self.index is None:
            return None
        told = self.conditions
        return frame_format(self.index, *((told.matrix, told.full_range) if told else ()))

    def under(self, conditions: Conditions) -> "EvalSequence":
        """The same sequence, read and judged by these. Raises InputError for what is no 4:2:0."""
        raw = self.raw and replace(self.raw, matrix=conditions.matrix,
                                   full_range=conditions.full_range)
        words = (f"{conditions.matrix}, {_range(conditions.full_range)} range as --conditions "
                 f"{conditions.name} has it, ")
        changed = replace(self, conditions=conditions, raw=raw,
                          colour=words + self.colour.split(", ")[-1])
        needed = f"needed YCbCr 4:2:0 samples for --conditions {conditions.name}"
        if changed.planar is None or changed.planar[1].matrix == "rgb":
            raise InputError(f"{self.path}: found RGB pictures, {needed}")
        pixels, colour = changed.planar
        if colour.monochrome or colour.subsampling != (1, 1):
            raise InputError(f"{self.path}: found {pixels}, {needed}")
        if self.index is not None and any(self.index.orientation):
            raise InputError(f"{self.path}: found a video that is shown turned, needed one that is "
                             f"shown as it is coded for --conditions {conditions.name}")
        return changed

    def _pictures(self) -> Iterator[Tensor]:
        for path in list_images(self.path):
            frame = read_image(path)
            height, width = frame.shape[1:]
            if (height, width) != (self.height, self.width):
                raise InputError(f"{path}: found {width}x{height}, needed {self.width}x{self.height} "
                                 "as the sequence's first picture")
            yield frame

    def first(self, count: int | None) -> "EvalSequence":
        """The same sequence, cut to its first `count` frames where it has more (None: not cut)."""
        return replace(self, frames=min(self.frames, count or self.frames))

    def new_digest(self):
        """The hash whose updates with every frame make the sequence's digest: SHA-256 of the RGB
        samples, the same for the same content in any file."""
        # Frames are hashed as bare samples: without the size, 2x8 and 4x4 pixels would be the same.
        return hashlib.sha256(f"{self.width}x{self.height}".encode())

    def describe(self) -> dict:
        """What results say about it. class: the folder that it lies in, as test sets have
        theirs."""
        names = ("name", "width", "height", "fps", "frames", "colour", "notes")
        return {**{name: getattr(self, name) for name in names},
                "class": os.path.basename(os.path.dirname(os.path.abspath(self.path)))}


def video_sequence(path: PathLike) -> EvalSequence:
    """All of a video file, named like it. Raises MissingError, ReadError."""
    index = index_video(path)
    colour = frame_format(index)[1]
    tagged = "" if index.matrix else " (untagged)"
    return EvalSequence(
        name=stem_of(path), path=index.path, width=index.width, height=index.height,
        fps=float(index.fps), frames=len(index), notes=index.notes, index=index,
        colour=f"{colour.matrix}{tagged}, {_range(colour.full_range)} range, {index.pix_fmt}",
    )


def raw_sequence(path: Path, told: RawFormat,
                 usual_size: tuple[int, int] | None = None) -> EvalSequence:
    """All of a .yuv file, named like it. told: what the user says of it; usual_size: where neither
    the user nor the name tells one. Raises InputError."""
    if told.size is None and usual_size is not None and parse_size(path.stem) is None:
        told = replace(told, size=usual_size)
    raw = raw_format(path, told)
    by_size = "" if told.matrix else " (by size)"
    return EvalSequence(
        name=path.stem, path=str(path), width=raw.size[0], height=raw.size[1],
        fps=raw.fps or _RATE_ASSUMED, frames=raw.count_frames(path), notes=_rate_notes(raw.fps) + raw.notes,
        colour=f"{raw.matrix}{by_size}, {_range(raw.full_range)} range, raw {raw.words}",
        raw=raw,
    )


def picture_sequence(folder: PathLike, root: PathLike) -> EvalSequence:
    """All pictures of a folder in natural order; named by its path below `root`, or like `root`
    where it is the root itself. Raises MissingError, InputError (no pictures), ReadError."""
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingError(f"{folder}: no such folder of pictures")
    images = list_images(folder)
    if not images:
        raise InputError(f"{folder}: found no pictures")
    # The others are compared with the first when they are read: opening them all takes long.
    height, width = image_size(images[0])
    # Test sets have sequences of the same name in different folders: 00001/0001, 00002/0001.
    name = os.path.relpath(folder, root)
    fps = rate_in_name(folder.name)
    return EvalSequence(
        name=os.path.basename(os.path.abspath(root)) if name == "." else name.replace(os.sep, "/"),
        path=str(folder), width=width, height=height, fps=fps or _RATE_ASSUMED,
        frames=len(images), colour="RGB pictures", notes=_rate_notes(fps) + image_notes(images[0]),
    )


def _range(full: bool) -> str:
    return "full" if full else "limited"


def _rate_notes(fps: float | None) -> tuple[str, ...]:
    return () if fps else (f"frame rate unknown, {_RATE_ASSUMED:g} assumed",)


def open_sequences(source: PathLike | Sequence[PathLike], preset: str | None = None,
                   max_frames: int | None = None, raw: RawFormat | None = None,
                   stills: bool = False,
                   conditions: Conditions | None = None) -> list[EvalSequence]:
    """Everything to evaluate at `source` (one or several): a video, a text file of paths, a raw .yuv
    file (limited range; size, rate, layout and depth from its name or `raw`, matrix by its height
    unless given), a folder of these, folders of pictures, or a test set (preset: a key of PRESETS).

    stills: also single pictures and videos of one frame that lie among videos; otherwise they are
    left out, and the first sequence's notes name them. All names differ. conditions: how samples
    are read, and how many frames where no preset says so.
    Raises MissingError, InputError (nothing found, no size, missing frames), ReadError."""
    check_max_frames(max_frames, "--max_frames")
    if preset is not None and preset not in PRESETS:
        raise InputError(f"--preset: found {preset!r}, needed one of {', '.join(PRESETS)}"
                         f"{nearest(preset, PRESETS)}")
    found = [sequence for one in as_list(source, "VIDEOS")
             for sequence in _sequences_at(one, preset, raw or RawFormat(), stills)]
    if conditions is not None:
        found = [sequence.under(conditions) for sequence in found]
    chosen = PRESETS.get(preset)
    usual = (chosen or conditions).frames if chosen or conditions else None
    return [_limited(sequence, usual, max_frames, whole=chosen is not None and chosen.whole)
            for sequence in with_distinct_names(found)]


def _sequences_at(source: str, preset: str | None, raw: RawFormat,
                  stills: bool) -> list[EvalSequence]:
    if not read_by_ffmpeg(source) or source.lower().endswith(TAR):
        # Raw files and pictures are read on this machine only.
        return [_file_sequence(path, raw, preset) for path in list_videos(source)]
    root = Path(source)
    if not root.exists():
        raise MissingError(f"{root}: no such file or folder")
    if preset == "davis":
        # Named by its top folder, or by one further in; annotations beside it are pictures, too.
        inner = (root / "JPEGImages" / "480p", root / "JPEGImages", root)
        root = next(folder for folder in inner if folder.exists())
    files, folders = _files_and_folders(root, preset)
    left_out = []
    if files and not stills:
        left_out = [folder for folder in folders if not _is_sequence_beside_videos(folder)]
        folders = [folder for folder in folders if folder not in left_out]
    sequences = [_file_sequence(path, raw, preset) for path in files]
    sequences += [_complete(picture_sequence(folder, root)) for folder in folders]
    if not sequences:
        layout = f" laid out as {PRESETS[preset].layout}" if preset else ""
        raise InputError(f"{root}: found no videos, .yuv files or folders of pictures{layout}")
    longer = [sequence for sequence in sequences if sequence.frames > 1]
    if files and longer and not stills:
        left_out += [Path(sequence.path) for sequence in sequences if sequence.frames == 1]
        sequences = longer
    if left_out:
        names = ", ".join(os.path.relpath(path, root) for path in left_out)
        note = f"left out beside the videos: single pictures in {names} (--stills measures them)"
        sequences[0] = replace(sequences[0], notes=(*sequences[0].notes, note))
    return sequences


def _file_sequence(path: PathLike, raw: RawFormat, preset: str | None) -> EvalSequence:
    if os.fspath(path).lower().endswith(RAW_EXTENSION) and read_by_ffmpeg(path):
        return raw_sequence(Path(path), raw, PRESETS[preset].size if preset else None)
    return video_sequence(path)


def _is_sequence_beside_videos(folder: Path) -> bool:
    """Whether pictures that lie among videos are frames of one: at least two, numbered, of one name.
    Posters and thumbnails are not."""
    stems = [Path(path).stem for path in list_images(folder)]
    return len(stems) > 1 and len({re.sub(r"\d+", "0", stem) for stem in stems}) == 1 and (
        "0" in re.sub(r"\d+", "0", stems[0]))


def with_distinct_names(sequences: list[EvalSequence]) -> list[EvalSequence]:
    """Results and pictures of the report are told apart by the names. Those that are equal become the
    file's path from the folder that all of them lie in, without its ending where that suffices."""
    common = None
    for longer in (False, True):
        names = Counter(sequence.name for sequence in sequences)
        double = [sequence.path for sequence in sequences if names[sequence.name] > 1]
        if not double:
            return sequences
        folders = [os.path.dirname(os.path.abspath(path)) for path in double]
        common = common or os.path.commonpath(folders)
        sequences = [sequence if names[sequence.name] == 1 else replace(
            sequence, name=_path_name(sequence.path, common, longer)) for sequence in sequences]
    names = Counter(sequence.name for sequence in sequences)
    double = next((name for name, count in names.items() if count > 1), None)
    if double is not None:
        raise InputError(f"{double}: found this sequence twice, needed every one once")
    return sequences


def _path_name(path: str, folder: str, ending: bool) -> str:
    name = os.path.relpath(os.path.abspath(path), folder)
    return (name if ending else os.path.splitext(name)[0]).replace(os.sep, "/")


def check_max_frames(max_frames: int | None, flag: str) -> None:
    """Raises InputError for a limit below one frame."""
    if max_frames is not None and max_frames < 1:
        raise InputError(f"{flag}: found {max_frames}, needed at least 1")


def _limited(sequence: EvalSequence, usual: int | None, max_frames: int | None,
             whole: bool) -> EvalSequence:
    """The first frames, as asked or as the test set has it (usual). A sequence too short gets a
    note, or is refused (whole)."""
    # Whoever asks for 10 frames need not know that the set has 96 of its 100.
    short = usual is not None and sequence.frames < usual
    if short and not (max_frames and max_frames <= sequence.frames):
        if whole:
            raise InputError(f"{sequence.path}: found {sequence.frames} frames, needed {usual}")
        note = f"{sequence.frames} frames, the test set's usual number is {usual}"
        sequence = replace(sequence, notes=(*sequence.notes, note))
    return sequence.first(max_frames or usual)


def _files_and_folders(root: Path, preset: str | None) -> tuple[list[PathLike], list[Path]]:
    """The video and .yuv files, and the folders of pictures, that lie at `root`."""
    # A single file is taken as it is, a list leads to its videos.
    if root.is_file():
        is_list = root.suffix.lower() == LIST_EXTENSION
        return list_videos(root) if is_list else [root], []
    # The test sequences lie among those for training: only the list tells which they are.
    if preset == "vimeo90k-test":
        listing = root / "sep_testlist.txt"
        if not listing.is_file():
            raise MissingError(f"{listing}: no such list, needed for the preset vimeo90k-test")
        return [], [root / "sequences" / name for name in map(str.strip, read_lines(listing))]
    visited = list(walk_folders(root))
    raw = sorted(Path(folder.path, name) for folder in visited for name in folder.files
                 if name.lower().endswith(RAW_EXTENSION))
    folders = [Path(folder.path) for folder in visited if list_images(folder.path)]
    try:
        videos = list_videos(root)
    except (InputError, MissingError):
        # The message is about video files: the right one only where there is nothing else, too.
        if not raw and not folders:
            raise
        videos = []
    return sorted(videos, key=Path) + raw, sorted(folders, key=lambda path: natural_key(str(path)))


def _complete(sequence: EvalSequence) -> EvalSequence:
    """The sequence itself. Raises InputError where a picture is missing in between: a gap would
    look like fast motion. Numbers in equal steps (1, or 2 for every second frame) have no gap."""
    paths = list_images(sequence.path)
    last_numbers = [re.search(r"\d+(?=\D*$)", Path(path).stem) for path in paths]
    numbers = sorted({int(number[0]) for number in last_numbers if number})
    if len(numbers) < len(paths):
        return sequence  # not numbered, or not by numbers alone
    usual = min((b - a for a, b in pairwise(numbers)), default=1)
    for before, after in pairwise(numbers):
        if after - before != usual:
            raise InputError(f"{sequence.path}: picture number {before + usual} is missing (found "
                             f"{before} and {after}, needed steps of {usual})")
    return sequence
