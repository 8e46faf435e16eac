"""Whole sequences as data sets, to validate a model while it trains: lists of EvalSequence."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dcvc.data.eval_sequences import (
    EvalSequence,
    check_max_frames,
    picture_sequence,
    video_sequence,
    with_distinct_names,
)
from dcvc.data.training_set import apply_transform, check_index
from dcvc.data.video_list import PathLike, as_list, list_videos
from dcvc.video.images import list_sequences


class SequenceDataset(Dataset):
    """`[index]` -> {"frames": float32 `(T, 3, H, W)` in [0, 1], "name": str, "num_frames": int}.

    `stream(index)` gives the same frames one by one, in constant memory. max_frames: only the first
    ones of each sequence. transform: called with each frame as a PIL image. sequences: in whole.
    Raises MissingError, InputError, ReadError.
    """

    noun = "sequence"                           # what messages call an item

    def __init__(self, sequences: list[EvalSequence], transform: Callable | None,
                 max_frames: int | None) -> None:
        check_max_frames(max_frames, "max_frames")
        # Not cut to max_frames: how long the sequences are tells whether the data changed.
        self.sequences, self.transform, self.max_frames = sequences, transform, max_frames

    def __len__(self) -> int:
        return len(self.sequences)

    def name(self, index: int) -> str:
        return self.sequences[index].name

    def stream(self, index: int) -> Iterator[Tensor]:
        """float32 `(3, H, W)` frames in order."""
        for frame in islice(self.sequences[index].stream(), self.max_frames):
            yield apply_transform(frame, self.transform)

    def __getitem__(self, index: int) -> dict[str, Any]:
        # A whole sequence in memory: for scripts. Evaluation streams.
        index = check_index(self.noun, index, len(self))
        frames = torch.stack(list(self.stream(index)))
        return {"frames": frames, "name": self.name(index), "num_frames": len(frames)}


class VideoValidationDataset(SequenceDataset):
    """Whole videos, in sorted order; see SequenceDataset. A video's name is its file's without the
    extension, or its path from their common folder where two files share it."""

    noun = "video"

    def __init__(self, video_dir: PathLike | Sequence[PathLike], transform: Callable | None = None,
                 max_frames: int | None = None) -> None:
        paths = [path for source in as_list(video_dir) for path in list_videos(source)]
        videos = [video_sequence(path) for path in paths]
        # Two videos of one name would be one in tables and in TensorBoard.
        super().__init__(with_distinct_names(videos), transform, max_frames)


class HEVCB_Dataset(SequenceDataset):
    """Folders of pictures at or below `root` (HEVC class B), one sequence each; see
    SequenceDataset. A sequence's name is its folder's path below `root`."""

    def __init__(self, root: PathLike, transform: Callable | None = None,
                 max_frames: int | None = None) -> None:
        sequences = [picture_sequence(folder, root) for folder in list_sequences(root)]
        super().__init__(sequences, transform, max_frames)
