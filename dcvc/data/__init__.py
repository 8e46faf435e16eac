"""Reading videos and pictures for training and evaluation."""

from dcvc.data.clips import VideoGOPDataset, VideoValidationDataset
from dcvc.data.image_sequences import BVI_AOM_Dataset, HEVCB_Dataset, ImageGOPDataset, VimeoGOPDataset
from dcvc.data.video_reader import VideoReader

__all__ = [
    "BVI_AOM_Dataset",
    "HEVCB_Dataset",
    "ImageGOPDataset",
    "VideoGOPDataset",
    "VideoReader",
    "VideoValidationDataset",
    "VimeoGOPDataset",
]
