"""Data sets for training and evaluation."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcvc.data.image_gops import BVI_AOM_Dataset, ImageGOPDataset, VimeoGOPDataset
    from dcvc.data.validation_sets import HEVCB_Dataset, VideoValidationDataset
    from dcvc.data.video_gops import VideoGOPDataset
    from dcvc.video.reader import VideoReader

__all__ = ["BVI_AOM_Dataset", "HEVCB_Dataset", "ImageGOPDataset", "VideoGOPDataset", "VideoReader",
           "VideoValidationDataset", "VimeoGOPDataset"]

# Loaded when they are asked for: commands that only need a configuration start without torch.
_HOMES = {
    "BVI_AOM_Dataset": "dcvc.data.image_gops",
    "HEVCB_Dataset": "dcvc.data.validation_sets",
    "ImageGOPDataset": "dcvc.data.image_gops",
    "VideoGOPDataset": "dcvc.data.video_gops",
    "VideoReader": "dcvc.video.reader",
    "VideoValidationDataset": "dcvc.data.validation_sets",
    "VimeoGOPDataset": "dcvc.data.image_gops",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
