"""Motion found by search on real clips: how well it predicts, what its vectors cost, how long it takes.

Frames are scaled to a short side of 288 and padded to 16; each refers to the original before it, as in the trial that
the codec's design rests on. PSNR is that of luma, mean over frames. Bits are those of an untrained MotionCoder's
integer tables. Time is that of one thread's processor, smallest of several rounds, for a frame of 640x368.

`OMP_NUM_THREADS=1 python benchmarks/block_search.py ../shared/clips/val --out benchmarks/block_search.json`
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from dcvc.data.augment import resized
from dcvc.entropy.coder import SymbolDecoder, SymbolEncoder
from dcvc.inter.light.block_search import search
from dcvc.inter.light.block_warp import to_picture_grid, warp
from dcvc.inter.light.motion_coder import MotionCoder
from dcvc.layers import pad_to_multiple, rgb_to_ycbcr
from dcvc.video.reader import VideoReader

SHORT_SIDE, QUALITIES, ROUNDS = 288, (8, 32, 56, 63), 12
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/block_search.py ../shared/clips/val --out benchmarks/block_search.json"


def read(path: Path, frames: int) -> Tensor:
    """The first frames, (N, 3, H, W), YCbCr less one half on the picture grid."""
    with VideoReader(path) as reader:
        height, width = reader.size
        scale = min(1.0, SHORT_SIDE / min(height, width))
        size = tuple(max(2, round(side * scale / 2) * 2) for side in (height, width))
        small = torch.stack([resized(frame[None], size)[0] for frame in islice(reader, frames)])
    return to_picture_grid(pad_to_multiple(rgb_to_ycbcr(small.float() / 255), 16))


def psnr(a: Tensor, b: Tensor) -> float:
    return -10 * math.log10(max(float((a[:, 0] - b[:, 0]).square().mean()), 1e-10))


def predicted(frames: Tensor, coder: MotionCoder) -> dict:
    """PSNR and bits a pixel by quality."""
    pairs, pixels = len(frames) - 1, frames.shape[-1] * frames.shape[-2]
    result = {"copy_dB": round(sum(map(psnr, frames[1:, None], frames[:-1, None])) / pairs, 2)}
    for quality in QUALITIES:
        previous, level, bits = None, 0.0, 0.0
        for i in range(1, len(frames)):
            frame, reference = frames[i:i + 1], frames[i - 1:i]
            vectors = search(frame, reference, torch.tensor([float(quality)]))
            level += psnr(frame, warp(reference, vectors)) / pairs
            bits += float(coder.stream_bits(vectors, previous)) / pairs
            previous = vectors
        result[f"quality_{quality}"] = {"dB": round(level, 2), "bits_a_frame": round(bits),
                                        "bpp": round(bits / pixels, 4)}
    return result


def milliseconds(work: Callable[[], object]) -> float:
    work()
    best = math.inf
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return round(1000 * best, 2)


def times(frames: Tensor, coder: MotionCoder) -> dict:
    frames = to_picture_grid(F.interpolate(frames[:2], (368, 640), mode="bilinear"))
    reference, frame = frames.split(1)
    result = {f"search_quality_{quality}":
              milliseconds(lambda q=quality: search(frame, reference, torch.tensor([float(q)])))
              for quality in (32, 63)}
    vectors = search(frame, reference, torch.tensor([63.0]))

    def push() -> bytes:
        encoder = SymbolEncoder()
        coder.push(vectors, None, encoder)
        return encoder.to_bytes()

    payload, shape = push(), tuple(vectors.shape)
    return result | {
        "warp": milliseconds(lambda: warp(reference, vectors)), "encode_vectors": milliseconds(push),
        "decode_vectors": milliseconds(lambda: coder.pop(shape, None, SymbolDecoder(payload)))}


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    coder, clips = MotionCoder(), {}
    for path in sorted(options.clips.iterdir()):
        if path.suffix in (".mp4", ".mkv"):
            frames = read(path, options.frames)
            clips[path.stem] = predicted(frames, coder) | {"ms_640x368": times(frames, coder)}
            print(path.stem, json.dumps(clips[path.stem]))
    what = f"the first {options.frames} frames, short side {SHORT_SIDE}, originals as references"
    record = {"command": COMMAND, "what": what, "threads": torch.get_num_threads(), "clips": clips,
              "torch": torch.__version__}
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
