"""A whole tiny stream, frozen: header, I-frame, two P-frames with every latent, byte for byte.

A network's floats are not the same on every machine, so the golden stream is made by one whose numbers do not depend
on the order of sums: each output of each layer has one input with a weight, the others are zero. What is left to the
machine lies far from any rounding border.
"""

import io
import zlib
from fractions import Fraction

import torch
from kit.damage import DeflatedIntra

from dcvc.codec.clip_coders import crc_of
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.video_codec import VideoCodec
from dcvc.inter import DCVC
from dcvc.inter.dcvc2021.config import DCVCConfig


def sparse_model() -> DCVC:
    """One nonzero weight per output, powers of two; GDN without coupling; biases of quarters."""
    model = DCVC(DCVCConfig(4, 4, 4, 4, (4, 4, 4, 4), 4)).eval()
    with torch.no_grad():
        for number, (name, value) in enumerate(sorted(model.named_parameters())):
            part = name.split(".")[0]
            if name.endswith("gamma"):
                value.fill_(2.0**-18)                    # zero, in the layer's own terms
            elif name.endswith("beta"):
                value.fill_(1.0)
            elif part.startswith("bitEstimator"):
                value.fill_(0.5 if name.endswith("h") else 0.0)
            elif value.dim() == 4:
                value.zero_()
                transposed = isinstance(_owner(model, name), torch.nn.ConvTranspose2d)
                outputs, inputs = (1, 0) if transposed else (0, 1)
                for out in range(value.shape[outputs]):
                    place = [0, 0, value.shape[2] // 2, value.shape[3] // 2]
                    place[outputs], place[inputs] = out, (out + number) % value.shape[inputs]
                    if part.startswith("auto_regressive"):
                        place[2:] = [1 + out % 2, 1]
                    value[tuple(place)] = _gain(part, out)
            else:
                value.copy_(((torch.arange(len(value)) * 7 + number) % 5 - 2) / 4)
        for network in (model.entropy_parameters, model.entropy_parameters_mv):
            network[-1].bias[4:] = torch.tensor([1.0, 4.0, 9.0, 20.0])             # scales near these
    return model


def _owner(model: DCVC, name: str) -> torch.nn.Module:
    return model.get_submodule(name.rsplit(".", 1)[0])


def _gain(part: str, out: int) -> float:
    strong = {"mvEncoder": 2.0, "contextualEncoder": 4.0, "priorEncoder": 2.0, "mvpriorEncoder": 2.0}
    return strong.get(part, 0.5) * (-1.0) ** out


def golden_codec() -> VideoCodec:
    return VideoCodec(sparse_model(), DeflatedIntra())


def frames():
    rows, columns = torch.meshgrid(torch.arange(20), torch.arange(30), indexing="ij")
    for number in range(3):
        yield torch.stack([(7 * rows + 5 * (columns + number) * (c + 1)) % 256 for c in range(3)]).to(torch.uint8)


def test_bytes_of_a_whole_stream_are_frozen():
    codec, file = golden_codec(), io.BytesIO()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        header = codec.header((20, 30), Fraction(24000, 1001), 3, 3, source=b"gold")
        coded = list(codec.encode(frames(), header, file))
    finally:
        torch.set_num_threads(before)
    assert all(frame.bits[term] > 8 for frame in coded[1:] for term in ("mv_y", "y", "z", "mv_z"))
    assert len(file.getvalue()) == LENGTH
    assert zlib.crc32(file.getvalue()) == CRC
    assert [frame.record.payload.hex() for frame in coded[1:]] == PAYLOADS
    decoded = list(golden_codec().decode(StreamReader(io.BytesIO(file.getvalue()))))
    assert [crc_of(frame) for frame in decoded] == PICTURES


LENGTH, CRC = 3251, 0x2c710e6b
PAYLOADS = [
    (
        "00ffff91fcfffff3fffffffdffffff52ffffff5f00b0fcfffff9f7ffffe7ffff701f0126fffffffaffffffffffffffb0fbff"
        "ff76ffffffb7fcfffffefeffffdffeffffbaffffffffffffff75fbffff91fcffffdef7fffff3f7ffffbbfefffffffdfffffe"
        "663c0140feffffffffffffffffffffffffffffb0fcfffff9fffffffd58210177fffffffeffb0fbffff76ffffffb7f8fffffb"
        "fdffffffffffffffffffffffffffff75fbffff41fbffffdef7ffffb3f8ffffbbfeffff5afeffffffffff738a03a6ffffff11"
        "feffffd4ffffffffff3bfbffffb9f8ffff5afeff5fe70336feffff57ffffffffffffff42fcffffe5fcfffffe080000aefeff"
        "ff2affffffffffffff1cfcffff9cfbffff93f8ffff2af9ffff71fffffffffeffffeb48000087feffffdbffffffffffffffff"
        "ff95fbffff28f9ffffbbfeff45000049fdffff86ffffffffffffff92fcffffa6f72eff61af090052feffffafffffffffffff"
        "ff73fcffff11fdffffbeffffffd7ffffffffff000009ffffff8d00000030ff490035fcffff99fdffffebfdffffffff000089"
        "ff690022feffff80fffffff7ff89ffffcf66001878e6ffbcfffffffdff89ffffff3e000020e6ffc2ffffff48ffffffffffff"
        "ff89ff000089ff00003eb868008361e7ff8cfeffff39fdffff44ffffffffff89ffffff3e000028e7ff92ffffff78ffffffff"
        "ff000089576700effeffff63ffffffffffffff89ff000089ff00003ee866002d4ae6ffc6fdffff90fdfffffdffffffffffff"
        "ffffff00008987670059fefffffcffffffffff000089976900e707e8ff3efffffffdff89ffffff89ffffff3e0000003e0000"
        "986900ab54e7ff02feffff54ffffff55ffffffffff0000896f6900e401e7ff9dfffffffdff89ffffff3e000040e6ff68ffff"
        "ff05ffffffffff000089e768000dfdffff5d66f8ffb7b3e7fff9fa10"),
    (
        "00ffffe8fcffff73fdffff3efeffffc7ffffff4a00f7fcffff79f9ffffe4ffffecd10012feffffa9ffffffffffffff22fcff"
        "ff73ffffff5bfcffff7efeffffeffdffff85ffffffffffffff11fcffffe8fcffff54f8ffff73f9fffff9feffff3ffdfffffe"
        "25ca0037fdffff55ffffff55fffffffffffffff7fcffff79f9e4ff55dbc900c9ffffffffff22fcffff73ffffff5bf8fffff9"
        "fefffffffffffdffff55ffffff555511fcffffe8fcffff54f8ffff73f9fffff8feffffe4ffffffffff7f00d30253fdffffac"
        "ffffffc3fffffffffff7fcffff79f9ffffe4fffff8e8023affffffb2ffffffffffffff22fcffff5afcffff7e050000befdff"
        "ff55ffffffffffffff11fcffffe8fcffff54f8ffff77f9fffff9feffff3ffdfffffe3a00008afeffff1cfffffffdffffffff"
        "fff7fcffff75f9ffffe4ffffffffff7ffdffff14ffffff000022fcffff56f8fffff9feff000700c3ffffff2fffffffffffff"
        "ff11fcffff54fcffff7efdffff75fffffff100f5feffff9d000000c3f7ffff510000fcffff66fbffffaefeffffffff000089"
        "27690045ffffff70ffffffa2aa89ffffff3e0000a0e6ff87ffffffffff89ffffff3e0000f8e7ff98fdffff88ffffffffffff"
        "ff89ff000089ff00003e086a00698ae8ffb8fdffffafffffffa7ffffffffff89ffffff3e000090e8ff6afeffff0dffffffff"
        "ff000089af6a00fcffffff6dfffffff7ff89ffffff89ffffff3e0000003e0000f8e6fffecde7ff72feffffaaffffffaaffff"
        "ffffff0000891f67001efdffff7cffffffa2aa89ffffff3e0000a0e8ffbbfffffffeff89ffffff89ffffff3e0000003e0000"
        "68670024ede6ff50fdffff43ffffffffffffffffff89ffffff3e0000b8e6ff34fffffffdff89ffffff3e000088e6ff59feff"
        "ffdfffffffffff000089bf6a00caffffff587f12c91c88e8ffd36ef001"),
]
PICTURES = [0xa1adcf48, 0x745abec8, 0xc3287077]
