"""Where the samples come from and how they are drawn."""

from dataclasses import dataclass
from typing import Literal

from dcvc.config import check_limits, check_words, option
from dcvc.errors import InputError


@dataclass(frozen=True, kw_only=True)
class SmallVideos:
    """What becomes of videos that are smaller than a sample (fitting_videos.py)."""

    small_videos: Literal["error", "skip", "enlarge"] = option(
        "error", "videos smaller than crop_size or rescale: an error, left out, or scaled up")


@dataclass(frozen=True)
class SamplingOptions(SmallVideos):
    """Options of VideoGOPDataset beyond the community's; video_gops.py explains how they act
    together. All are the same for every frame of a GOP."""

    samples_per_video: int = option(1, least=1)
    # "videos": every video equally often; "frames": every possible GOP equally likely.
    sampling: Literal["videos", "frames"] = option("videos")
    # One per entry of video_dir: how often it is drawn from.
    weights: tuple[float, ...] | None = option(None)
    # Samples made of one decoded GOP, different crops, spread by the step sampler.
    crops_per_read: int = option(1, least=1)
    # Decoded GOPs kept in memory, per worker (0: none; 512 with crops_per_read).
    cache_mb: int = option(0, least=0)
    # Distance of the GOP's frames in the video.
    stride: int = option(1, least=1)
    # Play half of the GOPs backwards.
    reverse: bool = option(False)
    # Play videos that are shorter than a GOP forth and back instead of refusing them.
    ping_pong: bool = option(False)
    # Draw again where the scene changes within the GOP.
    avoid_cuts: bool = option(False)
    # Short side in pixels, uniform in [low, high]; never enlarged.
    rescale: tuple[int, int] | None = option(None)
    # Half of the GOPs mirrored left-right; quarter turns, all four equally often (square crops).
    flip: bool = option(False)
    rotate: bool = option(False)
    # Brightness, contrast and saturation within 1 ± jitter.
    jitter: float = option(0.0)
    # Faster reading; on by itself for files an index calls verified.
    skip_unreferenced: bool = option(False)
    on_bad_video: Literal["raise", "skip"] = option("raise")
    # With "skip": a larger share of bad files is an error.
    max_bad_share: float = option(0.1)
    short_videos: Literal["error", "skip"] = option(
        "error", "videos with fewer frames than a sample spans: an error, or left out")

    def __post_init__(self) -> None:
        check_limits(self)
        check_words(self)
        if self.rescale is not None and not 0 < self.rescale[0] <= self.rescale[1]:
            raise InputError(f"rescale: found {self.rescale}, needed a range (low, high) of pixels")
        if not 0 <= self.jitter < 1 or not 0 <= self.max_bad_share <= 1:
            raise InputError("jitter and max_bad_share: needed values from 0 to 1")


@dataclass(frozen=True)
class DataConfig:
    """Where the samples come from: videos with use_video_dataset, else sets of image sequences."""

    use_video_dataset: bool = option(False, "train from video files instead of folders of images")
    train_video_dir: tuple[str, ...] = option((), "folders of training videos", metavar="D")
    val_video_dir: str | None = option(None, "folder of validation videos", metavar="V")
    vimeo_dir: str | None = option(None, "Vimeo-90k: the folder with sequences/")
    septuplet_list: str | None = option(None, "Vimeo-90k: its list file, one 00001/0001 a line")
    bvi_aom_dir: str | None = option(
        None, "BVI-AOM: a folder of images per sequence (stages on long sequences)")
    hevc_b_dir: str | None = option(None, "HEVC class B as folders of images, for validation")
    crop_size: int = option(256, "side of the training samples in pixels", least=16)
    batch_size: int = option(4, "clips per process and update", least=1)
    num_workers: int = option(2, "decoding processes", least=0, on_resume=True)
    sampling: SamplingOptions = SamplingOptions()            # --sampling KEY=VALUE

    def __post_init__(self) -> None:
        check_limits(self)
