"""What a frame costs in multiplications and how many parameters a codec has, part by part.

A part is what stands under one name in a codec: "encoder", "recon_head". torch counts the products
of every operation while a frame runs through the codec, here for one P-frame of "light":

    part            parameters   kMAC a pixel: encoder   decoder
    hyper_encoder      102,208                     0.4       0.0
    hyper_decoder      151,360                     0.6       0.6

A codec's encoder shows what its decoder will show, so it runs every part. Which ones the decoder
does not need is seen by watching it: it decodes what the encoder wrote.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dcvc.interfaces import FrameCodec, PFrameCodec

# A multiple of 64, which all codecs pad to: so the cost of a pixel is that of any large frame. Only
# attention costs more a pixel where there are more of them.
SIDE = 128
# The matrix products of our GDN layers. The field's tables leave normalisation out.
LEFT_OUT = "aten.baddbmm"


def _attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
    """Operations of attention on (B, heads, positions, width): scores, and the sum they weight."""
    batch, heads, positions, width = query
    return 2 * batch * heads * positions * key[-2] * (width + value[-1])


# torch's own table has attention on GPUs only.
ATTENTION_ON_CPUS = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}


@dataclass(frozen=True)
class Part:
    """parameters: how many numbers. encoder, decoder: thousands of multiplications a pixel."""

    name: str
    parameters: int
    encoder: float
    decoder: float


def p_frame_parts(codec: PFrameCodec) -> list[Part]:
    """Of a P-frame in the middle of a clip. Runs frames of noise; the codec stays as it is."""
    frame, small = _noise(codec, SIDE), _noise(codec, 64)
    with torch.no_grad():
        # The first P-frame is not like the others: there is only a picture to refer to.
        _, state = codec(codec.start(frame), frame)
        start = codec.compress(codec.start(small), small)[2]
        payload = codec.compress(start, small)[0]
    return _parts(codec, run=lambda: codec(state, frame),
                  encode=lambda: codec.compress(start, small),
                  decode=lambda: codec.decompress(start, payload))


def i_frame_parts(codec: FrameCodec) -> list[Part]:
    """Of an I-frame; otherwise as `p_frame_parts`. Of a codec that has another one inside, of frames
    that are coded by that one."""
    codec = getattr(codec, "intra", codec)
    frame, small = _noise(codec, SIDE), _noise(codec, 64)
    payload, _ = codec.compress(small)
    with _by_name(codec):
        return _parts(codec, run=lambda: codec(frame), encode=lambda: codec.compress(small),
                      decode=lambda: codec.decompress(payload))


def total(parts: list[Part]) -> Part:
    return Part("total", sum(part.parameters for part in parts),
                sum(part.encoder for part in parts), sum(part.decoder for part in parts))


def cost_of(p_frame: PFrameCodec, intra: FrameCodec) -> dict[str, float]:
    """For tables: "parameters" of both codecs, "kmac_encoder" and "kmac_decoder" of a P-frame."""
    parts = total(p_frame_parts(p_frame))
    parameters = parts.parameters + sum(p.numel() for p in intra.parameters())
    return {"parameters": parameters, "kmac_encoder": round(parts.encoder, 2),
            "kmac_decoder": round(parts.decoder, 2)}


def _noise(codec: Any, side: int) -> torch.Tensor:
    return torch.rand(1, 3, side, side, device=next(codec.parameters()).device)


@contextmanager
def _by_name(codec: Any) -> Iterator[None]:
    """A frozen codec with exact arithmetic computes with copies of its networks, which have no
    names; trainable, it runs the networks themselves, layer for layer the same products."""
    if getattr(codec, "trainable", True):
        yield
        return
    codec.trainable = True
    try:
        yield
    finally:
        codec.trainable = False


def _children(codec: nn.Module) -> tuple[str, dict[str, nn.Module]]:
    """The path of the module that has more than one part, and its parts by name."""
    path, inner = type(codec).__name__, codec
    # Codecs of other projects stand whole under one name, "model".
    while len(children := dict(inner.named_children())) == 1:
        (name, inner), = children.items()
        path = f"{path}.{name}"
    return path, children


def _parts(codec: nn.Module, run: Callable, encode: Callable, decode: Callable) -> list[Part]:
    path, children = _children(codec)
    counter = FlopCounterMode(display=False, custom_mapping=ATTENTION_ON_CPUS)
    with torch.no_grad(), counter:
        run()
    counts = counter.get_flop_counts()
    encoder_only = _seen(children, encode) - _seen(children, decode)
    parts = []
    for name, child in children.items():
        operations = _operations(counts, f"{path}.{name}")
        # A product and its addition are two operations.
        cost = operations / 2 / SIDE**2 / 1000
        parts.append(Part(name, sum(p.numel() for p in child.parameters()), cost,
                          0.0 if name in encoder_only else cost))
    own = sum(p.numel() for p in codec.parameters()) - sum(part.parameters for part in parts)
    return parts + ([Part("(vectors)", own, 0.0, 0.0)] if own else [])


def _operations(counts: dict[str, dict[Any, int]], path: str) -> int:
    """Of a module, or, where its layers are called one by one and not the module itself, of those."""
    if path in counts:
        return sum(count for operation, count in counts[path].items() if str(operation) != LEFT_OUT)
    inside = [name for name in counts if name.startswith(f"{path}.")]
    # A layer's own layers are counted in it already.
    highest = [name for name in inside
               if not any(name.startswith(f"{other}.") for other in inside)]
    return sum(_operations(counts, name) for name in highest)


def _seen(children: dict[str, nn.Module], run: Callable) -> set[str]:
    """Which of the parts compute something in `run`."""
    seen: set[str] = set()
    hooks = [module.register_forward_pre_hook(lambda *_, name=name: seen.add(name))
             for name, child in children.items() for module in child.modules()]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return seen
