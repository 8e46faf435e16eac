"""Video files as training GOPs and as validation clips."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from dcvc.config import from_dict
from dcvc.data.augment import augment, has_cut
from dcvc.data.config import SamplingOptions
from dcvc.data.gop_cache import GOPCache
from dcvc.data.training_set import TrainingSet, check_length, check_size
from dcvc.data.video_list import VIDEO_EXTENSIONS, PathLike, as_list
from dcvc.data.video_table import VideoTable, build_table
from dcvc.errors import InputError, ReadError
from dcvc.interfaces import Crop
from dcvc.video.file_index import sample_depth
from dcvc.video.reader import VideoReader
from dcvc.video.yuv_to_rgb import compile_loops

log = logging.getLogger("dcvc.data")


class OpenReaders:
    """A bounded number of open readers, the least recently used closed first. What they decoded without error is
    remembered for more files than are open."""

    REMEMBERED = 4096

    def __init__(self, limit: int = 32, skip_unreferenced: bool = False) -> None:
        self.limit, self.skip_unreferenced = limit, skip_unreferenced
        self._readers: OrderedDict[int, VideoReader] = OrderedDict()
        self._verified_until: OrderedDict[int, dict[int, int]] = OrderedDict()

    def get(self, table: VideoTable, row: int) -> VideoReader:
        reader = self._readers.pop(row, None)
        if reader is None:
            index = table.row(row)
            verified = self._verified_until[row] = self._verified_until.pop(row, {})
            reader = VideoReader(index.path, index=index, skip_unreferenced=self.skip_unreferenced,
                                 verified_until=verified)
            if len(self._verified_until) > self.REMEMBERED:
                self._verified_until.popitem(last=False)
        self._readers[row] = reader
        while len(self._readers) > self.limit:
            self._readers.popitem(last=False)[1].close()
        return reader

    def close(self) -> None:
        while self._readers:
            self._readers.popitem()[1].close()

    def __getstate__(self) -> dict:
        return {"limit": self.limit, "skip": self.skip_unreferenced}  # files are opened in the process that reads them

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["limit"], state["skip"])


@dataclass(frozen=True)
class Choice:
    """What one sample is made of: row of the table, first frame, crop of the displayed picture, backwards or not."""

    row: int
    start: int
    crop: Crop
    backwards: bool


def _parts(size: int) -> Iterator[slice]:
    return (slice(first, first + 65_536) for first in range(0, size, 65_536))


class VideoGOPDataset(TrainingSet):
    """GOPs straight from video files: `gop_size` consecutive frames, the same crop in all. See TrainingSet.

    video_dir: a folder (with everything below it), a file, a .txt list of paths, an index made by `dcvc index`, or
    several of these. crop_size: side of the square crop in pixels; None keeps whole frames.
    random_shuffle: random start and crop; otherwise the first frames (evenly spaced ones if samples_per_video > 1)
    and the centre. max_frames_to_check: taken for the community's calls; the index counts every frame exactly and
    without decoding, so it limits nothing. transform: called with each frame as a PIL image, after the crop.
    index: where to keep the data set's index. sampling options: the fields of SamplingOptions, by keyword.
    Raises MissingError, InputError (no videos, too few frames, smaller than the crop), ReadError (cannot open/decode).
    """

    def __init__(self, video_dir: PathLike | Sequence[PathLike], gop_size: int = 7, transform: Callable | None = None,
                 crop_size: int | None = 256, random_shuffle: bool = True, seed: int | None = None,
                 max_frames_to_check: int | None = 1000, *, extensions: Sequence[str] = VIDEO_EXTENSIONS,
                 index: PathLike | None = None, **sampling: Any) -> None:
        super().__init__(gop_size, transform, crop_size, random_shuffle, seed)
        if max_frames_to_check is not None and max_frames_to_check < 1:
            raise InputError(f"max_frames_to_check: found {max_frames_to_check}, needed at least 1")
        self.options = from_dict(SamplingOptions, sampling, "VideoGOPDataset")
        sources = as_list(video_dir)
        self.table = build_table(sources, extensions=extensions, index=index)
        self.crops_per_read = self.options.crops_per_read
        megabytes = self.options.cache_mb or (512 if self.crops_per_read > 1 else 0)
        self._cache = GOPCache(megabytes << 20) if megabytes else None
        self._span = (gop_size - 1) * self.options.stride + 1
        self._rows = self._usable_rows()
        self._total = max(1, len(self.table) + len(self.table.excluded))
        self._bad: dict[int, str] = {}
        self._cumulated = self._frame_weights(len(sources))
        self._readers = OpenReaders(skip_unreferenced=self.options.skip_unreferenced)

    def _usable_rows(self) -> np.ndarray:
        """Rows long and large enough. Bad files raise, or are logged and left out with on_bad_video="skip"."""
        table, needed = self.table, max(self.crop_size or 1, *(self.options.rescale or (1,))[:1])
        problems = [ReadError(entry[3]) for entry in table.excluded]
        # Piece by piece: the allocator keeps what large intermediate arrays took.
        good = np.empty(len(table), bool)
        for part in _parts(len(good)):
            good[part] = ((table.frames[part] >= self._span) & (table.height[part] >= needed) &
                          (table.width[part] >= needed))
        for i in np.flatnonzero(~good):
            try:
                check_length(table.path(i), int(table.frames[i]), self._span)
                check_size(table.path(i), (int(table.height[i]), int(table.width[i])), needed)
            except InputError as error:
                problems.append(error)
        if problems and self.options.on_bad_video == "raise":
            raise problems[0]
        for problem in problems:
            log.warning("video skipped: %s", problem)
        share = len(problems) / max(1, len(table) + len(table.excluded))
        if share > self.options.max_bad_share or not good.any():
            raise ReadError(f"{len(problems)} of {len(table) + len(table.excluded)} videos are bad, needed at most "
                            f"{self.options.max_bad_share:.0%} (max_bad_share); the first: {problems[0]}")
        table.release()
        rows, end = np.empty(np.count_nonzero(good), np.int32), 0
        for part in _parts(len(good)):
            found = np.flatnonzero(good[part]) + part.start
            rows[end: end + len(found)], end = found, end + len(found)
        return rows

    def _frame_weights(self, sources: int) -> np.ndarray | None:
        """Cumulated weight of each usable row, None where every video is drawn in turn."""
        options = self.options
        if options.weights is not None and len(options.weights) != sources:
            raise InputError(f"weights: found {len(options.weights)}, needed {sources}, one per entry of video_dir")
        if options.sampling == "videos" and options.weights is None:
            return None
        mass = np.ones(len(self._rows))
        for part in _parts(len(mass)) if options.sampling == "frames" else ():
            mass[part] = self.table.frames[self._rows[part]] - self._span + 1
        if options.weights is not None:
            source = self.table.source[self._rows]
            sums = np.bincount(source, mass, sources)
            if min(options.weights) < 0 or not (np.array(options.weights) * sums).sum() > 0:
                raise InputError(f"weights: found {options.weights}, needed numbers from 0 up, one of them above 0")
            mass = mass * (np.array(options.weights) / np.maximum(sums, 1e-300))[source]
        self.table.release()
        return np.cumsum(mass, out=mass)

    def __len__(self) -> int:
        return len(self._rows) * self.options.samples_per_video

    def prepare_workers(self) -> None:
        compile_loops(sample_depth(name) for name in self.table.header["pix_fmt"])

    def _choose(self, index: int, rng: np.random.Generator, redraw: bool) -> Choice:
        position, turn = divmod(index, self.options.samples_per_video)
        if redraw:
            position = int(rng.integers(len(self._rows)))
        if self._cumulated is not None and self.random_shuffle:
            position = int(self._cumulated.searchsorted(rng.random() * self._cumulated[-1], "right"))
        row = int(self._rows[min(position, len(self._rows) - 1)])
        starts = int(self.table.frames[row]) - self._span + 1
        size = int(self.table.height[row]), int(self.table.width[row])
        if self.random_shuffle:
            start = int(rng.integers(starts))
        else:
            start = turn * starts // self.options.samples_per_video
        backwards = self.options.reverse and bool(rng.random() < 0.5)
        return Choice(row, start, self._crop(size, rng), backwards)

    def _crop(self, size: tuple[int, int], rng: np.random.Generator) -> Crop:
        wanted = self.crop_size
        if wanted is None or self.options.rescale is None:
            return self.choose_crop(size, rng)
        low, high = self.options.rescale
        target = min(int(rng.integers(low, high + 1)), min(size))
        side = max(wanted, min(min(size), round(wanted * min(size) / max(target, wanted))))
        top, left = (int(rng.integers(room - side + 1)) for room in size)
        return top, left, side, side

    def _read(self, choice: Choice, siblings: Sequence[Crop] = ()) -> Tensor:
        """The frames of a choice; the `siblings`, other crops of the same decoding, are kept for their samples."""
        key = choice.row, choice.start
        frames = None
        if self._cache is not None:
            frames = self._cache.take((*key, choice.crop)) if siblings else self._cache.get((*key, choice.crop))
        if frames is None:
            crops = [choice.crop, *(crop for crop in siblings if crop != choice.crop)]
            reader = self._readers.get(self.table, choice.row)
            read = [found[:: self.options.stride] for found in reader.read_crops(choice.start, self._span, crops)]
            frames = read[0]
            if self._cache is not None:
                for crop, found in list(zip(crops, read, strict=True))[1 if siblings else 0:]:
                    self._cache.put((*key, crop), found.clone() if self.options.stride > 1 else found)
        return frames.flip(0) if choice.backwards else frames

    def _draw(self, epoch: int, index: int) -> tuple[Choice, Tensor, np.random.Generator]:
        """The choice and its frames; drawn again from the seed where the file is bad or the scene changes."""
        group = index - index % self.crops_per_read  # its first sample draws file and frames for all of the group
        rng, redraw = self.rng(epoch, group), False
        for attempt in range(50):
            choice, siblings, own = self._choose(group, rng, redraw), [], rng
            if self.crops_per_read > 1:
                size = int(self.table.height[choice.row]), int(self.table.width[choice.row])
                draws = [np.random.default_rng((self.seed, epoch, group + k, attempt)) for k in
                         range(self.crops_per_read)]
                siblings, own = [self._crop(size, draw) for draw in draws], draws[index - group]
                choice = replace(choice, crop=siblings[index - group])
            try:
                frames = self._read(choice, siblings)
            except ReadError as error:
                if self.options.on_bad_video == "raise":
                    raise
                self._note_bad(choice.row, error)
                redraw = True
                continue
            if self.options.avoid_cuts and attempt < 8 and has_cut(self._judged(choice, siblings, frames)):
                continue
            return choice, frames, own
        raise ReadError(f"no readable GOP in 50 draws; the last file: {self.table.path(choice.row)}")

    def _judged(self, choice: Choice, siblings: Sequence[Crop], frames: Tensor) -> Tensor:
        """The frames that decide about a cut: the same for all samples of a group."""
        if not siblings or choice.crop == siblings[0]:
            return frames
        return self._readers.get(self.table, choice.row).read(choice.start, self._span, siblings[0])

    def _note_bad(self, row: int, error: ReadError) -> None:
        if row not in self._bad:
            self._bad[row] = str(error)
            log.warning("video skipped: %s", error)
        if len(self._bad) + self._total - len(self._rows) > self.options.max_bad_share * self._total:
            raise ReadError(f"{len(self._bad) + self._total - len(self._rows)} of {self._total} videos are bad, needed "
                            f"at most {self.options.max_bad_share:.0%} (max_bad_share); the last: {error}") from None

    def sample(self, epoch: int, index: int) -> Tensor:
        _, frames, rng = self._draw(epoch, index)
        return self.finish(augment(frames, self.options, self.crop_size, rng))

    def describe(self, index: int) -> str:
        """The file and frames that this epoch's sample `index` is made of."""
        index = self._checked(index)
        if self.options.avoid_cuts or self.options.on_bad_video == "skip" or self.crops_per_read > 1:
            choice = self._draw(self.epoch, index)[0]
        else:
            choice = self._choose(index, self.rng(self.epoch, index), False)
        return f"{self.table.path(choice.row)} frames {choice.start}-{choice.start + self._span - 1}"


