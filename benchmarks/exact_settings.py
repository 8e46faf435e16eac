"""Exact streams under many settings: coded under one, decoded under all others, by torch and by integers.

`python benchmarks/exact_settings.py ../shared/clips/val --most_clips 2 --out benchmarks/exact_settings.json`

A combination is a stream (model, clip, size, quality, and what it was coded under), an environment and a setting
that it is decoded under (kit/exact_settings.py). What is compared are the bytes of all frames, with those that the
encoder says are shown. An encoder's own networks and its search are floats, so streams coded under other settings
may differ; how many did is in the record, and each of them is decoded under all settings.

Beside it, drift: streams of the same models that are not exact, coded in the first environment, decoded in each. Their
symbols must be the same, their pictures may differ in last bits; the record has how far they are apart.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from exact_ranges import clip_of
from kit.exact_batches import differing_in_batch
from kit.exact_settings import ENVIRONMENTS, SETTINGS, decoded, encoded
from kit.exact_streams import moving_frames
from kit.float_streams import drift_of_stream, drift_summary, write_float_stream
from kit.light_models import stirred
from torch import Tensor

from dcvc.bench.data import versions
from dcvc.checkpoint import load_codec, save_pretrained
from dcvc.codec.exact_ranges import measure_ranges, read_ranges
from dcvc.codec.stream_reader import StreamReader
from dcvc.codec.video_codec import VideoCodec
from dcvc.files import write_text
from dcvc.inter.light.config import SIZES
from dcvc.inter.light.model import LightPFrameModel
from dcvc.intra.light.config import SIZES as INTRA_SIZES
from dcvc.intra.light.model import LightIFrameModel

ROOT = Path(__file__).resolve().parent.parent
PICTURE_SIZES, FRAMES = ((64, 96), (72, 134), (112, 176)), 4
# One that is cut into bands of rows, with one quality.
LARGE, LARGE_FRAMES = (256, 320), 3
QUALITIES, LARGE_QUALITY = (5.0, 30.0, 63.0), 41.0
# What streams are coded under, in every environment.
CODED_UNDER = (SETTINGS[0], SETTINGS[2], SETTINGS[6], SETTINGS[7])
BATCH = 4
load = functools.cache(load_codec)


# ---- what is coded

def write_large_model(folder: Path, frames: list[Tensor]) -> None:
    """Size l, which is in no box: weights as drawn, ranges as measured of one clip."""
    torch.manual_seed(0)
    parts = stirred(LightPFrameModel(SIZES["l"])), stirred(LightIFrameModel(INTRA_SIZES["l"]))
    for part in parts:
        part.eval()
    clip = [frame[None] for frame in frames[:2]]
    save_pretrained(VideoCodec(*parts, measure_ranges(*parts, [clip], (20.0, 50.0))), folder)


def clips_of(paths: list[Path], most: int | None) -> dict[str, list[list[Tensor]]]:
    """Name -> its frames in several sizes, the last one large."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for path in islice(paths, most):
        frames = clip_of(path, 288, FRAMES)
        # The middle, where something is.
        found[path.stem] = [[middle(frame, size) for frame in frames] for size in (*PICTURE_SIZES, LARGE)]
    found["drawn"] = [moving_frames(FRAMES, size) for size in (*PICTURE_SIZES, LARGE)]
    found["noise"] = [[torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8) for _ in range(FRAMES)]
                      for size in (*PICTURE_SIZES, LARGE)]
    return found


