"""Writing RGB frames as a video file, BT.709; near-lossless H.264 unless told otherwise."""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from torch import Tensor

from dcvc.device.scheduling import scheduling_kept
from dcvc.errors import InputError
from dcvc.files import replaced
from dcvc.video.container import file_url
from dcvc.video.encoder_tags import bt709_frame, deep_frame, tag_as_source, tag_bt709, tag_own
from dcvc.video.source_losses import SQUARE_UNTAGGED


class VideoWriter:
    """`with VideoWriter(path, (width, height), fps) as writer: writer.write(rgb)`.

    The file appears under its name only when everything was written; after an exception nothing is
    left behind. tags: how the source's frames are shown (FileIndex.tags). One encoder thread, so that
    the bytes do not depend on the machine's cores; by default without x264's shortcuts that differ
    between processors and, with AVX-512, between runs. deep: (matrix, full range) of frames of 10
    bits in their own colours, for `write_deep`; without, frames are RGB, for `write`.
    Raises InputError for odd sides, ReadError where the file cannot be written.
    """

    # At this quality slower presets take twice the time and save one per cent.
    OPTIONS = {"crf": "10", "preset": "veryfast", "x264-params": "cpu-independent=1"}

    def __init__(self, path: str | os.PathLike, size: tuple[int, int], fps: int | Fraction = 25,
                 codec: str = "libx264", options: Mapping[str, str] | None = None,
                 tags: tuple[int, int, int, int] = SQUARE_UNTAGGED,
                 deep: tuple[str, bool] | None = None) -> None:
        self.path = Path(path)
        self.size = width, height = size
        self._deep = deep
        if width % 2 or height % 2:
            raise InputError(
                f"{self.path}: size {width}×{height}, needed even sides for 4:2:0 video")
        # Opened here, so that `write` always has an encoder; closed by __exit__.
        with ExitStack() as stack:
            partial = stack.enter_context(replaced(self.path))
            self._container = stack.enter_context(av.open(
                file_url(partial), "w", options=_container_options(self.path)))
            self._stream = self._container.add_stream(codec, rate=Fraction(fps))
            self._stream.width, self._stream.height = size
            self._stream.pix_fmt = "yuv420p10le" if deep else "yuv420p"
            self._stream.thread_count = 1
            self._stream.options = dict(options if options is not None else self.OPTIONS)
            if deep:
                tag_own(self._stream.codec_context, *deep)
            else:
                tag_bt709(self._stream.codec_context)
            tag_as_source(self._stream.codec_context, tags)
            # Until here, a failure closes and removes what was opened; from here on __exit__ does.
            self._opened = stack.pop_all()

    def write(self, rgb: np.ndarray) -> None:
        """rgb: uint8 `(H, W, 3)`. Raises InputError for anything else."""
        width, height = self.size
        if rgb.dtype != np.uint8 or rgb.shape != (height, width, 3):
            raise InputError(f"{self.path}: found a frame {rgb.dtype} {rgb.shape}, "
                             f"needed uint8 ({height}, {width}, 3)")
        self._encode(bt709_frame(rgb))

    def write_tensor(self, rgb: Tensor) -> None:
        """rgb: uint8 `(3, H, W)` of the video's size, as readers give it."""
        self._encode(bt709_frame(rgb.permute(1, 2, 0).numpy()))

    def write_deep(self, planes: Sequence[np.ndarray]) -> None:
        """Y, U and V of 4:2:0, uint16 samples of 10 bits."""
        self._encode(deep_frame(planes, *self._deep))

    def _encode(self, frame: av.VideoFrame | None) -> None:
        """None: no more frames come."""
        # The first frame opens the encoder, and starts its threads.
        with scheduling_kept():
            self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind, value, trace) -> None:
        try:
            if kind is None:
                self._encode(None)
        except BaseException:
            # The encoder failed at its last frames: `replaced` has to see that, to leave the target
            # as it was.
            kind, value, trace = sys.exc_info()
            raise
        finally:
            self._opened.__exit__(kind, value, trace)


def _container_options(path: Path) -> dict[str, str]:
    # Matroska files have a random number each, unless they are to be the same in every run.
    return {"fflags": "+bitexact"} if path.suffix.lower() == ".mkv" else {}
