"""Writing RGB frames as a video file: BT.709, limited range, tagged, near-lossless H.264 unless told otherwise."""

import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from dcvc.errors import InputError
from dcvc.files import replaced
from dcvc.video.rgb_to_yuv import rgb_to_yuv420


class VideoWriter:
    """`with VideoWriter(path, (width, height), fps) as writer: writer.write(rgb)`.

    Frames are uint8 `(H, W, 3)`. The file appears under its name only when everything was written; after an
    exception nothing is left behind. One encoder thread, so that the bytes do not depend on the machine's cores; by
    default without x264's shortcuts that differ between processors and, with AVX-512, between runs."""

    OPTIONS = {"crf": "10", "preset": "medium", "x264-params": "cpu-independent=1"}

    def __init__(
        self,
        path: str | os.PathLike,
        size: tuple[int, int],
        fps: int | Fraction = 25,
        codec: str = "libx264",
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.path = Path(path)
        self.size = width, height = size
        if width % 2 or height % 2:
            raise InputError(f"{self.path}: size {width}×{height}, needed even sides for 4:2:0 video")
        self.fps, self.codec = Fraction(fps), codec
        self.options = dict(options if options is not None else self.OPTIONS)

    def _open(self, partial: Path) -> None:
        self._container = self._stack.enter_context(av.open(str(partial), "w"))
        stream = self._container.add_stream(self.codec, rate=self.fps)
        stream.width, stream.height, stream.pix_fmt = *self.size, "yuv420p"
        stream.thread_count = 1
        stream.options = self.options
        context = stream.codec_context
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        self._stream = stream

    def write(self, rgb: np.ndarray) -> None:
        if rgb.dtype != np.uint8 or rgb.shape != (self.size[1], self.size[0], 3):
            needed = f"uint8 ({self.size[1]}, {self.size[0]}, 3)"
            raise InputError(f"{self.path}: found a frame {rgb.dtype} {rgb.shape}, needed {needed}")
        tensor = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1).float() / 255
        planes = rgb_to_yuv420(tensor, "bt709", siting="left")
        packed = np.concatenate([plane.numpy().reshape(-1) for plane in planes])
        frame = av.VideoFrame.from_ndarray(packed.reshape(self.size[1] * 3 // 2, self.size[0]), format="yuv420p")
        frame.colorspace, frame.color_range = Colorspace.ITU709, ColorRange.MPEG
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> "VideoWriter":
        with ExitStack() as stack:                           # undone when opening fails
            self._stack = stack
            self._open(stack.enter_context(replaced(self.path)))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind, value, trace) -> None:
        try:
            if kind is None:
                self._container.mux(self._stream.encode(None))
        except BaseException:
            kind, value, trace = sys.exc_info()
            raise
        finally:
            self._stack.__exit__(kind, value, trace)
