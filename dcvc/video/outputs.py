"""Where decoded frames go: a video (lossless RGB, or lossy by CRF), y4m, or a folder of PNG."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from PIL import Image
from torch import Tensor

from dcvc.device.workers import behind
from dcvc.errors import DcvcError, InputError, ReadError, UnfinishedError
from dcvc.files import replaced, replaced_folder, replacing
from dcvc.video.container import file_url, open_container, reason
from dcvc.video.copied_tracks import CopiedTracks
from dcvc.video.encoder_tags import tag_bt709
from dcvc.video.frame_times import ROUNDING, FrameTimes
from dcvc.video.picture_tags import BT709, PictureTags
from dcvc.video.rgb_to_yuv_loops import to_planes_444
from dcvc.video.yuv_to_rgb import default_matrix

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov")
# Containers count time in parts of a second; what is finer than this they may not hold.
FINEST_UNIT = Fraction(1, 10**9)
# What videos made here say in their metadata, and y4m in its header: such files may be replaced.
MARK, Y4M_MARK = "dcvc decode", "XDCVC"

# Entered, an output gives what writes one frame, uint8 (3, H, W). Nothing has the final name before
# it is left; after an exception nothing is left behind. Entering raises InputError for a folder
# that is not empty, and ReadError where the place cannot be written.
WriteFrame = Callable[[Tensor], None]
Output = AbstractContextManager[WriteFrame]


@dataclass(frozen=True)
class Beside:
    """What a file held beside its pictures. times: of the frames that are written, by their
    numbers; tracks: sound and subtitles, to be copied; until: where these end if before their file,
    seconds."""

    times: FrameTimes
    tags: PictureTags
    tracks: CopiedTracks
    until: Fraction | None = None

    def end(self, written: int, fps: Fraction) -> Fraction | None:
        """Where the sound ends, of so many written frames. Where damage ended the pictures, sound
        without pictures is not wanted either."""
        if written == len(self.times):
            return self.until
        return self.times.part(0, written).end(fps) if written else Fraction(0)


def holds_sound(path: str) -> bool:
    """Whether an output of this name has room for sound."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def open_output(path: str, size: tuple[int, int], fps: Fraction, crf: int | None = None,
                beside: Beside | None = None) -> Output:
    """size: (height, width). "-" is y4m on stdout; a name without suffix is a folder of PNG files.
    beside: goes into a video; of it, y4m takes the shape of a sample.

    Raises InputError for an unknown suffix, or a CRF for anything but a video. Entering the output
    raises InputError for sound that it cannot hold.
    """
    target, suffix = Path(path), Path(path).suffix.lower()
    if crf is not None and suffix not in VIDEO_SUFFIXES:
        raise InputError(f"--crf: given with {path}, needed a {', '.join(VIDEO_SUFFIXES)} file")
    aspect = beside.tags.aspect if beside else Fraction(1)
    if path == "-":
        return _y4m_stdout(size, fps, aspect)
    if suffix in VIDEO_SUFFIXES:
        return _video(target, size, fps, crf, beside)
    if suffix == ".y4m":
        return _y4m_file(target, size, fps, aspect)
    if suffix == "":
        return _pictures(target)
    raise InputError(f"{path}: found suffix '{suffix}', needed .mp4, .mkv, .mov, .y4m, a folder, "
                     "or - for stdout")


def is_decoded_video(path: Path) -> bool:
    """Whether an existing file was written by one of these outputs."""
    try:
        with open(path, "rb") as file:
            head = file.readline(256)
        if head.startswith(b"YUV4MPEG2"):
            return Y4M_MARK.encode() in head.split()
        with open_container(os.fspath(path)) as container:
            tags = {key.lower(): value for key, value in container.metadata.items()}
            return tags.get("comment") == MARK
    except (OSError, DcvcError):
        return False


def write_frames(frames: Iterable[Tensor], output: Output, keep_going: bool = False) -> int:
    """Write all frames -> how many. When `frames` fails, nothing is left and the error goes on;
    with keep_going, or where the source is only unfinished, the frames that came before a DcvcError
    are kept, the error then carries their number as `frames_written`."""
    written, failure = 0, None
    # A frame is written while the next one is decoded.
    with output as write_now, behind(write_now) as write:
        try:
            for frame in frames:
                write(frame)
                written += 1
        except DcvcError as error:
            if not (written and (keep_going or isinstance(error, UnfinishedError))):
                raise
            # Raised only when the output is complete: inside, it would take away what was written.
            failure, error.frames_written = error, written
    if failure is not None:
        raise failure
    return written


def _interleaved(frame: Tensor) -> np.ndarray:
    """(3, H, W) -> (H, W, 3)."""
    return np.ascontiguousarray(frame.cpu().permute(1, 2, 0).numpy())


