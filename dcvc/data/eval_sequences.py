"""What is evaluated: videos, folders of pictures, raw yuv files, and the field's test sets by their folder layout."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dcvc.config import nearest
from dcvc.data.training_set import apply_transform
from dcvc.data.video_list import PathLike, as_list, list_videos
from dcvc.errors import InputError, MissingError
from dcvc.video.file_index import FileIndex, index_file
from dcvc.video.frame_stack import frame_format
from dcvc.video.images import image_size, list_images, list_sequences, natural_key, read_image
from dcvc.video.reader import VideoReader
from dcvc.video.yuv_to_rgb import Colour, default_matrix, to_rgb

RAW_EXTENSION = ".yuv"
_RAW_SIZE = re.compile(r"(?<!\d)(\d{2,5})x(\d{2,5})(?!\d)")
_RATE = re.compile(r"(\d{2,3}(?:\.\d+)?)(?:fps|hz)|\d+x\d+_(\d{2,3})(?!\d)", re.IGNORECASE)
_RATE_UNKNOWN = 25.0


@dataclass(frozen=True)
class Preset:
    """What papers do with a test set: frames of each sequence, intra period; `layout` says how it lies on disk.
    whole: a sequence with fewer frames is incomplete, not short."""

    frames: int | None
    intra_period: int
    layout: str
    whole: bool = False


@dataclass(frozen=True)
class RawFormat:
    """What a .yuv file does not say itself; None: by its name, else as documented at `open_sequences`."""

    size: tuple[int, int] | None = None         # (width, height)
    depth: int | None = None
    fps: float | None = None
    matrix: str | None = None
    full_range: bool = False


PRESETS = {
    **{f"hevc-{c}": Preset(100, 10, "NAME_WIDTHxHEIGHT_FPS.yuv, or a folder of pictures per sequence") for c in "bcde"},
    "uvg": Preset(120, 12, "NAME_1920x1080_120fps_420_8bit_YUV.yuv, or a folder of pictures per sequence"),
    "mcl-jcv": Preset(120, 12, "videoSRCnn_1920x1080_FPS.yuv or .mp4"),
    "vimeo90k-test": Preset(7, 7, "sequences/00001/0266/im1.png … im7.png and sep_testlist.txt", whole=True),
    "davis": Preset(None, 10, "JPEGImages/480p/NAME/00000.jpg …"),
}


@dataclass(frozen=True)
class EvalSequence:
    """One sequence; plain data, so that it travels to other processes. kind: "video", "pictures" or "raw"."""

    name: str
    path: str
    kind: str
    width: int
    height: int
    fps: float
    frames: int
    colour: str
    matrix: str = "bt709"
    full_range: bool = False
    depth: int = 8
    notes: tuple[str, ...] = ()

    def stream(self) -> Iterator[Tensor]:
        """Its frames as uint8 `(3, H, W)` RGB, one at a time. Raises ReadError, InputError."""
        if self.kind == "video":
            found = iter(VideoReader(self.path))
        elif self.kind == "pictures":
            found = (read_image(path) for path in list_images(self.path))
        else:
            found = self._raw()
        count = 0
        for number, frame in enumerate(islice(found, self.frames)):
            count += 1
            if tuple(frame.shape) != (3, self.height, self.width):
                raise InputError(f"{self.path}: frame {number} is {frame.shape[2]}x{frame.shape[1]}, needed "
                                 f"{self.width}x{self.height} as the first")
            yield frame
        if count != self.frames:
            raise InputError(f"{self.path}: ends after {count} frames, needed {self.frames}")

    def _raw(self) -> Iterator[Tensor]:
        colour = Colour(self.matrix, self.full_range, self.depth)
        kind = np.uint8 if self.depth == 8 else np.dtype("<u2")
        half = (-(-self.height // 2), -(-self.width // 2))
        counts = (self.height * self.width, half[0] * half[1], half[0] * half[1])
        with open(self.path, "rb") as file:
            for _ in range(self.frames):
                y, u, v = (np.fromfile(file, kind, count).astype(np.uint8 if self.depth == 8 else np.int32)
                           for count in counts)
                planes = (torch.from_numpy(p.reshape(1, *shape)) for p, shape in
                          zip((y, u, v), ((self.height, self.width), half, half), strict=True))
                yield to_rgb(*planes, colour)[0]

    def new_digest(self):
        """The hash whose updates with every frame make the sequence's digest: SHA-256 of the RGB samples, the same
        for the same content in any file."""
        return hashlib.sha256(f"{self.width}x{self.height}".encode())

    def describe(self) -> dict:
        kept = ("name", "width", "height", "fps", "frames", "colour", "notes")
        return {key: value for key, value in asdict(self).items() if key in kept}


def open_sequences(source: str | os.PathLike, preset: str | None = None, max_frames: int | None = None,
                   raw: RawFormat | None = None) -> list[EvalSequence]:
    """Everything to evaluate at `source`: a video, a text file of paths, a raw .yuv file (4:2:0, little-endian, limited
    range; size, rate and depth from its name or `raw`, matrix by its height unless given), a folder of these, folders
    of pictures, or a test set named by `preset` (a key of PRESETS).

    Raises MissingError, InputError (nothing found, no size, missing frames), ReadError."""
    if max_frames is not None and max_frames < 1:
        raise InputError(f"--max_frames: found {max_frames}, needed at least 1")
    if preset is not None and preset not in PRESETS:
        raise InputError(f"--preset: found {preset!r}, needed one of {', '.join(PRESETS)}{nearest(preset, PRESETS)}")
    root = Path(source)
    if not root.exists():
        raise MissingError(f"{root}: no such file or folder")
    if preset == "davis":
        root = next(base for base in (root / "JPEGImages" / "480p", root / "JPEGImages", root) if base.exists())
    files, folders = _find(root, preset)
    found = [_raw(path, raw or RawFormat()) if path.suffix.lower() == RAW_EXTENSION else _video(path)
             for path in files]
    found += [_pictures(folder, root) for folder in folders]
    if not found:
        layout = f" laid out as {PRESETS[preset].layout}" if preset else ""
        raise InputError(f"{root}: found no videos, .yuv files or folders of pictures{layout}")
    names = [sequence.name for sequence in found]
    double = next((name for name in names if names.count(name) > 1), None)
    if double:
        raise InputError(f"{root}: found two sequences named '{double}', needed different names")
    return [_limited(sequence, PRESETS[preset] if preset else None, max_frames) for sequence in found]


def _limited(sequence: EvalSequence, preset: Preset | None, max_frames: int | None) -> EvalSequence:
    """The first frames, as asked or as the test set has it; a shorter sequence says so."""
    usual = preset.frames if preset else None
    notes = sequence.notes
    if preset and usual and sequence.frames < usual and not (max_frames and max_frames <= sequence.frames):
        if preset.whole:
            raise InputError(f"{sequence.path}: found {sequence.frames} frames, needed {usual}")
        notes += (f"{sequence.frames} frames, the test set's usual number is {usual}",)
    wanted = max_frames or usual or sequence.frames
    return replace(sequence, frames=min(sequence.frames, wanted), notes=notes)


def _find(root: Path, preset: str | None) -> tuple[list[Path], list[Path]]:
    if root.is_file():
        return ([Path(path) for path in list_videos(str(root))] if root.suffix == ".txt" else [root]), []
    if preset == "vimeo90k-test":
        listing = root / "sep_testlist.txt"
        if not listing.is_file():
            raise MissingError(f"{listing}: no such list, needed for the preset vimeo90k-test")
        names = [line.strip() for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [], [root / "sequences" / name for name in names]
    raw = sorted(p for p in root.rglob("*") if p.suffix.lower() == RAW_EXTENSION and not p.name.startswith("."))
    folders = [Path(folder) for folder, _, _ in os.walk(root) if list_images(folder)]
    try:
        videos = [Path(path) for path in list_videos(str(root))]
    except (InputError, MissingError):
        if not raw and not folders:
            raise
        videos = []
    return sorted(videos) + raw, sorted(folders, key=lambda path: natural_key(str(path)))


def _video(path: Path) -> EvalSequence:
    index: FileIndex = index_file(str(path))
    colour = frame_format(index)[1]
    tagged = "" if index.matrix else " (untagged)"
    text = f"{colour.matrix}{tagged}, {'full' if colour.full_range else 'limited'} range, {index.pix_fmt}"
    return EvalSequence(path.stem, str(path), "video", index.width, index.height, float(index.fps), len(index), text,
                        notes=index.notes)


def _pictures(folder: Path, root: Path) -> EvalSequence:
    if not folder.is_dir():
        raise MissingError(f"{folder}: no such folder of pictures")
    images = list_images(folder)
    if not images:
        raise InputError(f"{folder}: found no pictures")
    numbers = [int(m.group()) for m in (re.search(r"\d+(?=\D*$)", Path(p).stem) for p in images) if m]
    if len(numbers) == len(images) and len(set(numbers)) == len(numbers):
        _refuse_gaps(folder, sorted(numbers))
    height, width = image_size(images[0])
    name = str(folder.relative_to(root)) if folder != root else folder.resolve().name
    fps, assumed = _rate(folder.name)
    return EvalSequence(name.replace(os.sep, "/"), str(folder), "pictures", width, height, fps, len(images),
                        "RGB pictures", notes=assumed)


def _refuse_gaps(folder: Path, numbers: list[int]) -> None:
    """Numbers in equal steps (1, or 2 for every second frame) are a sequence; anything else lacks pictures."""
    steps = [b - a for a, b in zip(numbers, numbers[1:], strict=False)]
    usual = min(steps, default=1)
    for before, step in zip(numbers, steps, strict=False):
        if step != usual:
            raise InputError(f"{folder}: picture number {before + usual} is missing (found {before} and "
                             f"{before + step}, needed steps of {usual})")


def _rate(name: str) -> tuple[float, tuple[str, ...]]:
    """Frames per second out of a name like `Cactus_1920x1080_50`, and a note where it has none."""
    found = _RATE.search(name)
    if found is None:
        return _RATE_UNKNOWN, (f"frame rate unknown, {_RATE_UNKNOWN:g} assumed",)
    return float(next(group for group in found.groups() if group)), ()


def _raw(path: Path, given: RawFormat) -> EvalSequence:
    named = _RAW_SIZE.search(path.stem)
    if given.size is None and named is None:
        raise InputError(f"{path}: found no WIDTHxHEIGHT in the name, needed there or by --raw_size")
    width, height = given.size or (int(named[1]), int(named[2]))
    depth = given.depth or (10 if re.search(r"10[ _-]?bit|p10", path.stem, re.IGNORECASE) else 8)
    one = (width * height + 2 * (-(-width // 2)) * (-(-height // 2))) * (1 if depth == 8 else 2)
    frames, rest = divmod(path.stat().st_size, one)
    if rest or not frames:
        raise InputError(f"{path}: found {path.stat().st_size} bytes, needed a multiple of {one} "
                         f"({width}x{height}, 4:2:0, {depth} bits); give --raw_size or --raw_depth")
    fps, assumed = (given.fps, ()) if given.fps else _rate(path.stem)
    matrix = given.matrix or default_matrix(height)
    text = (f"{matrix}{'' if given.matrix else ' (by size)'}, {'full' if given.full_range else 'limited'} range, "
            f"raw 4:2:0 {depth} bits")
    return EvalSequence(path.stem, str(path), "raw", width, height, fps, frames, text, matrix, given.full_range, depth,
                        assumed)


class VideoValidationDataset(Dataset):
    """Whole videos for evaluation, in sorted order.

    `[index]` -> {"frames": float32 `(T, 3, H, W)` in [0, 1], "name": str, "num_frames": int}.
    `stream(index)` gives the frames one by one in constant memory. max_frames: only the first ones of each video.
    Raises MissingError, InputError, ReadError.
    """

    def __init__(self, video_dir: PathLike | Sequence[PathLike], transform: Callable | None = None,
                 max_frames: int | None = None) -> None:
        if max_frames is not None and max_frames < 1:
            raise InputError(f"max_frames: found {max_frames}, needed at least 1")
        self.transform, self.max_frames = transform, max_frames
        paths = [path for source in as_list(video_dir) for path in list_videos(source)]
        self.files = [index_file(path) for path in paths]
        stems = [os.path.splitext(os.path.basename(path))[0] for path in paths]
        self._names = [stem if stems.count(stem) == 1 else path for stem, path in zip(stems, paths, strict=True)]

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        """The file's name without its extension; the whole path where two share it."""
        return self._names[index]

    def stream(self, index: int) -> Iterator[Tensor]:
        """float32 `(3, H, W)` frames in order."""
        file = self.files[index]
        for frame in islice(VideoReader(file.path, index=file), self.max_frames):
            yield apply_transform(frame, self.transform)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"video {index} of {len(self)}")
        frames = torch.stack(list(self.stream(index)))
        return {"frames": frames, "name": self.name(index), "num_frames": len(frames)}


