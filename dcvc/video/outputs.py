"""Where decoded frames go: .mp4/.mkv (lossless RGB, or lossy by CRF), .y4m, a folder of PNG, or y4m on stdout."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Protocol

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dcvc.errors import DcvcError, InputError, ReadError
from dcvc.video.rgb_to_yuv import rgb_to_ycbcr

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov")


class Output(Protocol):
    """`write` frames uint8 (3, H, W); then `keep` or `discard`: nothing has the final name before `keep`."""

    def write(self, frame: Tensor) -> None: ...

    def keep(self) -> None: ...

    def discard(self) -> None: ...


def open_output(path: str, size: tuple[int, int], fps: Fraction, crf: int | None = None) -> Output:
    """size: (height, width). "-" is y4m on stdout; a name without suffix is a folder of PNG files.

    Raises InputError for an unknown suffix or a folder that is not empty, ReadError when it cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if crf is not None and suffix not in VIDEO_SUFFIXES:
        raise InputError(f"--crf: given with {path}, needed a {', '.join(VIDEO_SUFFIXES)} file")
    try:
        if path == "-":
            return _Y4M(sys.stdout.buffer, None, size, fps)
        target = Path(path)
        if suffix in VIDEO_SUFFIXES:
            return _Video(target, size, fps, crf)
        if suffix == ".y4m":
            partial = _partial(target)
            return _Y4M(open(partial, "wb"), (partial, target), size, fps)
        if suffix == "":
            return _Pictures(target)
    except OSError as error:
        raise ReadError(f"{path}: cannot be written ({error.strerror or error})") from None
    raise InputError(f"{path}: found suffix '{suffix}', needed .mp4, .mkv, .mov, .y4m, a folder, or - for stdout")


def write_frames(frames: Iterable[Tensor], output: Output, keep_going: bool = False) -> int:
    """Write all frames and keep the output -> how many. When `frames` fails, nothing is left and the error goes on;
    with keep_going the frames that came before a DcvcError are kept, the error then carries their number as
    `frames_written`."""
    written = 0
    try:
        for frame in frames:
            output.write(frame)
            written += 1
        output.keep()
    except BaseException as error:
        if keep_going and written and isinstance(error, DcvcError):
            output.keep()
            error.frames_written = written
        else:
            output.discard()
        raise
    return written


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.stem}.{os.getpid()}.partial{target.suffix}")


class _Video:
    def __init__(self, target: Path, size: tuple[int, int], fps: Fraction, crf: int | None) -> None:
        self.target, self.partial, self.crf = target, _partial(target), crf
        odd = size[0] % 2 or size[1] % 2
        self._format = "rgb24" if crf is None else "yuv444p" if odd else "yuv420p"
        self._container = av.open(str(self.partial), "w")
        stream = self._container.add_stream("libx264rgb" if crf is None else "libx264", rate=fps)
        stream.height, stream.width = size
        stream.pix_fmt = self._format
        stream.options = {"qp": "0", "preset": "veryfast"} if crf is None else {"crf": str(crf)}
        if crf is not None:
            stream.codec_context.colorspace = av.video.reformatter.Colorspace.ITU709
            stream.codec_context.color_range = av.video.reformatter.ColorRange.MPEG
        self._stream = stream

    def write(self, frame: Tensor) -> None:
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame.cpu().permute(1, 2, 0).numpy()), format="rgb24")
        if self.crf is not None:
            picture = picture.reformat(format=self._format, dst_colorspace="ITU709", dst_color_range="MPEG")
        self._container.mux(self._stream.encode(picture))

    def keep(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        os.replace(self.partial, self.target)

    def discard(self) -> None:
        self._container.close()
        self.partial.unlink(missing_ok=True)


class _Y4M:
    """4:4:4, 8 bits, limited range: any size, no chroma lost. The format cannot name its matrix: readers, ours too,
    take BT.709 from 720 rows up and BT.601 below."""

    def __init__(self, file: BinaryIO, paths: tuple[Path, Path] | None, size: tuple[int, int], fps: Fraction) -> None:
        self.file, self.paths = file, paths
        self.matrix = "bt709" if size[0] >= 720 else "bt601"
        rate = f"{fps.numerator}:{fps.denominator}"
        file.write(f"YUV4MPEG2 W{size[1]} H{size[0]} F{rate} Ip A1:1 C444 XCOLORRANGE=LIMITED\n".encode())

    def write(self, frame: Tensor) -> None:
        ycbcr = rgb_to_ycbcr(frame.float().div(255), self.matrix)
        luma = ycbcr[:1] * 219 + 16
        chroma = ycbcr[1:] * 224 + 128
        planes = torch.cat((luma, chroma)).round().clamp(0, 255).to(torch.uint8)
        self.file.write(b"FRAME\n" + planes.cpu().contiguous().numpy().tobytes())

    def keep(self) -> None:
        self.file.flush()
        if self.paths:
            self.file.close()
            os.replace(*self.paths)

    def discard(self) -> None:
        self.file.flush()
        if self.paths:
            self.file.close()
            self.paths[0].unlink(missing_ok=True)


class _Pictures:
    def __init__(self, target: Path) -> None:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise InputError(f"{target}: exists and is not an empty folder; give another name")
        target.parent.mkdir(parents=True, exist_ok=True)
        self.target, self.number = target, 0
        self.partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))

    def write(self, frame: Tensor) -> None:
        self.number += 1
        picture = np.ascontiguousarray(frame.cpu().permute(1, 2, 0).numpy())
        Image.fromarray(picture).save(self.partial / f"im{self.number:05d}.png", compress_level=1)

    def keep(self) -> None:
        if self.target.exists():
            self.target.rmdir()
        os.chmod(self.partial, 0o755)
        os.replace(self.partial, self.target)

    def discard(self) -> None:
        shutil.rmtree(self.partial, ignore_errors=True)