@contextmanager
def _video(target: Path, size: tuple[int, int], fps: Fraction, crf: int | None,
           beside: Beside | None) -> Iterator[WriteFrame]:
    """H.264: without loss of RGB samples, or with a CRF of YCbCr."""
    # 4:2:0 needs even sides.
    odd = size[0] % 2 or size[1] % 2
    pixels = "rgb24" if crf is None else "yuv444p" if odd else "yuv420p"
    matrix = beside.tags.conversion if beside else BT709
    with replaced(target) as partial, av.open(file_url(partial), "w") as container:
        container.metadata["comment"] = MARK
        stream = container.add_stream("libx264rgb" if crf is None else "libx264", rate=fps)
        stream.height, stream.width = size
        stream.pix_fmt = pixels
        # Without loss x264's faster entropy coder takes a quarter of the time for a fifth more bytes:
        # "veryfast" took longer for a frame than a light codec's networks have.
        stream.options = {"qp": "0", "preset": "ultrafast"} if crf is None else {"crf": str(crf)}
        _tag(stream.codec_context, crf, beside)
        numbers = count()
        if beside:
            _add_beside(container, stream, beside, target)

        def write(frame: Tensor) -> None:
            picture = av.VideoFrame.from_ndarray(_interleaved(frame), format="rgb24")
            if crf is not None:
                picture = picture.reformat(format=pixels, dst_colorspace=matrix,
                                           dst_color_range="MPEG")
            number = next(numbers)
            if beside:
                time = beside.times[number]
                beside.tracks.write_until(time)
                picture.time_base = stream.codec_context.time_base
                picture.pts = round(time / picture.time_base)
            container.mux(stream.encode(picture))

        yield write
        container.mux(stream.encode(None))
        if beside:
            beside.tracks.write_until(beside.end(next(numbers), fps))


def _tag(context: av.VideoCodecContext, crf: int | None, beside: Beside | None) -> None:
    """Let a video say how its samples are meant. RGB samples have no matrix to tell of."""
    if beside and crf is None:
        beside.tags.write_rgb_to(context)
    elif beside:
        beside.tags.write_limited_to(context)
    elif crf is not None:
        tag_bt709(context)


def _add_beside(container: av.container.OutputContainer, stream: av.video.stream.VideoStream,
                beside: Beside, target: Path) -> None:
    """Prepare a file for pictures at their own times and for the copied tracks. Raises InputError
    where it cannot hold them."""
    unit = beside.times.unit
    stream.codec_context.time_base = unit if unit >= FINEST_UNIT else ROUNDING
    beside.tracks.add_to(container, str(target))
    try:
        # Some formats refuse a track only when they write their header.
        container.start_encoding()
    except (av.error.FFmpegError, ValueError) as error:
        raise InputError(f"{target}: cannot hold the sound of {beside.tracks.path} "
                         f"({reason(error)}); choose .mkv or convert the sound first") from None


def _y4m(file: BinaryIO, size: tuple[int, int], fps: Fraction, aspect: Fraction) -> WriteFrame:
    """4:4:4, 8 bits, limited range: any size, no chroma lost."""
    height, width = size
    # The format cannot name its matrix: readers, ours too, choose it by the picture's height.
    matrix = default_matrix(height)
    rate = f"{fps.numerator}:{fps.denominator}"
    shape = f"A{aspect.numerator}:{aspect.denominator}"
    file.write(f"YUV4MPEG2 W{width} H{height} F{rate} Ip {shape} C444 "
               f"XCOLORRANGE=LIMITED {Y4M_MARK}\n".encode())

    def write(frame: Tensor) -> None:
        planes = to_planes_444(frame.cpu().permute(1, 2, 0).numpy(), matrix)
        file.write(b"FRAME\n" + planes.tobytes())

    return write


@contextmanager
def _y4m_file(target: Path, size: tuple[int, int], fps: Fraction,
              aspect: Fraction) -> Iterator[WriteFrame]:
    with replacing(target) as file:
        yield _y4m(file, size, fps, aspect)


@contextmanager
def _y4m_stdout(size: tuple[int, int], fps: Fraction, aspect: Fraction) -> Iterator[WriteFrame]:
    file = sys.stdout.buffer
    try:
        write = _y4m(file, size, fps, aspect)
    except OSError as error:  # the player at the other end has quit
        raise ReadError(f"-: cannot be written ({error.strerror or error})") from None
    try:
        yield write
    finally:
        file.flush()


@contextmanager
def _pictures(target: Path) -> Iterator[WriteFrame]:
    """im00001.png, im00002.png ..."""
    with replaced_folder(target) as folder:
        names = (folder / f"im{number:05d}.png" for number in count(1))

        def write(frame: Tensor) -> None:
            Image.fromarray(_interleaved(frame)).save(next(names), compress_level=1)

        yield write
