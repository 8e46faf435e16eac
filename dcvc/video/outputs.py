"""Where decoded frames go: a video (lossless RGB, or lossy by CRF), y4m, or a folder of PNG."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from PIL import Image
from torch import Tensor

from dcvc.device.workers import behind
from dcvc.errors import DcvcError, InputError, ReadError
from dcvc.files import replaced, replaced_folder, replacing
from dcvc.video.container import file_url, open_container
from dcvc.video.encoder_tags import tag_bt709
from dcvc.video.rgb_to_yuv import rgb_to_yuv444
from dcvc.video.yuv_to_rgb import default_matrix

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov")
# What videos made here say in their metadata, and y4m in its header: such files may be replaced.
MARK, Y4M_MARK = "dcvc decode", "XDCVC"

# Entered, an output gives what writes one frame, uint8 (3, H, W). Nothing has the final name before
# it is left; after an exception nothing is left behind. Entering raises InputError for a folder
# that is not empty, and ReadError where the place cannot be written.
WriteFrame = Callable[[Tensor], None]
Output = AbstractContextManager[WriteFrame]


def open_output(path: str, size: tuple[int, int], fps: Fraction, crf: int | None = None) -> Output:
    """size: (height, width). "-" is y4m on stdout; a name without suffix is a folder of PNG files.

    Raises InputError for an unknown suffix, or a CRF for anything but a video.
    """
    target, suffix = Path(path), Path(path).suffix.lower()
    if crf is not None and suffix not in VIDEO_SUFFIXES:
        raise InputError(f"--crf: given with {path}, needed a {', '.join(VIDEO_SUFFIXES)} file")
    if path == "-":
        return _y4m_stdout(size, fps)
    if suffix in VIDEO_SUFFIXES:
        return _video(target, size, fps, crf)
    if suffix == ".y4m":
        return _y4m_file(target, size, fps)
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
    with keep_going the frames that came before a DcvcError are kept, the error then carries their
    number as `frames_written`."""
    written, failure = 0, None
    # A frame is written while the next one is decoded.
    with output as write_now, behind(write_now) as write:
        try:
            for frame in frames:
                write(frame)
                written += 1
        except DcvcError as error:
            if not (keep_going and written):
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
def _video(target: Path, size: tuple[int, int], fps: Fraction,
           crf: int | None) -> Iterator[WriteFrame]:
    """H.264: without loss of RGB samples, or with a CRF of YCbCr."""
    # 4:2:0 needs even sides.
    odd = size[0] % 2 or size[1] % 2
    pixels = "rgb24" if crf is None else "yuv444p" if odd else "yuv420p"
    with replaced(target) as partial, av.open(file_url(partial), "w") as container:
        container.metadata["comment"] = MARK
        stream = container.add_stream("libx264rgb" if crf is None else "libx264", rate=fps)
        stream.height, stream.width = size
        stream.pix_fmt = pixels
        # Without loss x264's faster entropy coder takes a quarter of the time for a fifth more bytes:
        # "veryfast" took longer for a frame than a light codec's networks have.
        stream.options = {"qp": "0", "preset": "ultrafast"} if crf is None else {"crf": str(crf)}
        # RGB samples have no matrix to tell of.
        if crf is not None:
            tag_bt709(stream.codec_context)

        def write(frame: Tensor) -> None:
            picture = av.VideoFrame.from_ndarray(_interleaved(frame), format="rgb24")
            if crf is not None:
                picture = picture.reformat(format=pixels, dst_colorspace="ITU709",
                                           dst_color_range="MPEG")
            container.mux(stream.encode(picture))

        yield write
        container.mux(stream.encode(None))


def _y4m(file: BinaryIO, size: tuple[int, int], fps: Fraction) -> WriteFrame:
    """4:4:4, 8 bits, limited range: any size, no chroma lost."""
    height, width = size
    # The format cannot name its matrix: readers, ours too, choose it by the picture's height.
    matrix = default_matrix(height)
    rate = f"{fps.numerator}:{fps.denominator}"
    file.write(f"YUV4MPEG2 W{width} H{height} F{rate} Ip A1:1 C444 "
               f"XCOLORRANGE=LIMITED {Y4M_MARK}\n".encode())

    def write(frame: Tensor) -> None:
        planes = rgb_to_yuv444(frame.float().div(255), matrix)
        file.write(b"FRAME\n" + b"".join(plane.cpu().numpy().tobytes() for plane in planes))

    return write


@contextmanager
def _y4m_file(target: Path, size: tuple[int, int], fps: Fraction) -> Iterator[WriteFrame]:
    with replacing(target) as file:
        yield _y4m(file, size, fps)


@contextmanager
def _y4m_stdout(size: tuple[int, int], fps: Fraction) -> Iterator[WriteFrame]:
    file = sys.stdout.buffer
    try:
        write = _y4m(file, size, fps)
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
