"""Thousands of frames through two pipes, dcvc encode and decode: memory, latency, and the same bytes as by files.

    python benchmarks/live_pipe.py CLIP --frames 10000 --out benchmarks/live_pipe.json

The clip's frames, 320x180, come again and again, forwards and backwards, as y4m on the encoder's stdin. Memory is the
resident size of each process, read every second; "growth" is the largest of the last quarter against the largest of the
second one. The file way codes the same frames from a y4m file and decodes the stream to another.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from itertools import chain, cycle, islice
from pathlib import Path

import torch.nn.functional as F

from dcvc.bench.data import versions
from dcvc.data import VideoReader
from dcvc.files import write_text
from dcvc.interfaces import from_levels, to_levels
from dcvc.video.rgb_to_yuv import rgb_to_yuv444

SIZE = (180, 320)
ASKED_MS = 40
DCVC = [sys.executable, "-W", "ignore", "-m", "dcvc.cli"]


def pictures(path: Path, count: int = 60) -> list[bytes]:
    with VideoReader(path) as reader:
        frames = [F.interpolate(from_levels(frame)[None], size=SIZE, mode="area")[0] for frame in islice(reader, count)]
    return [b"".join(plane.numpy().tobytes() for plane in rgb_to_yuv444(from_levels(to_levels(frame)), "bt601"))
            for frame in frames]


def y4m(clip: list[bytes], frames: int):
    yield b"YUV4MPEG2 W320 H180 F30:1 Ip A1:1 C444 XCOLORRANGE=LIMITED\n"
    for picture in islice(cycle(chain(clip, clip[::-1])), frames):
        yield b"FRAME\n" + picture


def resident(process: subprocess.Popen) -> int:
    """Mebibytes; 0 when it has ended."""
    try:
        text = Path(f"/proc/{process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) // 1024
    except (OSError, TypeError):
        return 0


def growth(sizes: list[int]) -> float:
    quarter = max(1, len(sizes) // 4)
    return round(max(sizes[-quarter:]) / max(max(sizes[quarter:2 * quarter] or sizes), 1), 3)


def through_pipes(clip: list[bytes], frames: int, options: list[str]) -> dict:
    encoder = subprocess.Popen([*DCVC, "encode", "-", "-", "--no-exact", "--latency", "--quiet", "--json", *options],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    decoder = subprocess.Popen([*DCVC, "decode", "-", "-", "--quiet", *options[:2]], stdin=encoder.stdout,
                               stdout=subprocess.PIPE)
    encoder.stdout.close()

    def feed() -> None:
        for piece in y4m(clip, frames):
            encoder.stdin.write(piece)
        encoder.stdin.close()

    sizes: dict[str, list[int]] = {"encoder": [], "decoder": []}

    def watch() -> None:
        while encoder.poll() is None or decoder.poll() is None:
            for name, process in (("encoder", encoder), ("decoder", decoder)):
                if size := resident(process):
                    sizes[name].append(size)
            time.sleep(1)

    digest, threads = hashlib.sha256(), [threading.Thread(target=feed), threading.Thread(target=watch)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    while piece := decoder.stdout.read(1 << 20):
        digest.update(piece)
    result = json.loads(encoder.stderr.read().splitlines()[-1])
    for thread in threads:
        thread.join()
    return {"seconds": round(time.perf_counter() - begin, 1), "latency_ms": result["latency_ms"],
            "decoded": digest.hexdigest(), "bytes": result["bytes"],
            "memory_mib": {name: {"largest": max(values), "growth": growth(values)} for name, values in sizes.items()}}


def through_files(clip: list[bytes], frames: int, options: list[str]) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        source, stream, target = (Path(folder) / name for name in ("in.y4m", "a.dcvc", "out.y4m"))
        with open(source, "wb") as file:
            file.writelines(y4m(clip, frames))
        subprocess.run([*DCVC, "encode", str(source), str(stream), "--no-exact", "--quiet", *options], check=True,
                       stdout=subprocess.DEVNULL)
        source.unlink()
        subprocess.run([*DCVC, "decode", str(stream), str(target), "--quiet", *options[:2]], check=True)
        with open(target, "rb") as file:
            return {"decoded": hashlib.file_digest(file, "sha256").hexdigest()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--model", default="light-s")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    clip, words = pictures(options.clip), ["--model", options.model, "--quality", "24"]
    piped = through_pipes(clip, options.frames, words)
    filed = through_files(clip, options.frames, words)
    write_text(options.out, json.dumps({
        "command": f"python benchmarks/live_pipe.py CLIP --frames {options.frames} --out benchmarks/live_pipe.json",
        "versions": versions(), "frames": options.frames, "model": options.model, **piped,
        "asked_latency_ms": ASKED_MS, "equal_to_files": piped["decoded"] == filed["decoded"]}, indent=1) + "\n")
    print(json.dumps(piped), piped["decoded"] == filed["decoded"])


if __name__ == "__main__":
    main()