def middle(frame: Tensor, size: tuple[int, int]) -> Tensor:
    top, left = ((side - wanted) // 2 for side, wanted in zip(frame.shape[1:], size, strict=True))
    return frame[:, top:top + size[0], left:left + size[1]].contiguous()


def write_cases(folder: Path, models: list[str], clips: dict[str, list[list[Tensor]]]) -> list[dict]:
    """Frames as files, and what is to be coded of them."""
    cases = []
    for number, (name, sizes) in enumerate(clips.items()):
        for place, frames in enumerate(sizes):
            large = place == len(PICTURE_SIZES)
            frames = frames[:LARGE_FRAMES] if large else frames
            file = folder / f"{name}-{place}.npy"
            np.save(file, torch.stack(frames).numpy())
            for model in models:
                # Each clip has one small size with all qualities; size l is slow, and has one clip.
                chosen = place == number % len(PICTURE_SIZES) or (large and number == 0)
                if chosen and (number == 0 and not large or not Path(model).is_absolute()):
                    cases += [{"model": model, "clip": name, "size": list(frames[0].shape[1:]), "quality": quality,
                               "frames": file.name}
                              for quality in ((LARGE_QUALITY,) if large else QUALITIES)]
    return cases


# ---- one process

def work(folder: Path, environment: str, what: str) -> None:
    """Of the process with this environment: codes all cases, or decodes all streams -> FOLDER/WHAT-…json."""
    torch.set_num_threads(1)
    works = {"encode": encode_all, "decode": decode_all, "floats": encode_floats, "drift": drift_of,
             "integers": by_integers}
    results = works[what](folder, environment)
    (folder / f"{what}-{environment}.json").write_text(json.dumps(results))


def encode_all(folder: Path, environment: str) -> list[dict]:
    found = []
    for number, case in enumerate(json.loads((folder / "cases.json").read_text())):
        frames = list(torch.from_numpy(np.load(folder / case["frames"])))
        for setting in CODED_UNDER:
            data, shown = encoded(load(case["model"]).exact_form(), frames, case["quality"], setting)
            name = f"{number}-{environment}-{setting.name}.dcvc".replace(" ", "_")
            (folder / name).write_bytes(data)
            found.append({"case": number, "environment": environment, "setting": setting.name, "file": name,
                          "shown": shown})
    return found


def decode_all(folder: Path, environment: str) -> list[dict]:
    found = []
    streams = json.loads((folder / "streams.json").read_text())
    for setting in SETTINGS:
        for stream in streams:
            codec, data = load(stream["model"]).exact_form(), (folder / stream["file"]).read_bytes()
            try:
                same = decoded(codec, data, setting) == stream["shown"]
            except Exception as error:  # whatever it is, the stream did not decode
                same = repr(error)
            found.append({"file": stream["file"], "setting": setting.name, "same": same})
    for batch in json.loads((folder / "batches.json").read_text()):
        data = [(folder / stream["file"]).read_bytes() for stream in batch]
        same = not differing_in_batch(load(batch[0]["model"]).exact_form(), data)
        found += [{"file": stream["file"], "setting": f"batch of {BATCH}", "same": same} for stream in batch]
    return found


def encode_floats(folder: Path, environment: str) -> list[dict]:
    """The same cases by streams that are not exact."""
    found = []
    for number, case in enumerate(json.loads((folder / "cases.json").read_text())):
        # No machine is told of the weights of a model that is drawn anew.
        if Path(case["model"]).is_absolute():
            continue
        name, frames = f"floats-{number}", list(torch.from_numpy(np.load(folder / case["frames"])))
        bits = write_float_stream(folder, name, load(case["model"]), frames, case["quality"])
        found.append({**case, "file": name, "bits": bits})
    return found


def drift_of(folder: Path, environment: str) -> list[dict]:
    return [drift_of_stream(folder, stream["file"], stream["bits"], load(stream["model"]))
            for stream in json.loads((folder / "floats.json").read_text())]


def by_integers(folder: Path, environment: str) -> list[dict]:
    """The decoder of NumPy's integers, which tests/codec and tests/helpers hold, on the smallest streams."""
    from hashlib import sha256

    from integer_decoder import IntegerDecoder

    found = []
    for stream in json.loads((folder / "streams.json").read_text()):
        size = tuple(stream["size"])
        if size != PICTURE_SIZES[0]:
            continue
        codec = load(stream["model"])
        ranges = read_ranges(codec.ranges, codec.inter_hash, codec.intra_hash)
        arrays = [{name: value.numpy() for name, value in part.state_dict().items()}
                  for part in (codec.p_frame, codec.intra)]
        decoder, digest = IntegerDecoder((arrays[0], ranges.p_frame), (arrays[1], ranges.intra)), sha256()
        with open(folder / stream["file"], "rb") as file:
            for record in StreamReader(file):
                digest.update(decoder.decode(record.kind, record.payload, size))
        found.append({"file": stream["file"], "setting": "NumPy int64",
                      "same": digest.hexdigest()[:16] == stream["shown"]})
    return found


# ---- all of them

def in_process(folder: Path, environment: str, what: str) -> list[dict]:
    variables = {**os.environ, "OMP_NUM_THREADS": "3", "PYTHONWARNINGS": "ignore", **ENVIRONMENTS.get(environment, {}),
                 "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "benchmarks", ROOT / "tests/codec",
                                                         ROOT / "tests/helpers")))}
    if "NUMBA_CPU_NAME" in variables:
        # Loops for that processor alone, not those that lie beside the files.
        variables["NUMBA_CACHE_DIR"] = str(folder / "loops")
    subprocess.run([sys.executable, __file__, str(folder), "--work", environment, what], check=True, env=variables)
    return json.loads((folder / f"{what}-{environment}.json").read_text())


