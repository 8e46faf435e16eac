"""Speed of coding on this machine: one P-frame codec, untrained, compressing and decompressing moving pictures."""

import statistics
import time
from typing import Any

import torch

from dcvc.bench.moving_pictures import moving_pictures
from dcvc.errors import BitstreamError
from dcvc.inter.registry import build_p_frame, codec_entry
from dcvc.interfaces import from_levels, to_levels


@torch.no_grad()
def bench_coding(codec: str, size: str, height: int = 192, width: int = 320, frames: int = 4,
                 repeats: int = 3) -> dict[str, Any]:
    """Frames per second each way, medians over `repeats` runs of `frames` P-frames that follow one given picture.

    The weights are random, so the rate means nothing; the arithmetic is that of a trained model in floats, as
    `dcvc encode --no-exact` has it. Raises BitstreamError if the decoder's frames differ from the encoder's.
    """
    torch.manual_seed(0)
    model = build_p_frame(codec_entry(codec).size(size)).eval()
    clip = from_levels(to_levels(moving_pictures(frames + 1, height, width)))
    first = model.start(clip[:1])
    model.compress(first, clip[1:2])                         # integer tables and caches, made once a model
    seconds: dict[str, list[float]] = {"encode": [], "decode": []}
    for _ in range(repeats):
        payloads, shown, state = [], [], first
        begin = time.perf_counter()
        for number in range(1, frames + 1):
            payload, output, state = model.compress(state, clip[number:number + 1])
            payloads.append(payload)
            shown.append(output.x_hat)
        seconds["encode"].append(time.perf_counter() - begin)
        begin, state, decoded = time.perf_counter(), first, []
        for payload in payloads:
            x_hat, state = model.decompress(state, payload)
            decoded.append(x_hat)
        seconds["decode"].append(time.perf_counter() - begin)
        if not all(torch.equal(a, b) for a, b in zip(shown, decoded, strict=True)):
            raise BitstreamError("bench coding: the decoder's frames differ from the encoder's")
    return {"codec": codec, "size": size, "width": width, "height": height, "frames": frames, "repeats": repeats,
            "threads": torch.get_num_threads(), "parameters": sum(p.numel() for p in model.parameters()),
            **{f"{name}_fps": frames / statistics.median(values) for name, values in seconds.items()}}


def as_text(result: dict[str, Any]) -> str:
    return (f"{result['codec']} {result['size']}, {result['parameters']:,} parameters, {result['width']}x"
            f"{result['height']}, {result['threads']} threads, in floats\n"
            f"encode {result['encode_fps']:.2f} frames/s\ndecode {result['decode_fps']:.2f} frames/s")
