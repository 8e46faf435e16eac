"""Video files as training GOPs and as validation clips."""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dcvc.data.file_index import FileIndex, index_file
from dcvc.data.training_set import Crop, TrainingSet, apply_transform, check_length, check_size
from dcvc.data.video_list import PathLike, as_list, list_videos
from dcvc.data.video_reader import VideoReader
from dcvc.errors import InputError


class OpenReaders:
    """A bounded number of open readers, the least recently used closed first."""

    def __init__(self, limit: int = 32) -> None:
        self.limit = limit
        self._readers: OrderedDict[str, VideoReader] = OrderedDict()

    def get(self, index: FileIndex) -> VideoReader:
        reader = self._readers.pop(index.path, None) or VideoReader(index.path, index=index)
        self._readers[index.path] = reader
        while len(self._readers) > self.limit:
            self._readers.popitem(last=False)[1].close()
        return reader

    def close(self) -> None:
        while self._readers:
            self._readers.popitem()[1].close()

    def __getstate__(self) -> dict:
        return {"limit": self.limit}  # files are opened in the process that reads them

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["limit"])


class VideoGOPDataset(TrainingSet):
    """GOPs straight from video files: `gop_size` consecutive frames, the same crop in all. See TrainingSet.

    video_dir: a folder (with everything below it), a file, a .txt list of paths, or several of these.
    crop_size: side of the square crop in pixels; None keeps whole frames (then all videos need one size).
    random_shuffle: random start and crop; otherwise the first frames and the centre.
    max_frames_to_check: taken for the community's calls; the index counts all frames exactly, so nothing is limited.
    transform: called with each frame as a PIL image, after the crop.
    Raises MissingError, InputError (no videos, too few frames, smaller than the crop), ReadError (cannot open/decode).
    """

    def __init__(self, video_dir: PathLike | Sequence[PathLike], gop_size: int = 7, transform: Callable | None = None,
                 crop_size: int | None = 256, random_shuffle: bool = True, seed: int | None = None,
                 max_frames_to_check: int | None = 1000) -> None:
        super().__init__(gop_size, transform, crop_size, random_shuffle, seed)
        if max_frames_to_check is not None and max_frames_to_check < 1:
            raise InputError(f"max_frames_to_check: found {max_frames_to_check}, needed at least 1")
        paths = [path for source in as_list(video_dir) for path in list_videos(source)]
        self.files = [index_file(path) for path in paths]
        for file in self.files:
            check_length(file.path, len(file), gop_size)
            check_size(file.path, (file.height, file.width), crop_size)
        self._readers = OpenReaders()

    def __len__(self) -> int:
        return len(self.files)

    def _choose(self, epoch: int, index: int) -> tuple[FileIndex, int, Crop]:
        file = self.files[index]
        rng = self.rng(epoch, index)
        start = int(rng.integers(len(file) - self.gop_size + 1)) if self.random_shuffle else 0
        return file, start, self.choose_crop((file.height, file.width), rng)

    def sample(self, epoch: int, index: int) -> Tensor:
        file, start, crop = self._choose(epoch, index)
        return self.finish(self._readers.get(file).read(start, self.gop_size, crop))

    def describe(self, index: int) -> str:
        """The file and frames that this epoch's sample `index` is made of."""
        file, start, _ = self._choose(self.epoch, self._checked(index))
        return f"{file.path} frames {start}-{start + self.gop_size - 1}"


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
