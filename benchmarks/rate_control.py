"""How near `dcvc encode --bitrate` comes to what was asked, on every validation clip of four seconds or more.

    python benchmarks/rate_control.py ../shared/clips/val --model light-m --out benchmarks/rate_control.json

Each clip (at --rows rows, made small first, so that the record takes minutes) is coded at five targets over a range of
16:1 inside what the model reaches, in one pass and in two. Measured: the file against the target; the largest second
after the first, against its share; the standard deviation of PSNR between neighbours, against that of the constant
quality nearest to the target: with the codec's quality steps, as both have by default, and without any. Both passes
are those of the command. Runs go on where they were: what stands in --out is not done again.
"""

import argparse
import json
import math
import statistics
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F

from dcvc.checkpoint import load_codec
from dcvc.codec.bitstream import P_FRAME
from dcvc.codec.encoder import Encoder
from dcvc.codec.first_pass import FirstPass
from dcvc.codec.quality_steps import FLAT, SteppedQuality
from dcvc.codec.rate_control import RateControl, RateTarget
from dcvc.codec.rate_probe import probe_rates
from dcvc.data import VideoReader
from dcvc.files import write_text
from dcvc.interfaces import from_levels, to_levels

SECONDS, RANGE, TARGETS, PERIOD = 4, 16, 5, 32


def frames_of(path: Path, rows: int) -> tuple[list[torch.Tensor], float]:
    with VideoReader(path) as reader:
        height, width = reader.size
        size = (rows, round(width * rows / height / 2) * 2)
        frames = [to_levels(F.interpolate(from_levels(frame)[None], size=size, mode="area"))[0] for frame in reader]
        return frames, float(reader.fps)


def coded(codec, frames, fps, **options) -> tuple[int, list]:
    """-> bytes of the file, for every frame (bits, quality, PSNR)."""
    encoder = Encoder(codec, tuple(frames[0].shape[1:]), fps, exact=False, intra_period=PERIOD,
                      frames=len(frames), **options)
    rows = []
    for frame in frames:
        for packet in encoder.push(frame):
            if packet.frame:
                error = float(torch.mean((packet.frame.x_hat.float() - frame.float()) ** 2)) / 255**2
                record = packet.frame.record
                rows.append((record.kind, 8 * len(packet.data), record.head.quality, -10 * math.log10(error)))
    encoder.flush()
    return encoder.bytes, rows


def swings(rows) -> float:
    psnr = [row[3] for row in rows]
    return statistics.pstdev(b - a for a, b in pairwise(psnr))


def largest_second(rows, fps: float, share: float) -> float:
    second, bits = round(fps), [row[1] for row in rows]
    windows = [sum(bits[n:n + second]) for n in range(second, len(bits) - second + 1)]
    return max(windows, default=0) / (share * second)


def measure(codec, frames, fps, share: float) -> dict:
    target = RateTarget(share, fps, frames[0].shape[1] * frames[0].shape[2], codec.p_frame.rates, PERIOD, len(frames))
    probe = probe_rates(codec, [frames[n:n + 5] for n in (0, len(frames) // 2)], PERIOD, len(frames))
    control = RateControl(target, model=probe.model_at(share))
    size, rows = coded(codec, frames, fps, control=control)
    first = FirstPass(probe.quality_at(share), target.rates)
    coded(codec, frames, fps, control=first)
    size_two, rows_two = coded(codec, frames, fps, control=RateControl(target, first.log, probe.model_at(share)))
    # The mean plan: P-frames' qualities without their steps.
    steps = target.rates.steps
    middle = statistics.fmean(row[2] for row in rows if row[0] == P_FRAME) - statistics.fmean(steps[1:])
    middle = min(max(middle, target.rates.lowest), target.rates.highest)
    stepped, flat = (coded(codec, frames, fps, quality=SteppedQuality(middle, these))[1] for these in (steps, FLAT))
    found = {}
    for name, written, these in (("one_pass", size, rows), ("two_pass", size_two, rows_two)):
        found[name] = {"off_percent": round(100 * (8 * written / len(frames) / share - 1), 2),
                       "largest_second": round(largest_second(these, fps, share), 3),
                       "swings": round(swings(these) / max(swings(stepped), 1e-9), 3),
                       "swings_beside_flat": round(swings(these) / max(swings(flat), 1e-9), 3),
                       "qualities": [min(row[2] for row in these), max(row[2] for row in these)]}
    return {"bits_a_frame": round(share, 1), "constant_quality_swings_db": round(swings(stepped), 3),
            "flat_swings_db": round(swings(flat), 3),
            **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--model", default="light-m")
    parser.add_argument("--rows", type=int, default=144)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    codec = load_codec(options.model, torch.device("cpu"))
    record = json.loads(options.out.read_text()) if options.out.exists() else {
        "command": f"python benchmarks/rate_control.py {options.videos.name} --model {options.model} --rows "
                   f"{options.rows} --out {options.out.name}", "clips": {}}
    for path in sorted(path for path in options.videos.iterdir() if path.suffix in (".mp4", ".mkv")):
        frames, fps = frames_of(path, options.rows)
        if len(frames) < SECONDS * fps:
            continue
        done = record["clips"].setdefault(path.name, {})
        if "reachable" not in done:
            ends = (codec.p_frame.rates.lowest, codec.p_frame.rates.highest)
            done["reachable"] = [8 * coded(codec, frames, fps, quality=end)[0] / len(frames) for end in ends]
        # As many octaves from both ends of what the model reaches on the whole clip.
        begin = math.sqrt(math.prod(done["reachable"]) / RANGE)
        for place in range(TARGETS):
            if str(place) not in done:
                done[str(place)] = measure(codec, frames, fps, begin * RANGE ** (place / (TARGETS - 1)))
                print(path.name, place, done[str(place)], flush=True)
                write_text(options.out, json.dumps(record, indent=1))


if __name__ == "__main__":
    with torch.no_grad():
        main()