class HEVCB_Dataset(Dataset):
    """Evaluation on folders of pictures (HEVC class B): one item per sequence.

    `[index]` -> {"frames": float32 `(T, 3, H, W)` in [0, 1], "name": str, "num_frames": int}.
    `stream(index)` gives the frames one by one in constant memory. max_frames: only the first ones of each.
    Raises MissingError, InputError, ReadError.
    """

    def __init__(self, root: PathLike, transform: Callable | None = None, max_frames: int | None = None) -> None:
        if max_frames is not None and max_frames < 1:
            raise InputError(f"max_frames: found {max_frames}, needed at least 1")
        self.root, self.transform, self.max_frames = os.fspath(root), transform, max_frames
        self.folders = list_sequences(root)

    def __len__(self) -> int:
        return len(self.folders)

    def name(self, index: int) -> str:
        relative = os.path.relpath(self.folders[index], self.root)
        return os.path.basename(os.path.abspath(self.root)) if relative == "." else relative.replace(os.sep, "/")

    def stream(self, index: int) -> Iterator[Tensor]:
        """float32 `(3, H, W)` frames in order. All must have the first one's size."""
        size = None
        for path in list_images(self.folders[index])[: self.max_frames]:
            frame = read_image(path)
            size = size or frame.shape
            if frame.shape != size:
                raise InputError(f"{path}: found {frame.shape[2]}x{frame.shape[1]}, needed {size[2]}x{size[1]} "
                                 "as the sequence's first picture")
            yield apply_transform(frame, self.transform)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"sequence {index} of {len(self)}")
        frames = torch.stack(list(self.stream(index)))
        return {"frames": frames, "name": self.name(index), "num_frames": len(frames)}
