"""What of a video file is kept beside its coded pictures: when they are shown, and how."""

import os
from dataclasses import dataclass
from fractions import Fraction

import av

from dcvc.video.container import open_container, video_stream
from dcvc.video.file_index import index_file
from dcvc.video.frame_rate import exact_rate
from dcvc.video.frame_times import FrameTimes
from dcvc.video.picture_tags import PictureTags


@dataclass(frozen=True)
class SourceVideo:
    """width, height: of the pictures as they are shown, upright, in samples; stored: the same as
    the file has them. tags.aspect is that of upright samples. start: where the file begins if
    that is not 0, seconds; `times` are counted from there. counted: the file has no times of its
    own, and these are even."""

    path: str
    width: int
    height: int
    stored: tuple[int, int]
    fps: Fraction
    start: Fraction
    times: FrameTimes
    tags: PictureTags
    counted: bool


def describe_source(path: str | os.PathLike) -> SourceVideo:
    """Read all packets of a video, decode one frame. Raises MissingError, ReadError."""
    index = index_file(path)
    with open_container(index.path) as container:
        stream = video_stream(container, index.path)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        # A picture that lies on its side in the file is stood up by the reader, samples and all.
        turned = index.orientation[0]
        tags = PictureTags.of(stream.codec_context, 1 / aspect if turned else aspect)
        # A recorded broadcast begins hours after 0, and nobody wants to wait for it.
        start = Fraction(container.start_time or 0, av.time_base)
        # A moment before 0 is what decoders of sound need to warm up, and stays there.
        start = start if start > 0 or start < -1 else Fraction(0)
    fps = exact_rate(index.fps)
    times = (FrameTimes.even(fps, len(index)) if index.counted
             else FrameTimes(index.pts, index.time_base).earlier(start))
    size = (index.width, index.height)
    return SourceVideo(path=index.path, width=index.width, height=index.height,
                       stored=size[::-1] if turned else size, fps=fps, start=start, times=times, tags=tags,
                       counted=index.counted)
