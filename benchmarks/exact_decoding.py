"""What exact arithmetic costs: rate, quality, time and memory beside floats, and the bits that sums use.

`python benchmarks/exact_decoding.py ../shared/clips/val --frames 17 --out benchmarks/exact_decoding.json`

The first frames of each video, scaled down, one I-frame, both ways with the same model. BD-rate is over PSNR of
8-bit RGB, which is what both ways show. Times are CPU times of one thread, the ways taking turns frame by frame,
so that other work on the machine counts for both. Memory is the most that a process of its own takes to decode.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import torch
from exact_ranges import clip_of

from dcvc.bench.data import versions
from dcvc.checkpoint import load_codec
from dcvc.codec.clip_coders import ClipDecoder, ClipEncoder, crc_of
from dcvc.codec.stream_writer import StreamWriter
from dcvc.codec.video_codec import VideoCodec
from dcvc.files import write_text
from dcvc.report.bd import bd

QUALITIES = (8.0, 24.0, 40.0, 56.0)
WAYS = ("float", "exact")


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(10 * torch.log10(255**2 / (a.float() - b.float()).square().mean()))


def code(codecs: dict[str, VideoCodec], frames: list[torch.Tensor], quality: float, folder: Path) -> dict:
    """Both ways, in turns -> bits, PSNR, CPU seconds of P-frames each way."""
    size, found = tuple(frames[0].shape[1:]), {}
    coders = {}
    for way, codec in codecs.items():
        header = codec.header(size, Fraction(25), len(frames), 0, source=b"test", has_end=True)
        file = io.BytesIO()
        coders[way] = ClipEncoder(codec, header), StreamWriter(file, header), ClipDecoder(codec, header, way), file
        found[way] = {"psnr": [], "encode": [], "decode": [], "differs": 0}
    for number, frame in enumerate(frames):
        kind = 2 if number else 1
        for way, (encoder, writer, decoder, _) in coders.items():
            begin = time.process_time()
            attempt = encoder.code(number, kind, frame, {"quality": quality})
            middle = time.process_time()
            record = writer.write(attempt.payload, crc_of(attempt.x_hat), kind)
            encoder.commit(attempt)
            before = time.process_time()
            shown = decoder.decode(record).x_hat
            if number > 1:
                found[way]["encode"].append(middle - begin)
                found[way]["decode"].append(time.process_time() - before)
            found[way]["differs"] += not torch.equal(shown, attempt.x_hat)
            found[way]["psnr"].append(psnr(frame, shown))
    for way, (_, writer, _, file) in coders.items():
        writer.finish()
        (folder / f"{way}.dcvc").write_bytes(file.getvalue())
        found[way] = {"bytes": len(file.getvalue()), "psnr": statistics.mean(found[way]["psnr"]),
                      "differs": found[way]["differs"],
                      **{key: statistics.median(found[way][key]) for key in ("encode", "decode")}}
    return found


def peak_megabytes(stream: Path, model: str) -> float:
    """Of a process that decodes a stream."""
    # The kernel hands the peak of who starts a process on to it, as that of getrusage; VmHWM is its own.
    code = (f"import torch; torch.set_num_threads(1)\nfrom dcvc.checkpoint import load_codec\n"
            f"from dcvc.codec.stream_reader import StreamReader\ncodec = load_codec({model!r})\n"
            f"file = open({str(stream)!r}, 'rb')\nfor frame in codec.decode(StreamReader(file)): pass\n"
            "lines = open('/proc/self/status')\nprint(next(int(l.split()[1]) / 1024 for l in lines if 'VmHWM' in l))")
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def bits_table(exact: VideoCodec) -> list[dict]:
    """Used and available bits of every layer's sums."""
    return [{"codec": kind, "layer": linear.bound.layer, "inputs": linear.bound.inputs,
             "weight_bits": list(linear.bound.weight_bits), "used": round(linear.bound.used, 2),
             "available": linear.bound.available}
            for kind, part in (("I", exact.intra), ("P", exact.p_frame)) for linear in part.networks.linears]


def measure(model: str, clips: dict[str, list[torch.Tensor]], folder: Path) -> dict:
    plain = load_codec(model)
    codecs = dict(zip(WAYS, (plain, plain.exact_form()), strict=True))
    rows, losses = [], {}
    for name, frames in clips.items():
        curves = {way: [] for way in WAYS}
        for quality in QUALITIES:
            found = code(codecs, frames, quality, folder)
            rows.append({"clip": name, "quality": quality, **found})
            for way in WAYS:
                curves[way].append((found[way]["bytes"], found[way]["psnr"]))
            print(model, json.dumps(rows[-1]), flush=True)
        losses[name] = bd(curves["float"], curves["exact"]).bd_rate
    memory = {way: peak_megabytes(folder / f"{way}.dcvc", model) for way in WAYS}
    return {"bd_rate_percent": losses, "mean_bd_rate_percent": statistics.mean(losses.values()),
            "mean_psnr_difference": statistics.mean(row["exact"]["psnr"] - row["float"]["psnr"] for row in rows),
            "differing_frames": sum(row[way]["differs"] for row in rows for way in WAYS),
            "time_ratio": {key: statistics.median(row["exact"][key] / row["float"][key] for row in rows)
                           for key in ("encode", "decode")},
            "peak_megabytes": memory, "rows": rows, "bits": bits_table(codecs["exact"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path, help="a folder of videos")
    parser.add_argument("--models", nargs="+", default=["light-m", "light-s"])
    parser.add_argument("--short_side", type=int, default=180)
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    clips = {path.stem: clip_of(path, options.short_side, options.frames)
             for path in sorted(options.clips.iterdir()) if path.suffix in (".mp4", ".mkv")}
    with tempfile.TemporaryDirectory() as folder:
        command = {"command": " ".join(["python", *sys.argv])}
        models = {Path(model).name: {**command, **measure(model, clips, Path(folder))} for model in options.models}
    # Models that are not measured now stay in the record.
    if options.out.exists():
        models = {**json.loads(options.out.read_text())["models"], **models}
    asked = {"bd_rate_percent": 0.5, "psnr_difference": 0.02, "decode_ratio": 2.0, "encode_ratio": 1.7,
             "memory_ratio": 1.5}
    record = {"versions": versions(), "short_side": options.short_side,
              "frames": options.frames, "qualities": list(QUALITIES), "asked": asked,
              "models": models}
    write_text(options.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
