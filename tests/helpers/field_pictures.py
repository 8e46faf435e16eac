"""H.264 whose fields are pictures of their own (PAFF), as broadcasters code it: written by hand, for FFmpeg's encoders
write none. Every block is intra and uncompressed (I_PCM), so the samples are known without a decoder."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


class Bits:
    def __init__(self) -> None:
        self.text = ""

    def u(self, count: int, value: int) -> "Bits":
        self.text += f"{value:0{count}b}"
        return self

    def ue(self, value: int) -> "Bits":
        code = f"{value + 1:b}"
        self.text += "0" * (len(code) - 1) + code
        return self

    def align(self, bit: str = "0") -> "Bits":
        self.text += bit * (-len(self.text) % 8)
        return self

    def raw(self, data: bytes) -> "Bits":
        self.text += "".join(f"{byte:08b}" for byte in data)
        return self

    def unit(self, kind: int) -> bytes:
        """With the stop bit, and escapes for what would look like a start code."""
        text = self.text + "1"
        text += "0" * (-len(text) % 8)
        data, out, zeros = int(text, 2).to_bytes(len(text) // 8, "big"), bytearray(), 0
        for byte in data:
            if zeros >= 2 and byte <= 3:
                out.append(3)
                zeros = 0
            out.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return b"\0\0\0\1" + bytes([0x60 | kind]) + bytes(out)


def _parameter_sets(height: int, width: int) -> bytes:
    sps = Bits().u(8, 77).u(8, 0).u(8, 30).ue(0).ue(0).ue(2).ue(2).u(1, 0)          # main profile, order as coded
    sps.ue(width // 16 - 1).ue(height // 32 - 1).u(1, 0).u(1, 0).u(1, 1).u(1, 0).u(1, 0)   # fields allowed
    pps = Bits().ue(0).ue(0).u(1, 0).u(1, 0).ue(0).ue(0).ue(0).u(1, 0).u(2, 0).ue(0).ue(0).ue(0).u(1, 0).u(1, 0).u(1, 0)
    return sps.unit(7) + pps.unit(8)


def _field(luma: np.ndarray, number: int, bottom: bool) -> bytes:
    """One field, a picture of its own: the first of a pair is an IDR, the second is not."""
    slice_ = Bits().ue(0).ue(7).ue(0).u(4, 0).u(1, 1).u(1, int(bottom))
    if not bottom:
        slice_.ue(number % 2)                                                      # idr_pic_id
        slice_.u(1, 0).u(1, 0)
    else:
        slice_.u(1, 0)
    slice_.ue(0)                                                                   # slice_qp_delta
    rows, columns = luma.shape
    for top in range(0, rows, 16):
        for left in range(0, columns, 16):
            slice_.ue(25).align()
            slice_.raw(luma[top: top + 16, left: left + 16].tobytes() + bytes([128]) * 128)
    return slice_.unit(1 if bottom else 5)


def write_fields(path: Path, lumas: list[np.ndarray]) -> Path:
    """lumas: frames, uint8 (H, W), H a multiple of 32. Each becomes two packets with times half a frame apart."""
    height, width = lumas[0].shape
    head = _parameter_sets(height, width)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 50)
        for number, luma in enumerate(lumas):
            for bottom in (False, True):
                data = _field(luma[int(bottom):: 2], number, bottom)
                packet = av.Packet(data if bottom else head + data)
                packet.pts = packet.dts = 2 * number + bottom
                packet.time_base, packet.duration = Fraction(1, 50), 1
                packet.stream, packet.is_keyframe = stream, not bottom
                out.mux(packet)
    return path