def unlike(cases: list[dict], coded: list[dict], folder: Path) -> list[dict]:
    """Of each case the streams that are not the same bytes, with how many settings made each."""
    found: dict[tuple[int, bytes], dict] = {}
    for one in coded:
        key = one["case"], (folder / one["file"]).read_bytes()
        stream = found.setdefault(key, {**cases[one["case"]], **one, "coded_under": 0})
        stream["coded_under"] += 1
        assert stream["shown"] == one["shown"], f"{one}: the same stream, other pictures"
    return list(found.values())


def batches_of(streams: list[dict]) -> list[list[dict]]:
    """Streams of one model and size, side by side."""
    groups: dict[tuple, list[dict]] = {}
    for stream in streams:
        groups.setdefault((stream["model"], *stream["size"]), []).append(stream)
    return [group[at:at + BATCH] for group in groups.values() for at in range(0, len(group) - BATCH + 1, BATCH)]


def measure_drift(folder: Path, environments: list[str]) -> list[dict]:
    coded = in_process(folder, environments[0], "floats")
    (folder / "floats.json").write_text(json.dumps(coded))
    return [{"environment": environment, **drift_summary(in_process(folder, environment, "drift"))}
            for environment in environments]


def measure(folder: Path, clips: dict[str, list[list[Tensor]]], models: list[str],
            environments: list[str]) -> dict:
    cases = write_cases(folder, models, clips)
    (folder / "cases.json").write_text(json.dumps(cases))
    coded = [one for environment in environments for one in in_process(folder, environment, "encode")]
    streams = unlike(cases, coded, folder)
    (folder / "streams.json").write_text(json.dumps(streams))
    (folder / "batches.json").write_text(json.dumps(batches_of(streams)))
    rows, wrong = [], []
    for environment in [*environments, "any"]:
        found = in_process(folder, environment, "integers" if environment == "any" else "decode")
        for setting in dict.fromkeys(one["setting"] for one in found):
            of_it = [one for one in found if one["setting"] == setting]
            rows.append({"environment": environment, "setting": setting, "streams": len(of_it),
                         "differing": sum(one["same"] is not True for one in of_it)})
        wrong += [{"environment": environment, **one} for one in found if one["same"] is not True]
    return {"models": [Path(model).name for model in models], "cases": len(cases), "encodings": len(coded),
            "different_streams": len(streams), "combinations": sum(row["streams"] for row in rows),
            "differing": len(wrong), "first_differing": wrong[:20], "rows": rows,
            "drift": measure_drift(folder, environments)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path, help="a folder of videos")
    parser.add_argument("--most_clips", type=int)
    parser.add_argument("--environments", nargs="+", default=list(ENVIRONMENTS), choices=list(ENVIRONMENTS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", nargs=2, metavar=("ENVIRONMENT", "WHAT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.clips, *options.work)
        return
    paths = sorted(path for path in options.clips.iterdir() if path.suffix in (".mp4", ".mkv"))
    with tempfile.TemporaryDirectory() as name:
        folder, clips = Path(name), clips_of(paths, options.most_clips)
        write_large_model(folder / "light-l", next(iter(clips.values()))[0])
        models = ["light-m", "light-s", str(folder / "light-l")]
        found = measure(folder, clips, models, options.environments)
    command = "python benchmarks/exact_settings.py " + " ".join(sys.argv[1:])
    record = {"command": command, "versions": versions(), "environments": ENVIRONMENTS, **found}
    write_text(options.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
