"""Which data set serves a stage: videos when asked for, else the community's image sequences."""

import hashlib
from typing import Any

from torch.utils.data import Dataset

from dcvc.data.config import DataConfig, SamplingOptions
from dcvc.data.image_gops import BVI_AOM_Dataset, VimeoGOPDataset
from dcvc.data.training_set import TrainingSet
from dcvc.data.validation_sets import HEVCB_Dataset, VideoValidationDataset
from dcvc.data.video_gops import VideoGOPDataset
from dcvc.errors import InputError


def training_set(data: DataConfig, gop_size: int, seed: int,
                 long_sequences: bool = False) -> TrainingSet:
    """Videos with use_video_dataset; otherwise BVI-AOM for long sequences, else Vimeo-90k.

    Raises InputError naming the flag that is missing.
    """
    options = {"gop_size": gop_size, "crop_size": data.crop_size, "seed": seed}
    if data.use_video_dataset:
        if not data.train_video_dir:
            raise InputError("--train_video_dir: missing, needed with --use_video_dataset; "
                             "give a folder of videos")
        return VideoGOPDataset(list(data.train_video_dir), **options, **vars(data.sampling))
    # Image sequences know none of these options: left unheard they would seem to work.
    if data.sampling != SamplingOptions():
        raise InputError("--sampling: found with image sequences, needed --use_video_dataset; "
                         "leave it out, and --small_videos and --short_videos as well")
    if long_sequences and data.bvi_aom_dir:
        return BVI_AOM_Dataset(data.bvi_aom_dir, **options)
    if long_sequences:
        raise InputError("--bvi_aom_dir: missing, needed for a stage on long sequences "
                         "without --use_video_dataset")
    for name in ("vimeo_dir", "septuplet_list"):
        if not getattr(data, name):
            raise InputError(f"--{name}: missing, needed without --use_video_dataset; "
                             "--use_video_dataset --train_video_dir DIR trains from videos")
    return VimeoGOPDataset(data.vimeo_dir, data.septuplet_list, **options)


def validation_set(data: DataConfig, max_frames: int | None) -> Dataset:
    """--val_video_dir, else --hevc_b_dir. Raises InputError when neither is given."""
    if data.val_video_dir:
        return VideoValidationDataset(data.val_video_dir, max_frames=max_frames)
    if data.hevc_b_dir:
        return HEVCB_Dataset(data.hevc_b_dir, max_frames=max_frames)
    raise InputError("--val_video_dir or --hevc_b_dir: missing, needed for validation; "
                     "--skip_eval trains without it")


def data_counts(dataset: Any) -> dict[str, Any] | None:
    """What a data set holds, to see whether it changed since a checkpoint: {"videos", "frames"} of
    videos, of training videos also "fingerprint", {"items"} of pictures."""
    if isinstance(dataset, VideoGOPDataset):
        # Lengths and sizes in their order: another file shows, a folder that was moved does not.
        table, digest = dataset.table, hashlib.sha256()
        for column in (table.frames, table.height, table.width):
            digest.update(bytes(memoryview(column.copy())))
        return {"videos": len(table), "frames": int(table.frames.sum()),
                "fingerprint": digest.hexdigest()[:16]}
    if isinstance(dataset, VideoValidationDataset):
        return {"videos": len(dataset), "frames": sum(video.frames for video in dataset.sequences)}
    return None if dataset is None else {"items": len(dataset)}
