"""Reading videos and pictures for training and evaluation."""

from dcvc.data.image_gops import BVI_AOM_Dataset, HEVCB_Dataset, ImageGOPDataset, VimeoGOPDataset
from dcvc.data.video_gops import VideoGOPDataset, VideoValidationDataset
from dcvc.video.reader import VideoReader

__all__ = [
    "BVI_AOM_Dataset",
    "HEVCB_Dataset",
    "ImageGOPDataset",
    "VideoGOPDataset",
    "VideoReader",
    "VideoValidationDataset",
    "VimeoGOPDataset",
]
