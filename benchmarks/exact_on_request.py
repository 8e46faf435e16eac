"""Exact streams of DCVC-2021 and of the published light codecs, which are exact on request: what they cost beside
floats, and that every setting decodes the same.

`python benchmarks/exact_on_request.py ../shared/clips/val --out benchmarks/exact_on_request.json`

DCVC-2021: full size, untrained weights that were stirred, the I-frame codec of light-m with its ranges. uf-ld and
uf-intra: weights by the rule of kit/uf_weights.py. Clips are the middle of videos, scaled down. Times are
CPU times of one thread, both ways taking turns frame by frame. Every stream is coded in each environment
(kit/exact_settings.py), and decoded in each with 1 and 2 threads, with and without oneDNN.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from exact_decoding import peak_megabytes, psnr
from exact_ranges import clip_of
from kit.damage import calmed
from kit.exact_settings import ENVIRONMENTS, digest, onednn
from kit.uf_weights import uf_weights
from torch import Tensor

from dcvc.bench.data import versions
from dcvc.checkpoint import load_codec, write_codecs
from dcvc.codec.clip_coders import ClipDecoder, ClipEncoder, crc_of
from dcvc.codec.exact_ranges import CodecRanges, read_ranges
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.stream_writer import StreamWriter
from dcvc.codec.video_codec import VideoCodec
from dcvc.device import computing_threads
from dcvc.files import write_text
from dcvc.inter import DCVC
from dcvc.inter.light.config import SIZES
from dcvc.inter.light.model import LightPFrameModel
from dcvc.intra.light.config import SIZES as INTRA_SIZES
from dcvc.intra.light.model import LightIFrameModel
from dcvc.models.run_folder import MODEL

ROOT = Path(__file__).resolve().parent.parent
SIZE, LARGE, FRAMES = (128, 192), (384, 640), 4
WAYS = ("float", "exact")
PLACES = ("avx512", "avx2", "default")
SETTINGS = [(threads, enabled) for threads in (1, 2) for enabled in (True, False)]


def write_dcvc2021(folder: Path) -> None:
    p_frame = calmed(DCVC())
    with torch.no_grad():
        for name, value in p_frame.named_parameters():
            # Weights that are equal to each other, as many are in the beginning, would hide a mistake.
            if not name.startswith(("bitEstimator", "opticFlow")):
                value.mul_(1 + 0.01 * torch.randn_like(value)).add_(3e-5 * torch.randn_like(value))
    write_codecs(folder / MODEL, p_frame, load_codec("light-m").intra)


def write_published(folder: Path) -> None:
    models = {"ld": LightPFrameModel(SIZES["uf-ld"]), "intra": LightIFrameModel(INTRA_SIZES["uf-intra"])}
    for kind, model in models.items():
        shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
        model.load_state_dict(uf_weights(kind, shapes))
    write_codecs(folder / MODEL, *models.values())


MODELS = {"dcvc2021": write_dcvc2021, "uf-ld": write_published}


def codec_in(folder: Path) -> VideoCodec:
    light, codec = load_codec("light-m"), load_codec(folder)
    ranges = read_ranges(light.ranges, light.inter_hash, light.intra_hash)
    return VideoCodec(codec.p_frame, codec.intra, CodecRanges({}, ranges.intra))


def middle(frame: Tensor, size: tuple[int, int]) -> Tensor:
    top, left = ((side - wanted) // 2 for side, wanted in zip(frame.shape[1:], size, strict=True))
    return frame[:, top:top + size[0], left:left + size[1]].contiguous()


# ---- what it costs

def code(plain: VideoCodec, frames: list[Tensor]) -> dict:
    """Both ways, in turns -> bytes of P-frames, PSNR of each, CPU seconds of P-frames."""
    coders, found = {}, {}
    # The same I-frame for both: what is compared are P-frames.
    exact = plain.exact_form()
    first = exact.intra.compress(frames[0][None] / 255)[1]
    for way, codec in zip(WAYS, (plain, exact), strict=True):
        coders[way] = codec.p_frame, codec.p_frame.start(first), codec.p_frame.start(first)
        found[way] = {"bytes": 0, "psnr": [], "encode": [], "decode": [], "differs": 0}
    for frame in frames[1:]:
        for way, (p_frame, state, known) in coders.items():
            begin = time.process_time()
            payload, output, state = p_frame.compress(state, frame[None] / 255)
            between = time.process_time()
            shown, known = p_frame.decompress(known, payload)
            of_it, coders[way] = found[way], (p_frame, state, known)
            of_it["encode"].append(between - begin)
            of_it["decode"].append(time.process_time() - between)
            of_it["bytes"] += len(payload)
            of_it["psnr"].append(psnr(frame, (shown[0] * 255).round()))
            of_it["differs"] += not torch.equal(shown, output.x_hat)
    for of_it in found.values():
        of_it["psnr"] = statistics.mean(of_it["psnr"])
        # The first one makes what is made of weights.
        of_it.update({key: statistics.median(of_it[key][1:]) for key in ("encode", "decode")})
    return found


def memory(folder: Path, frame: Tensor) -> dict[str, float]:
    """Peak of a process that decodes an I-frame and a P-frame of 640 x 384."""
    plain, found = load_codec(folder), {}
    for way, codec in zip(WAYS, (plain, plain.exact_form()), strict=True):
        with open(folder / f"{way}.dcvc", "wb") as file:
            header = codec.header(LARGE, Fraction(25), 2, 2, source=b"test")
            list(codec.encode([frame, frame.roll(2, 2)], header, file))
        found[way] = peak_megabytes(folder / f"{way}.dcvc", str(folder))
    return found


# ---- one process

def work(folder: Path, place: str, what: str) -> None:
    """Of the process of one environment: codes all clips, or decodes all streams -> FOLDER/WHAT-PLACE.json."""
    codec, found = codec_in(folder).exact_form(), []
    if what == "encode":
        for clip in sorted(folder.glob("*.npy")):
            frames = list(torch.from_numpy(np.load(clip)))
            header, file, shown = codec.header(SIZE, Fraction(25), FRAMES, FRAMES, source=b"test"), io.BytesIO(), []
            encoder, writer = ClipEncoder(codec, header), StreamWriter(file, header)
            for number, frame in enumerate(frames):
                attempt = encoder.code(number, 2 if number else 1, frame, {})
                writer.write(attempt.payload, crc_of(attempt.x_hat), 2 if number else 1)
                encoder.commit(attempt)
                shown.append(attempt.x_hat)
            writer.finish()
            name = f"{clip.stem}-{place}.bin"
            (folder / name).write_bytes(file.getvalue())
            found.append({"file": name, "clip": clip.stem, "shown": digest(iter(shown))})
    else:
        for stream in json.loads((folder / "streams.json").read_text()):
            for threads, enabled in SETTINGS:
                with computing_threads(threads), onednn(enabled):
                    same = decoded(codec, (folder / stream["file"]).read_bytes()) == stream["shown"]
                found.append({"environment": place, "threads": threads, "onednn": enabled, "same": same})
    (folder / f"{what}-{place}.json").write_text(json.dumps(found))


def decoded(codec: VideoCodec, data: bytes) -> str:
    """Digest of what is shown, or what went wrong."""
    reader = StreamReader(io.BytesIO(data))
    clip = ClipDecoder(codec, reader.header, reader.name)
    try:
        return digest(clip.decode(record).x_hat for record in reader)
    except Exception as error:  # whatever it is, the stream did not decode
        return repr(error)


def in_process(folder: Path, place: str, what: str) -> list[dict]:
    variables = {**os.environ, **ENVIRONMENTS[place], "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE",
                 "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "benchmarks")))}
    subprocess.run([sys.executable, __file__, str(folder), "--work", place, what], check=True, env=variables)
    return json.loads((folder / f"{what}-{place}.json").read_text())


# ---- all of them

def agreement(folder: Path) -> dict:
    coded = [one for place in PLACES for one in in_process(folder, place, "encode")]
    # Environments may make the same bytes: an encoder's own networks are floats.
    streams = {(one["clip"], (folder / one["file"]).read_bytes()): one for one in coded}
    (folder / "streams.json").write_text(json.dumps(list(streams.values())))
    found = [one for place in PLACES for one in in_process(folder, place, "decode")]
    rows = []
    for place in PLACES:
        for threads, enabled in SETTINGS:
            same = [one["same"] for one in found
                    if (one["environment"], one["threads"], one["onednn"]) == (place, threads, enabled)]
            rows.append({"environment": place, "threads": threads, "onednn": enabled, "streams": len(same),
                         "differing": same.count(False)})
    return {"encodings": len(coded), "different_streams": len(streams), "combinations": len(found),
            "differing": sum(row["differing"] for row in rows), "rows": rows}


def measure(model: str, paths: list[Path]) -> dict:
    with tempfile.TemporaryDirectory() as name:
        folder, rows = Path(name), []
        torch.manual_seed(0)
        MODELS[model](folder)
        plain = codec_in(folder)
        for path in paths:
            frames = [middle(frame, SIZE) for frame in clip_of(path, 144, FRAMES)]
            np.save(folder / f"{path.stem}.npy", torch.stack(frames).numpy())
            rows.append({"clip": path.stem, **code(plain, frames)})
            print(model, json.dumps(rows[-1]), flush=True)
        ratios = {key: statistics.median(row["exact"][key] / row["float"][key] for row in rows)
                  for key in ("encode", "decode", "bytes")}
        cost = {"time_ratio": {key: ratios[key] for key in ("encode", "decode")},
                "bytes_percent": 100 * (ratios["bytes"] - 1),
                "psnr_difference": statistics.mean(row["exact"]["psnr"] - row["float"]["psnr"] for row in rows),
                "peak_megabytes_640x384": memory(folder, middle(clip_of(paths[0], 400, 1)[0], LARGE)), "rows": rows}
        exact = plain.exact_form()
        # Of I-frames of light-m: exact_decoding.json.
        parts = [part for part in (exact.intra, exact.p_frame) if hasattr(part, "bounds")]
        bits = [{**bound._asdict(), "used": round(bound.used, 2)} for part in parts for bound in part.bounds]
        return {"settings": agreement(folder), "cost": cost, "bits": bits}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path, help="a folder of videos")
    parser.add_argument("--most_clips", type=int, default=2)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", nargs=2, metavar=("ENVIRONMENT", "WHAT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.work:
        work(options.clips, *options.work)
        return
    paths = sorted(path for path in options.clips.iterdir() if path.suffix in (".mp4", ".mkv"))[:options.most_clips]
    command = "python benchmarks/exact_on_request.py " + " ".join(sys.argv[1:])
    record = {"command": command, "versions": versions(), "size": list(SIZE), "frames": FRAMES,
              "environments": {place: ENVIRONMENTS[place] for place in PLACES}}
    record["models"] = {model: measure(model, paths) for model in options.models}
    write_text(options.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
