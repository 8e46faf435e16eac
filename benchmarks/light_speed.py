"""Speed of whole `dcvc encode` and `dcvc decode` commands with the light codecs, and of decoding beside DCVC-2021.

`python benchmarks/light_speed.py CLIP --out benchmarks/light_speed.json`

Each command runs in a fresh process for few and for many frames; the difference is the time of the
frames between them, without start-up, I-frame and first P-frame. "encode" and "decode" have the usual
groups of 32, of which several are coded at the same time, "encode_one_group" and "decode_one_group" one
I-frame in all, where threads share each frame, as live. Medians of rounds count, of those
during which other work left the machine alone (kit/quiet.py); "all_fps" has all others too, and
"left_gflops" what the machine gave a product of matrices around each. m and DCVC-2021 take turns.
Beside frames per second stands the CPU time of a frame, which other work on the machine changes
less. m and s are the models in the box; the others have the weights that training begins from, with
the arithmetic of trained ones. "limit" is the frames per second at which the networks'
multiplications alone would keep all threads busy at the speed of large matrix products,
"gflops" what was reached.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from fractions import Fraction
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from kit.quiet import Round, quiet_rounds

from dcvc.bench.data import versions
from dcvc.bench.macs import p_frame_parts, total
from dcvc.checkpoint import load_codec, write_codecs
from dcvc.data import VideoReader
from dcvc.files import write_text
from dcvc.inter.registry import build_p_frame, codec_entry
from dcvc.interfaces import from_levels, to_levels
from dcvc.intra.light.config import SIZES as INTRA_SIZES
from dcvc.intra.light.model import LightIFrameModel
from dcvc.video.writer import VideoWriter

# codec, size, (width, height), few and many frames, frames per second that are asked for each way.
SETTINGS = {"m": ("light", "m", (640, 360), (5, 125), (15, 15)),
            "s": ("light", "s", (640, 360), (5, 125), (25, 25)),
            "uf-ld": ("light", "uf-ld", (416, 240), (3, 33), (8, 10)),
            "dcvc2021": ("dcvc2021", None, (640, 360), (2, 4), None)}
BOXED = {"m": "light-m", "s": "light-s"}
# Ends of the names of what is measured: groups of 32, and one.
GROUPS = ("", "_one_group")
ASKED_RATIO = 40        # decoding: m over DCVC-2021


def write_clip(source: Path, target: Path, size: tuple[int, int], frames: int) -> None:
    """The first frames of the source in another size."""
    with VideoReader(source) as reader:
        if len(reader) < frames:
            raise SystemExit(f"{source}: found {len(reader)} frames, needed {frames}; take a longer clip")
    with VideoReader(source) as reader, VideoWriter(target, size, Fraction(25)) as writer:
        for frame in islice(reader, frames):
            small = F.interpolate(from_levels(frame)[None], size=size[::-1], mode="area")
            writer.write(to_levels(small)[0].permute(1, 2, 0).numpy())


def seconds(arguments: list[str], threads: int) -> tuple[float, float]:
    """Wall and CPU time of one command."""
    usage, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-W", "ignore", "-m", "dcvc.cli", *arguments, "--quiet"], check=True,
                   stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime


def peak_gflops(threads: int) -> float:
    """Of a large matrix product, float32; by CPU time, so that other work on the machine does not count."""
    before, x = torch.get_num_threads(), torch.rand(1536, 1536)
    torch.set_num_threads(1)
    times = []
    for _ in range(9):
        begin = time.process_time()
        x @ x
        times.append(time.process_time() - begin)
    torch.set_num_threads(before)
    return threads * 2 * 1536**3 / min(times) / 1e9


def prepare(name: str, source: Path, folder: Path) -> dict:
    codec, size, shape, counts, asked = SETTINGS[name]
    entry = codec_entry(codec)
    torch.manual_seed(0)
    if name in BOXED:
        model = load_codec(BOXED[name]).p_frame
    else:
        model = build_p_frame(entry.size(size or entry.default_size)).eval()
        write_codecs(folder / f"{name}.pt", model, LightIFrameModel(INTRA_SIZES["s"]))
    cost = total(p_frame_parts(model))
    write_clip(source, folder / f"{name}.mp4", shape, max(counts))
    return {"codec": codec, "size": size or entry.default_size, "width": shape[0], "height": shape[1],
            "frames": list(counts), "asked_fps": asked,
            "kmac_per_pixel": {"encode": cost.encoder, "decode": cost.decoder}}


Times = dict[str, list[tuple[float, float]]]


def run_round(name: str, folder: Path, threads: int) -> Times:
    """Each of `ways_of` -> wall and CPU seconds for few and for many frames."""
    file, model = str(folder / name), BOXED.get(name, str(folder / f"{name}.pt"))
    quality = [] if SETTINGS[name][0] == "dcvc2021" else ["--quality", "32"]
    found: Times = {way: [] for way in ways_of(name)}
    for count in SETTINGS[name][3]:
        for end in GROUPS if name in BOXED else GROUPS[-1:]:
            period = [] if end == "" else ["--intra_period", "1000"]
            # What exact streams cost beside these is in exact_decoding.json.
            encode = ["encode", f"{file}.mp4", f"{file}.dcvc", "--model", model, *period, "--no-exact",
                      "--max_frames", str(count), *quality]
            decode = ["decode", f"{file}.dcvc", f"{file}.out.mp4", "--model", model]
            for way, command in (("encode", encode), ("decode", decode)):
                found[way + end].append(seconds(command, threads))
    return found


def ways_of(name: str) -> list[str]:
    """What is measured of a codec; the models that are not in the box have too few frames for groups."""
    return [way + end for end in (GROUPS if name in BOXED else GROUPS[-1:]) for way in ("encode", "decode")]


def summary(row: dict, quiet: list[Round[Times]], all_rounds: list[Round[Times]], threads: int, peak: float) -> None:
    """Adds frames per second, CPU time and arithmetic of each way to the row."""
    few, many = row["frames"]
    row["left_gflops"] = [one.left for one in all_rounds]
    for way in all_rounds[0].result:
        def each(rounds: list[Round[Times]], way: str = way) -> list[list[float]]:
            """Wall and CPU seconds of a frame."""
            return [[(b - a) / (many - few) for a, b in zip(*one.result[way], strict=True)] for one in rounds]

        wall, cpu = (statistics.median(values) for values in zip(*each(quiet), strict=True))
        operations = 2e3 * row["kmac_per_pixel"][way.partition("_")[0]] * row["width"] * row["height"]
        row[way] = {"fps": 1 / wall, "cpu_ms_per_frame": 1e3 * cpu, "quiet_fps": [1 / pair[0] for pair in each(quiet)],
                    "all_fps": [1 / pair[0] for pair in each(all_rounds)], "gflops": operations / wall / 1e9,
                    "gflops_per_cpu": operations / cpu / 1e9, "limit_fps": peak * 1e9 / operations}


def groups(names: Iterable[str]) -> list[tuple[str, ...]]:
    """What is measured in turns: those whose ratio is asked for; the others alone."""
    alone = [(name,) for name in names if name not in ("m", "dcvc2021")]
    together = tuple(name for name in ("m", "dcvc2021") if name in names)
    return [*alone, *([together] if together else [])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path, help="at least 125 frames")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="so many quiet ones")
    parser.add_argument("--most", type=int, default=9, help="rounds that may be tried for them")
    parser.add_argument("--only", nargs="+", choices=tuple(SETTINGS), default=tuple(SETTINGS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = {name: prepare(name, options.clip, folder) for name in options.only}
        rounds = {}
        for names in groups(rows):
            quiet, found = quiet_rounds(lambda names=names: tuple(run_round(name, folder, options.threads)
                                                                  for name in names),
                                        options.rounds, options.most, options.threads)
            for place, name in enumerate(names):
                rounds[name] = [[Round(one.result[place], one.left) for one in kind] for kind in (quiet, found)]
            print(names, [round(one.left) for one in found], file=sys.stderr)
    peak = peak_gflops(options.threads)
    for name, row in rows.items():
        summary(row, *rounds[name], options.threads, peak)
        row |= {"command": "python benchmarks/light_speed.py CLIP" + "".join(f" {x}" for x in sys.argv[2:]),
                "clip": options.clip.name, "threads": options.threads, "peak_gflops": peak,
                "load_average": os.getloadavg()[0], "versions": versions()}
    # A machine may be quiet for some of them only: those that are not measured now stay in the record.
    known = json.loads(options.out.read_text())["rows"] if options.out and options.out.exists() else {}
    record = {"rows": {**known, **rows}}
    if {"m", "dcvc2021"} <= set(rows):
        # CPU times, as other work on the machine changes them less.
        m, other = (rows[name]["decode_one_group"] for name in ("m", "dcvc2021"))
        rows["dcvc2021"]["decoding_of_m"] = {
            "asked": ASKED_RATIO, "by_wall_time": m["fps"] / other["fps"],
            "by_cpu_time": other["cpu_ms_per_frame"] / m["cpu_ms_per_frame"]}
    print(json.dumps(record, indent=1))
    if options.out:
        write_text(options.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
