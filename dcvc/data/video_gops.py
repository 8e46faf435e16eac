"""Training GOPs straight from video files.

A sample is `gop_size` frames of one video, `stride` frames apart, cut to the same square in all of
them. Its span is what that takes of the video: gop_size = 3 and stride = 4 take frames s, s+4, s+8,
a span of 9 frames. How sample number `index` of an epoch is made:

    which video? ─▶ first frame? ─▶ backwards? ─▶ crop? ─▶ decode ─▶ scene change? ─▶ augment
         ▲                                                   │ bad file    │ yes
         └──────────────── draw again ───────────────────────┴─────────────┘

All draws use random numbers seeded with (seed, epoch, index). Their order is part of every sample:
in another order, the same seed would give other samples.

Which video. Files too short for the span or too small for the crop are known from the data set's
index, without opening them: fitting_videos.py tells what becomes of them. Say A has 48 frames, B has
15, and the span is 9:
* sampling="videos": each in turn, `samples_per_video` times. With 2, samples 0 1 2 3 are of A A B
  B. (So it always is without random_shuffle, for then nothing is drawn.)
* sampling="frames": drawn so that every possible GOP is equally likely. A has 40 first frames and B
  has 7: A is drawn 40/7 times as often. The number of samples in an epoch is the same.
* weights: one per entry of video_dir. The entry is drawn by its weight, then one of its videos as
  above, so that a folder of many videos is drawn no more often than a folder of few.

First frame: any that leaves room for the span, all equally likely.

Crop: anywhere in the picture, at full size. rescale=(low, high): a larger square, which `augment`
scales down to `crop_size`, as if the video's short side had from `low` to `high` pixels. Of a small
video (small_videos="enlarge") a smaller square, which is scaled up: of 320x180 pixels and a crop of
192 all 180 rows, as if the short side had 192; with rescale as if it had `low`, and never more.

Scene change within the GOP (avoid_cuts): drawn again, 8 times at most; then it is taken as it is.

Bad file: an error; with on_bad_video="skip", any other video is drawn (see bad_videos.py).

Several samples of one decoding (crops_per_read = k): samples k·g … k·g+k-1 are the group g. The
group's first number seeds the draws of video, first frame and direction, so that they agree in
these; each draws its own crop and augmentation. step_sampler.py spreads them over the steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from dcvc.config import from_dict
from dcvc.data.augment import augment, forth_and_back, has_cut
from dcvc.data.bad_videos import BadVideos
from dcvc.data.config import SamplingOptions
from dcvc.data.fitting_videos import Need, fitting_videos, parts
from dcvc.data.gop_cache import GOPCache
from dcvc.data.reader_cache import ReaderCache
from dcvc.data.training_set import TrainingSet, check_index
from dcvc.data.video_list import VIDEO_EXTENSIONS, PathLike, as_list
from dcvc.data.video_table import build_table
from dcvc.errors import InputError, ReadError
from dcvc.interfaces import Crop
from dcvc.video.file_index import sample_depth
from dcvc.video.yuv_to_rgb import compile_loops

# Of one sample; reached only where nearly all files are bad.
MOST_DRAWS = 50
# A video of nothing but cuts must not be drawn for ever.
MOST_CUTS = 8
# With crops_per_read, unless cache_mb says otherwise. For scale: 12 batches of 16 GOPs of 7 frames
# of 256x256 take 264 MB for each crop that waits, shared out over the workers.
CACHE_MB = 512


@dataclass(frozen=True)
class GOPPlace:
    """Where a sample's frames lie: row of the table, first frame, crop of the displayed picture."""

    row: int
    start: int
    crop: Crop
    # The last frame first: motion in the other direction, from the same decoding.
    backwards: bool


