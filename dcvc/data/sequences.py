"""What is evaluated: videos, folders of pictures, raw yuv files, and the field's test sets by their folder layout."""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dcvc.data.colour import Colour, default_matrix, to_rgb
from dcvc.data.file_index import FileIndex, index_file
from dcvc.data.image_sequences import list_images, natural_key, read_image
from dcvc.data.planes import frame_format
from dcvc.data.video_list import list_videos
from dcvc.data.video_reader import VideoReader
from dcvc.errors import InputError, MissingError

RAW_EXTENSION = ".yuv"
_RAW_SIZE = re.compile(r"(?<!\d)(\d{2,5})x(\d{2,5})(?!\d)")
_RAW_RATE = re.compile(r"(\d{2,3})(?:fps|hz)|\d+x\d+_(\d{2,3})(?!\d)", re.IGNORECASE)


@dataclass(frozen=True)
class Preset:
    """What papers do with a test set: frames of each sequence, intra period; `layout` says how it lies on disk."""

    frames: int | None
    intra_period: int
    layout: str


PRESETS = {
    **{f"hevc-{c}": Preset(100, 10, "NAME_WIDTHxHEIGHT_FPS.yuv, or a folder of pictures per sequence") for c in "bcde"},
    "uvg": Preset(120, 12, "NAME_1920x1080_120fps_420_8bit_YUV.yuv, or a folder of pictures per sequence"),
    "mcl-jcv": Preset(120, 12, "videoSRCnn_1920x1080_FPS.yuv or .mp4"),
    "vimeo90k-test": Preset(7, 7, "sequences/00001/0266/im1.png … im7.png and sep_testlist.txt"),
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

    def stream(self) -> Iterator[Tensor]:
        """Its frames as uint8 `(3, H, W)` RGB, one at a time. Raises ReadError, InputError."""
        if self.kind == "video":
            found = iter(VideoReader(self.path))
        elif self.kind == "pictures":
            found = (read_image(path) for path in list_images(self.path))
        else:
            found = self._raw()
        for number, frame in enumerate(islice(found, self.frames)):
            if tuple(frame.shape) != (3, self.height, self.width):
                raise InputError(f"{self.path}: frame {number} is {frame.shape[2]}x{frame.shape[1]}, needed "
                                 f"{self.width}x{self.height} as the first")
            yield frame

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

    def digest(self) -> str:
        """SHA-256 of the RGB samples: the same content has the same digest in any file."""
        digest = hashlib.sha256(f"{self.width}x{self.height}".encode())
        for frame in self.stream():
            digest.update(frame.contiguous().numpy())
        return digest.hexdigest()

    def describe(self) -> dict:
        kept = ("name", "width", "height", "fps", "frames", "colour")
        return {key: value for key, value in asdict(self).items() if key in kept}


def open_sequences(source: str | os.PathLike, preset: str | None = None, max_frames: int | None = None,
                   raw_size: tuple[int, int] | None = None, raw_depth: int | None = None) -> list[EvalSequence]:
    """Everything to evaluate at `source`: a video, a text file of paths, a raw .yuv file (4:2:0; size from its name or
    `raw_size` = (width, height)), a folder of these, folders of pictures, or a test set named by `preset` (a key of
    PRESETS).

    Raises MissingError, InputError (nothing found, no size, missing frames), ReadError."""
    if max_frames is not None and max_frames < 1:
        raise InputError(f"max_frames: found {max_frames}, needed at least 1")
    if preset is not None and preset not in PRESETS:
        raise InputError(f"preset: found {preset!r}, needed one of {', '.join(PRESETS)}")
    if preset:
        max_frames = max_frames or PRESETS[preset].frames
    root = Path(source)
    if not root.exists():
        raise MissingError(f"{root}: no such file or folder")
    if preset == "davis":
        root = next(base for base in (root / "JPEGImages" / "480p", root / "JPEGImages", root) if base.exists())
    files, folders = _find(root, preset)
    found = [_raw(path, raw_size, raw_depth) if path.suffix.lower() == RAW_EXTENSION else _video(path)
             for path in files]
    found += [_pictures(folder, root) for folder in folders]
    if not found:
        layout = f" laid out as {PRESETS[preset].layout}" if preset else ""
        raise InputError(f"{root}: found no videos, .yuv files or folders of pictures{layout}")
    names = [sequence.name for sequence in found]
    double = next((name for name in names if names.count(name) > 1), None)
    if double:
        raise InputError(f"{root}: found two sequences named '{double}', needed different names")
    return [EvalSequence(**{**asdict(s), "frames": min(s.frames, max_frames or s.frames)}) for s in found]


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
    return EvalSequence(path.stem, str(path), "video", index.width, index.height, float(index.fps), len(index), text)


def _pictures(folder: Path, root: Path) -> EvalSequence:
    images = list_images(folder)
    if not images:
        raise InputError(f"{folder}: found no pictures")
    numbers = [int(m.group()) for m in (re.search(r"\d+(?=\D*$)", Path(p).stem) for p in images) if m]
    if len(numbers) == len(images) and len(set(numbers)) == len(numbers):
        gap = next((a + 1 for a, b in zip(numbers, numbers[1:], strict=False) if b == a + 2), None)
        if gap is not None:
            raise InputError(f"{folder}: picture number {gap} is missing")
    height, width = read_image(images[0]).shape[-2:]
    name = str(folder.relative_to(root)) if folder != root else folder.name
    return EvalSequence(name.replace(os.sep, "/"), str(folder), "pictures", width, height, 25.0, len(images),
                        "RGB pictures")


def _raw(path: Path, size: tuple[int, int] | None, depth: int | None) -> EvalSequence:
    named = _RAW_SIZE.search(path.stem)
    if size is None and named is None:
        raise InputError(f"{path}: found no WIDTHxHEIGHT in the name, needed there or by --raw_size")
    width, height = size or (int(named[1]), int(named[2]))
    depth = depth or (10 if re.search(r"10[ _-]?bit|p10", path.stem, re.IGNORECASE) else 8)
    one = (width * height + 2 * (-(-width // 2)) * (-(-height // 2))) * (1 if depth == 8 else 2)
    frames, rest = divmod(path.stat().st_size, one)
    if rest or not frames:
        raise InputError(f"{path}: found {path.stat().st_size} bytes, needed a multiple of {one} "
                         f"({width}x{height}, 4:2:0, {depth} bits); name the size by --raw_size")
    rate = _RAW_RATE.search(path.stem)
    fps = float(next(g for g in rate.groups() if g)) if rate else 25.0
    matrix = default_matrix(height)
    return EvalSequence(path.stem, str(path), "raw", width, height, fps, frames,
                        f"{matrix} (by size), limited range, raw 4:2:0 {depth} bits", matrix, False, depth)
