"""Exact streams under many settings: each is coded under one and decoded under all others.

    environment    what libraries read when they are loaded: instructions of torch, MKL, oneDNN and
                   Numba. A process each.
    setting        what can be changed in a process: threads, oneDNN, how sums are made, layouts,
                   lower precision of matrix products, autocast. In turns.

`computed` puts a setting into effect. Nothing here is said to the codec: the layers are replaced from
outside by others that add up in another way, and must give the same.
"""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from types import ModuleType
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

import dcvc.device.workers as workers
import dcvc.entropy.exact as exact_scales
import dcvc.inter.light.exact_model as exact_p_frame
import dcvc.layers.exact_blocks as exact_blocks
from dcvc.codec.clip_coders import crc_of
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.video_codec import VideoCodec
from dcvc.device import computing_threads
from dcvc.entropy.fixed_point import snap
from dcvc.inter.light.block_warp import warp_by_windows
from dcvc.inter.light.stream_coding import StreamCoding
from dcvc.interfaces import State, to_levels
from dcvc.intra.light.picture_coding import PictureCoding
from dcvc.layers.exact_linear import ExactLinear, rounded

# Of a process, beside what it inherits. "generic" is the plainest processor of the architecture.
ENVIRONMENTS: dict[str, dict[str, str]] = {
    "avx512": {"ATEN_CPU_CAPABILITY": "avx512", "MKL_CBWR": "AUTO"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "default": {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "generic loops": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
}


@dataclass(frozen=True)
class Setting:
    """sums: "loops", the package's own way on a CPU; "torch", its way on other devices, with torch's own
    threads; "im2col", convolutions as products of unfolded pictures, matrix products as products in
    float64 of the inputs in reverse order. last: whether pictures and states lie channels last.
    precision: of torch.set_float32_matmul_precision. autocast: to bfloat16."""

    threads: int = 1
    onednn: bool = True
    sums: str = "loops"
    last: bool = True
    precision: str = "highest"
    autocast: bool = False

    @property
    def name(self) -> str:
        words = [self.sums, f"{self.threads} threads"]
        words += [] if self.onednn else ["no oneDNN"]
        words += [] if self.last else ["contiguous"]
        words += [] if self.precision == "highest" else [f"precision {self.precision}"]
        return ", ".join(words + ["autocast"] * self.autocast)


SETTINGS = (
    Setting(), Setting(threads=2), Setting(threads=3), Setting(onednn=False, last=False),
    Setting(sums="torch"), Setting(sums="torch", threads=2, last=False),
    Setting(sums="torch", threads=3, onednn=False), Setting(sums="im2col", last=False),
    Setting(sums="im2col", threads=2, onednn=False),
    Setting(precision="medium"), Setting(sums="torch", threads=2, precision="medium"), Setting(autocast=True),
)


# ---- other ways to the same sums

def unfolded_depthwise(layer: exact_blocks._ExactDepthwise, rows: Tensor,
                       shape: tuple[int, int, int]) -> Tensor:
    """`_ExactDepthwise` by im2col."""
    batch, height, width = shape
    linear, channels = layer.linear, rows.shape[1]
    pictures = rows.view(batch, height, width, -1).permute(0, 3, 1, 2).double()
    windows = F.unfold(pictures, layer.size, padding=layer.size // 2)
    windows = windows.view(batch, channels, layer.size**2, -1)
    # A matrix product for each channel, with one row.
    sums = linear.weight.double().t()[None, :, None] @ windows
    sums = sums[:, :, 0].transpose(1, 2).reshape(-1, channels) + linear.bias
    return rounded(sums * linear.scale.double(), layer.limit)


def reversed_products(linear: ExactLinear, *parts: Tensor) -> Tensor:
    """`ExactLinear.products` in one piece, in float64, the last input first."""
    return torch.cat(parts, dim=1).double().flip(1) @ linear.weight.double().flip(0)


def unfolded_scales(layer: exact_scales._ExactConvolution, x: Tensor) -> Tensor:
    """A convolution of the networks of scales by im2col."""
    size = layer.weight.shape[-1]
    windows = F.unfold(x, size, padding=layer.pad)
    if not layer.depthwise:
        sums = layer.weight.flatten(1) @ windows
    else:
        windows = windows.view(len(x), x.shape[1], size**2, -1)
        sums = (layer.weight.flatten(1)[None, :, None] @ windows)[:, :, 0]
    return snap(sums + layer.bias).view(len(x), -1, *x.shape[2:])


def unfolded_convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride=1, padding=0,
                         dilation=1, groups: int = 1) -> Tensor:
    """torch's own conv2d by im2col, as the floats of an encoder take it."""
    size = weight.shape[-2:]
    windows = F.unfold(x, size, dilation=dilation, padding=padding, stride=stride)
    windows = windows.view(len(x), groups, -1, windows.shape[-1])
    sums = weight.view(groups, len(weight) // groups, -1)[None] @ windows
    steps, around = _pair(stride), _pair(padding)
    sides = [(x.shape[2 + i] + 2 * around[i] - size[i]) // steps[i] + 1 for i in (0, 1)]
    sums = sums.reshape(len(x), len(weight), *sides)
    return sums if bias is None else sums + bias[:, None, None]


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


REPLACED: dict[str, tuple[tuple[type | ModuleType, str, object], ...]] = {
    "loops": (),
    "torch": ((exact_p_frame, "warp", warp_by_windows),),
    "im2col": ((exact_p_frame, "warp", warp_by_windows), (exact_blocks._ExactDepthwise, "__call__", unfolded_depthwise),
               (ExactLinear, "products", reversed_products),
               (exact_scales._ExactConvolution, "forward", unfolded_scales), (F, "conv2d", unfolded_convolution)),
}


@contextlib.contextmanager
def onednn(enabled: bool) -> Iterator[None]:
    """torch.backends.mkldnn.flags warns of a device that is not there, each time."""
    before = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = enabled
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = before


@contextlib.contextmanager
def computed(setting: Setting) -> Iterator[None]:
    """Inside, this process computes as a setting says."""
    before = torch.get_float32_matmul_precision()
    with contextlib.ExitStack() as stack:
        stack.enter_context(computing_threads(setting.threads))
        stack.enter_context(onednn(setting.onednn))
        stack.enter_context(torch.autocast("cpu", torch.bfloat16, enabled=setting.autocast))
        # Small pictures too are cut into bands and shared.
        stack.enter_context(patch.object(workers, "NOT_WORTH_SHARING", 0))
        for owner, name, other in REPLACED[setting.sums]:
            stack.enter_context(patch.object(owner, name, other))
        if setting.sums != "loops":
            # Without `packed` there are neither loops nor bands, and torch has its own threads.
            for owner in (StreamCoding, PictureCoding):
                for name in ("compress", "decompress"):
                    stack.enter_context(patch.object(owner, name, torch.no_grad()(getattr(owner, name).__wrapped__)))
        torch.set_float32_matmul_precision(setting.precision)
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


# ---- streams

def relaid(state: State, last: bool) -> State:
    """A state whose pictures lie in memory as asked for."""
    layout = torch.channels_last if last else torch.contiguous_format
    return type(state)(*(value.contiguous(memory_format=layout) if isinstance(value, Tensor) and value.dim() == 4
                         else value for value in state))


def encoded(codec: VideoCodec, frames: list[Tensor], quality: float, setting: Setting) -> tuple[bytes, str]:
    """One I-frame, P-frames, a refresh -> the stream, and the SHA-256 of what the encoder says is shown."""
    file, size = io.BytesIO(), tuple(frames[0].shape[1:])
    header = codec.header(size, Fraction(25), len(frames), len(frames), source=b"test")
    layout = torch.channels_last if setting.last else torch.contiguous_format
    frames = [frame[None].contiguous(memory_format=layout)[0] for frame in frames]
    with computed(setting):
        coded = list(codec.encode(frames, header, file, quality=quality, refresh={len(frames) - 1}))
    return file.getvalue(), digest(frame.x_hat for frame in coded)


def decoded(codec: VideoCodec, data: bytes, setting: Setting) -> str:
    """SHA-256 of what is shown; every frame's CRC is compared too, raising AssertionError."""
    reader, state, shown = StreamReader(io.BytesIO(data)), None, []
    with computed(setting):
        for record in reader:
            x_hat, state = codec.decompress(record.kind, state, record.payload)
            state = relaid(state, setting.last)
            shown.append(to_levels(x_hat)[0])
            assert crc_of(shown[-1]) == record.reconstruction_crc, f"frame {record.number}"
    return digest(shown)


def digest(frames: Iterator[Tensor]) -> str:
    found = sha256()
    for frame in frames:
        found.update(frame.cpu().contiguous().numpy())
    return found.hexdigest()[:16]