class VideoGOPDataset(TrainingSet):
    """GOPs straight from video files, as explained at the top. See TrainingSet.

    video_dir: a folder (with everything below it), a file, a .txt list of paths, an index made by
    `dcvc index`, or several of these. crop_size: side of the square crop in pixels; None keeps
    whole frames. random_shuffle: random start and crop; otherwise the first frames (evenly spaced
    ones if samples_per_video > 1) and the centre. max_frames_to_check: taken for the community's
    calls; the index counts every frame exactly and without decoding, so it limits nothing.
    transform: called with each frame as a PIL image, after the crop. index: where to keep the data
    set's index. sampling: the fields of SamplingOptions, by keyword.
    Raises MissingError, InputError (no videos, too few frames, smaller than the crop), ReadError
    (cannot open or decode).
    """

    def __init__(self, video_dir: PathLike | Sequence[PathLike], gop_size: int = 7,
                 transform: Callable | None = None, crop_size: int | None = 256,
                 random_shuffle: bool = True, seed: int | None = None,
                 max_frames_to_check: int | None = 1000, *,
                 extensions: Sequence[str] = VIDEO_EXTENSIONS, index: PathLike | None = None,
                 **sampling: Any) -> None:
        super().__init__(gop_size, transform, crop_size, random_shuffle, seed)
        if max_frames_to_check is not None and max_frames_to_check < 1:
            raise InputError(f"max_frames_to_check: found {max_frames_to_check}, needed at least 1")
        self.options = from_dict(SamplingOptions, sampling, "VideoGOPDataset")
        sources = as_list(video_dir)
        self.table = build_table(sources, extensions=extensions, index=index)
        self.crops_per_read = self.options.crops_per_read
        megabytes = self.options.cache_mb or (CACHE_MB if self.crops_per_read > 1 else 0)
        self._cache = GOPCache(megabytes << 20) if megabytes else None
        self._need = Need(gop_size, crop_size, self.options)
        self._span = self._need.span
        self._rows = self._usable_rows()
        self._cumulated = self._cumulated_weights(len(sources))
        self._readers = ReaderCache(skip_unreferenced=self.options.skip_unreferenced)

    def _usable_rows(self) -> np.ndarray:
        """The rows that samples are drawn from, and the count of bad videos."""
        table = self.table
        errors = [ReadError(entry[3]) for entry in table.excluded]
        if errors and self.options.on_bad_video == "raise":
            raise errors[0]
        fitting = fitting_videos(table, self._need)
        self._bad = BadVideos(errors + fitting.errors, len(table) + len(table.excluded),
                              self.options)
        if fitting.left_out and not fitting.usable.any():
            raise InputError(f"{fitting.left_out[0]}; found no other videos")
        # From here on, numbers of videos count the usable ones only; `_rows` leads back to the
        # table.
        return np.concatenate([np.flatnonzero(fitting.usable[part]).astype(np.int32) + part.start
                               for part in parts(len(fitting.usable))])

    def _cumulated_weights(self, sources: int) -> np.ndarray | None:
        """The usable rows' weights summed up to each, to draw by; None: each video in turn."""
        options = self.options
        if options.weights is not None and len(options.weights) != sources:
            raise InputError(f"weights: found {len(options.weights)}, needed {sources}, one per entry "
                             "of video_dir")
        if options.sampling == "videos" and options.weights is None:
            return None
        # As many as a video has possible GOPs, or one.
        weights = np.ones(len(self._rows))
        for part in parts(len(weights)) if options.sampling == "frames" else ():
            weights[part] = np.maximum(self.table.frames[self._rows[part]] - self._span + 1, 1)
        if options.weights is not None:
            # Within each entry the weights are made to come to 1 before the entry's own one counts.
            source = self.table.source[self._rows]
            sums = np.bincount(source, weights, sources)
            wanted = np.array(options.weights)
            if wanted.min() < 0 or not (wanted * sums).sum() > 0:
                raise InputError(f"weights: found {options.weights}, needed numbers from 0 up, one of "
                                 "them above 0")
            # An entry without usable videos has the sum 0 and no row that would be divided by it.
            weights = weights * (wanted / np.maximum(sums, 1e-300))[source]
        self.table.release()
        return np.cumsum(weights, out=weights)

    def __len__(self) -> int:
        return len(self._rows) * self.options.samples_per_video

    def prepare_workers(self) -> None:
        # Compiling takes seconds, and its result serves all workers.
        compile_loops(sample_depth(name) for name in self.table.header["pix_fmt"])

    def _length(self, row: int) -> int:
        """How many frames a GOP of this video is made of."""
        return min(self._span, int(self.table.frames[row]))

    def _size(self, row: int) -> tuple[int, int]:
        return int(self.table.height[row]), int(self.table.width[row])

    def choose_gop(self, index: int, rng: np.random.Generator, any_video: bool = False) -> GOPPlace:
        """Where sample `index` lies, by these random numbers. any_video: of a video drawn anew."""
        position, turn = divmod(index, self.options.samples_per_video)
        if any_video:
            position = int(rng.integers(len(self._rows)))
        if self._cumulated is not None and self.random_shuffle:
            mark = rng.random() * self._cumulated[-1]
            position = int(self._cumulated.searchsorted(mark, "right"))
        # The product above may be rounded up to the sum itself, behind which there is no row.
        row = int(self._rows[min(position, len(self._rows) - 1)])
        starts = max(int(self.table.frames[row]) - self._span + 1, 1)
        if self.random_shuffle:
            start = int(rng.integers(starts))
        else:
            # Evenly spaced over the video: 40 starts and 4 samples begin at 0, 10, 20, 30.
            start = turn * starts // self.options.samples_per_video
        backwards = self.options.reverse and bool(rng.random() < 0.5)
        return GOPPlace(row, start, self._choose_crop(row, rng), backwards)

    def _choose_crop(self, row: int, rng: np.random.Generator) -> Crop:
        size, wanted = self._size(row), self.crop_size
        if wanted is None:
            return self.choose_crop(size, rng)
        short_side = min(size)
        if self.options.rescale is None:
            return self.choose_crop(size, rng, min(wanted, short_side))
        # Scaling a picture and cropping it is the same as cropping a larger square and scaling
        # that. The draw decides, between what the video has and what a sample needs.
        low, high = self.options.rescale
        target = max(min(int(rng.integers(low, high + 1)), short_side), self._need.side)
        side = max(1, round(wanted * short_side / target))
        top, left = (int(rng.integers(length - side + 1)) for length in size)
        return top, left, side, side

    def _read(self, place: GOPPlace, group_crops: Sequence[Crop]) -> Tensor:
        """The frames at a place, from memory where they are kept; group_crops: of all samples of
        its group, empty without groups."""
        key = place.row, place.start
        frames = None
        if self._cache is not None:
            # A group's crop is asked for once, so it need not stay. Others are, in the next epoch.
            from_cache = self._cache.take if group_crops else self._cache.get
            frames = from_cache((*key, place.crop))
        if frames is None:
            crops = [place.crop, *(crop for crop in group_crops if crop != place.crop)]
            reader = self._readers.get(self.table, place.row)
            spans = reader.read_crops(place.start, self._length(place.row), crops)
            gops = [forth_and_back(frames[:: self.options.stride], self.gop_size)
                    for frames in spans]
            frames = gops[0]
            if self._cache is not None:
                # For the same reason the group's own crop, the first, is not kept.
                for crop, gop in list(zip(crops, gops, strict=True))[1 if group_crops else 0:]:
                    # A view would keep the frames that the stride left out in memory, too.
                    self._cache.put((*key, crop), gop.clone() if self.options.stride > 1 else gop)
        return frames.flip(0) if place.backwards else frames

    def _draw(self, epoch: int, index: int) -> tuple[GOPPlace, Tensor, np.random.Generator]:
        """The place, its frames, and the generator that goes on with the augmentation."""
        member = index % self.crops_per_read
        group = index - member
        rng, any_video = self.rng(epoch, group), False
        # All samples of a group go through this alone and must come to the same place, whichever is
        # asked for first. So the group's generator chooses, and nothing here depends on the member.
        for attempt in range(MOST_DRAWS):
            place, crops, own_rng = self.choose_gop(group, rng, any_video), [], rng
            if self.crops_per_read > 1:
                rngs = [np.random.default_rng((self.seed, epoch, group + k, attempt))
                        for k in range(self.crops_per_read)]
                crops, own_rng = [self._choose_crop(place.row, each) for each in rngs], rngs[member]
                place = replace(place, crop=crops[member])
            try:
                frames = self._read(place, crops)
            except ReadError as error:
                self._bad.add(place.row, error)
                # The same generator goes on: the next draw differs, and is still a matter of the
                # seed.
                any_video = True
                continue
            judged = self.options.avoid_cuts and attempt < MOST_CUTS
            if judged and has_cut(self._judged(place, crops, frames)):
                continue
            return place, frames, own_rng
        raise ReadError(f"no readable GOP in {MOST_DRAWS} draws; the last file: "
                        f"{self.table.path(place.row)}")

    def _judged(self, place: GOPPlace, group_crops: Sequence[Crop], frames: Tensor) -> Tensor:
        """The frames that decide about a cut: for a whole group those of its first crop."""
        if not group_crops or place.crop == group_crops[0]:
            return frames
        reader = self._readers.get(self.table, place.row)
        return reader.read(place.start, self._length(place.row), group_crops[0])

    def gop(self, epoch: int, index: int) -> Tensor:
        _, frames, rng = self._draw(epoch, index)
        return augment(frames, self.options, self.crop_size, rng)

    def describe(self, index: int) -> str:
        """The file and frames that this epoch's sample `index` is made of."""
        index = check_index("sample", index, len(self))
        options = self.options
        if options.avoid_cuts or options.on_bad_video == "skip" or self.crops_per_read > 1:
            # What is drawn again is known only after reading.
            place = self._draw(self.epoch, index)[0]
        else:
            place = self.choose_gop(index, self.rng(self.epoch, index))
        last = place.start + self._length(place.row) - 1
        return f"{self.table.path(place.row)} frames {place.start}-{last}"
