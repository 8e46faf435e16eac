"""Metrics of planes that FFmpeg's own filters measure: XPSNR and its SSIM.

    original's planes --> buffer --\\
                                    filter --> frame whose metadata hold the metric of Y, U, V
    decoded planes    --> buffer --/

XPSNR (Helmrich et al., "XPSNR: a low-complexity extension of the perceptually weighted peak
signal-to-noise ratio for high-resolution video quality assessment", ICASSP 2020) weights the error
of each block by how busy the original is there, in space and against the frames before. So the
filter sees all frames of a sequence in their order, and the original is its first input. Over a
sequence it averages distances, not dB:

    frames of 40 dB and 34 dB    root of the weighted error, in shares of the largest sample: 0.01, 0.02
    their mean 0.015             XPSNR = -20 log10(0.015) = 36.5 dB, and not 37
"""

import av
import av.filter
import numpy as np
import torch

from dcvc.errors import ReadError
from dcvc.evaluation.metric_names import FILTERS
from dcvc.evaluation.plane_metrics import Triple
from dcvc.video.frame_rate import exact_rate
from dcvc.video.frame_stack import Planes

# What each filter calls its numbers, and which of its inputs is the original.
KEYS = {"xpsnr": "lavfi.xpsnr.xpsnr.", "ssim": "lavfi.ssim."}


class PlaneFilter:
    """One filter over one sequence; `add` every frame in its order.

    metric: a key of metric_names.FILTERS. size: (height, width) of the luma plane."""

    def __init__(self, metric: str, pixels: str, size: tuple[int, int], fps: float) -> None:
        self.name, self.pixels = FILTERS[metric], pixels
        self._rate, self._count = exact_rate(fps), 0
        self._graph = av.filter.Graph()
        node, self._sink = self._graph.add(self.name), self._graph.add("buffersink")
        # The filter looks at the rate: fast motion hides more.
        words = (f"video_size={size[1]}x{size[0]}:pix_fmt={pixels}:time_base={1 / self._rate}:"
                 f"frame_rate={self._rate}")
        self._inputs = []
        for number in range(2):
            self._inputs.append(self._graph.add("buffer", words))
            self._inputs[-1].link_to(node, 0, number)
        node.link_to(self._sink)
        self._graph.configure()

    def add(self, decoded: Triple, source: Planes) -> list[float]:
        """Of Y, U and V: dB of XPSNR, infinite for equal planes, or SSIM from 0 to 1."""
        originals = (source.y[0], source.u[0], source.v[0])
        for node, planes in zip(self._inputs, (originals, decoded), strict=True):
            frame = self._frame(planes)
            frame.pts, frame.time_base = self._count, 1 / self._rate
            node.push(frame)
        self._count += 1
        try:
            told = self._sink.pull().metadata
        except av.error.FFmpegError as error:
            raise ReadError(f"FFmpeg's filter {self.name}: frame {self._count - 1} cannot be "
                            f"measured ({error.strerror})") from None
        # SSIM's planes are called Y, U and V, XPSNR's y, u and v.
        lower = {key.lower(): value for key, value in told.items()}
        return [float(lower[KEYS[self.name] + plane]) for plane in "yuv"]

    def _frame(self, planes: Triple) -> av.VideoFrame:
        height, width = planes[0].shape
        frame = av.VideoFrame(width, height, self.pixels)
        kind = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
        for plane, samples in zip(frame.planes, planes, strict=True):
            rows = np.zeros((plane.height, plane.line_size // np.dtype(kind).itemsize), kind)
            rows[:, :samples.shape[1]] = samples.to(torch.int32).numpy()
            plane.update(rows)
        return frame

