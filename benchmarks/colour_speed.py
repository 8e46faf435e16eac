"""Seven planes of 256x256 to RGB: this project's conversion and FFmpeg's scaler, their time and their distance from the
float64 reference of tests/helpers/colour_reference.py (smooth planes: the scaler sites chroma differently).

`OMP_NUM_THREADS=1 python benchmarks/colour_speed.py --out benchmarks/colour_speed.json`
"""

import argparse
import importlib.util
import json
import statistics
import time
from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation, VideoReformatter

from dcvc.video.yuv_to_rgb import Colour, to_rgb

TESTS = Path(__file__).resolve().parent.parent / "tests" / "helpers"
FRAMES, SIZE, ROUNDS = 7, 256, 60
SCALER = {"FFmpeg, its default": Interpolation.BILINEAR,
          "FFmpeg, accurate": Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND}


def reference(y: np.ndarray, u: np.ndarray, v: np.ndarray, colour: Colour) -> np.ndarray:
    spec = importlib.util.spec_from_file_location("colour_reference", TESTS / "colour_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.reference(y, u, v, colour)


def planes(shift: int) -> list[np.ndarray]:
    """Smooth luma and chroma within the legal range, the same at all resolutions."""
    across, down = np.meshgrid(np.linspace(0, 3, SIZE), np.linspace(0, 2, SIZE))
    y = 125 + 55 * np.sin(2 * across + down)
    return [np.rint(p).astype(np.uint8) for p in (
        y, *(128 + 14 * f(down - across)[:: 1 << shift, :: 1 << shift] for f in (np.sin, np.cos)))]


def scaler(samples: list[np.ndarray], pix_fmt: str, flags: Interpolation):
    frame = av.VideoFrame(SIZE, SIZE, pix_fmt)
    for plane, values in zip(frame.planes, samples, strict=True):
        np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width] = values
    reformatter = VideoReformatter()

    def convert() -> np.ndarray:
        for _ in range(FRAMES):
            found = reformatter.reformat(frame, format="gbrp", src_colorspace="ITU709", dst_colorspace="ITU709",
                                         src_color_range="MPEG", dst_color_range="JPEG", interpolation=flags, threads=1)
        g, b, r = (np.frombuffer(p, np.uint8).reshape(SIZE, -1)[:, :SIZE] for p in found.planes)
        return np.stack((r, g, b))

    return convert


def measure(shift: int) -> dict:
    samples, colour = planes(shift), Colour("bt709", False, 8, (shift, shift))
    y, u, v = (torch.from_numpy(p).expand(FRAMES, -1, -1).contiguous() for p in samples)
    ways = {"this project": lambda: to_rgb(y, u, v, colour)[0].numpy()}
    ways |= {name: scaler(samples, "yuv444p" if shift == 0 else "yuv420p", flags) for name, flags in SCALER.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, convert in ways.items():
            began = time.process_time()
            convert()
            times[name].append(1000 * (time.process_time() - began))
    exact, result = reference(*samples, colour), {}
    for name, convert in ways.items():
        error = convert().astype(np.float64) - exact
        result[name] = {"ms": round(statistics.median(times[name]), 3),
                        "worst_level": round(float(abs(error).max()), 2),
                        "bias_level": [round(float(b), 3) for b in error.mean((1, 2))]}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    record = {"command": f"OMP_NUM_THREADS=1 python benchmarks/colour_speed.py --out {options.out}",
              "what": f"{FRAMES} frames of {SIZE}x{SIZE}, CPU time, medians of {ROUNDS} turns",
              "result": {"4:4:4": measure(0), "4:2:0": measure(1)}, "av": av.__version__, "torch": torch.__version__}
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
