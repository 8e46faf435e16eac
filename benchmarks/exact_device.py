"""Exact streams on another device: coded here and decoded there under many settings, and back.

    python benchmarks/exact_device.py write FOLDER --clips ../shared/clips/val
    python benchmarks/exact_device.py there FOLDER --device cuda --out FOLDER/there.json
    python benchmarks/exact_device.py check FOLDER FOLDER/there.json --out benchmarks/exact_device.json

The first step makes streams and frames here. FOLDER is carried to the other machine, which does the
second (benchmarks/gpu.sh OUT exact FOLDER); there.json comes back, and the third runs here again.

What is compared are the SHA-256 of all frames' bytes, with what the encoder says is shown. That
machine's own processor decodes all streams, too, with the torch that it has. Streams that are not
exact are decoded for their drift: whether their symbols are the same, and how far pictures are apart.
"""

import argparse
import base64
import contextlib
import functools
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from exact_settings import clips_of
from kit.exact_batches import differing_in_batch
from kit.exact_settings import SETTINGS, Setting, decoded, encoded
from kit.exact_streams import drawn_codec
from kit.float_streams import drift_of_stream, drift_summary, write_float_stream

from dcvc.bench.data import versions
from dcvc.checkpoint import load_codec
from dcvc.codec.video_codec import VideoCodec
from dcvc.files import write_text

MODELS, QUALITIES, FLOAT_QUALITY, BATCH = ("light-s", "light-m", "light-l"), (5.0, 30.0, 63.0), 40.0, 4
BOXED = MODELS[:2]


@contextlib.contextmanager
def changed(owner: object, name: str, value: object) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


# What may be changed in a process that computes on a GPU.
CONTEXTS: dict[str, Callable[[], contextlib.AbstractContextManager]] = {
    "as it is": contextlib.nullcontext,
    "no cuDNN": lambda: changed(torch.backends.cudnn, "enabled", False),
    "cuDNN tries all": lambda: changed(torch.backends.cudnn, "benchmark", True),
    "autocast bf16": lambda: torch.autocast("cuda", torch.bfloat16),
    "autocast fp16": lambda: torch.autocast("cuda", torch.float16),
}


class Folder:
    """What is carried: frames of each clip, and streams."""

    def __init__(self, path: Path, device: str = "cpu") -> None:
        self.path, self.device = path, device

    @functools.cache  # noqa: B019  (one folder a process)
    def codec(self, model: str, device: str | None = None) -> VideoCodec:
        device = device or self.device
        if model in BOXED:
            return load_codec(model, device)
        # The same weights on every machine; they need not be carried.
        drawn = drawn_codec("l")
        return VideoCodec(drawn.p_frame.to(device), drawn.intra.to(device), drawn.ranges)

    def frames(self, clip: str) -> list[torch.Tensor]:
        return list(torch.from_numpy(np.load(self.path / f"{clip}.npy")))

    def cases(self) -> list[dict]:
        return json.loads((self.path / "cases.json").read_text())

    def stream(self, case: dict) -> bytes:
        return base64.b64decode(case["data"])


def coded(folder: Folder, case: dict, frames: list[torch.Tensor]) -> dict:
    data, shown = encoded(folder.codec(case["model"]).exact_form(), frames, case["quality"], SETTINGS[1])
    return {**case, "data": base64.b64encode(data).decode(), "shown": shown}


# ---- here

def write(path: Path, clips: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    paths = sorted(file for file in clips.iterdir() if file.suffix in (".mp4", ".mkv"))
    folder, cases, floats = Folder(path), [], []
    found = clips_of(paths, 3)
    for name, sizes in found.items():
        # One that is no multiple of 16, and one that a CPU cuts into bands.
        for place in (1, 3):
            clip = f"{name}-{place}"
            np.save(path / f"{clip}.npy", torch.stack(sizes[place]).numpy())
            for model in MODELS if place == 1 else BOXED:
                qualities = QUALITIES if place == 1 else QUALITIES[1:2]
                cases += [{"model": model, "clip": clip, "quality": quality} for quality in qualities]
        floats += [write_floats(folder, model, f"{name}-1") for model in BOXED]
    cases = [coded(folder, case, folder.frames(case["clip"])) for case in cases]
    (path / "cases.json").write_text(json.dumps(cases))
    (path / "floats.json").write_text(json.dumps(floats))
    print(f"{len(cases)} exact streams, {len(floats)} others")


def write_floats(folder: Folder, model: str, clip: str) -> dict:
    name = f"floats-{model}-{clip}"
    bits = write_float_stream(folder.path, name, folder.codec(model), folder.frames(clip), FLOAT_QUALITY)
    return {"model": model, "file": name, "bits": bits}


def check(path: Path, answer: Path, out: Path) -> None:
    """Decodes here what was coded there, and writes the record."""
    folder, found = Folder(path), json.loads(answer.read_text())
    back = [outcome(lambda case=case: decoded(folder.codec(case["model"]).exact_form(), folder.stream(case),
                                              SETTINGS[1]) == case["shown"]) for case in found["coded"]]
    rows = [*found["rows"], row("coded there", "decoded here, 2 threads", back)]
    record = {"command": "python benchmarks/exact_device.py write, there, check", "machine": found["machine"],
              "versions_here": versions(), "combinations": sum(one["streams"] for one in rows),
              "differing": sum(one["differing"] for one in rows), "rows": rows,
              "same_streams_as_here": sum(one["data"] == mine["data"] for one, mine in
                                          zip(found["coded"], folder.cases(), strict=True)),
              "drift": found["drift"]}
    write_text(out, json.dumps(record, indent=1) + "\n")
    print(json.dumps({key: record[key] for key in ("combinations", "differing", "same_streams_as_here", "drift")}))


# ---- there

def outcome(same: Callable[[], bool]) -> str | bool:
    """Whether it was the same; an error in words, whatever it is: then it did not decode."""
    try:
        return same()
    except Exception as error:
        return repr(error)[:300]


def row(place: str, setting: str, found: list[str | bool]) -> dict:
    wrong = [one for one in found if one is not True]
    return {"place": place, "setting": setting, "streams": len(found), "differing": len(wrong),
            **({"first": str(wrong[0])} if wrong else {})}


def there(path: Path, device: str, out: Path) -> None:
    """Writes what it has after each row: the time on a lent machine may end."""
    folder, rows = Folder(path, device), []
    cases = folder.cases()
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    machine = {"device": name, "processor": platform.machine(), "cores": os.cpu_count(), "versions": versions()}
    found: dict = {"machine": machine, "rows": rows, "coded": [], "drift": None}

    def add(place: str, setting: str, outcomes: list[str | bool], begin: float) -> None:
        rows.append({**row(place, setting, outcomes), "seconds": round(time.perf_counter() - begin, 1)})
        print(rows[-1], flush=True)
        write_text(out, json.dumps(found))

    def decoded_under(place: str, setting: str, where: str, context: Callable = contextlib.nullcontext,
                      streams: list[dict] = cases, options: Setting = SETTINGS[1]) -> None:
        outcomes, begin = [], time.perf_counter()
        for case in streams:
            with context():
                outcomes.append(outcome(lambda case=case: decoded(
                    folder.codec(case["model"], where).exact_form(), folder.stream(case), options) == case["shown"]))
        add(place, setting, outcomes, begin)

    contexts = CONTEXTS if device == "cuda" else {"as it is": contextlib.nullcontext}
    for setting, context in contexts.items():
        decoded_under(device, setting, device, context)
    decoded_under(device, "contiguous", device, options=SETTINGS[3])
    # TensorFloat-32 in products.
    decoded_under(device, "precision medium", device, options=Setting(precision="medium"))
    begin = time.perf_counter()
    add(device, f"batch of {BATCH}", in_batches(folder, cases), begin)
    found["coded"] = [coded(folder, case, folder.frames(case["clip"])) for case in cases]
    decoded_under(device, "coded and decoded there", device, streams=found["coded"])
    found["drift"] = drift(folder)
    decoded_under("its processor", "2 threads", "cpu")


def in_batches(folder: Folder, cases: list[dict]) -> list[str | bool]:
    groups: dict[tuple, list[dict]] = {}
    for case in cases:
        groups.setdefault((case["model"], *folder.frames(case["clip"])[0].shape[1:]), []).append(case)
    batches = [group[at:at + BATCH] for group in groups.values() for at in range(0, len(group) - BATCH + 1, BATCH)]
    return [outcome(lambda batch=batch: differing_in_batch(
        folder.codec(batch[0]["model"]).exact_form(), [folder.stream(case) for case in batch]) == 0)
        for batch in batches for _ in batch]


def drift(folder: Folder) -> dict:
    """Of streams that are not exact."""
    streams = json.loads((folder.path / "floats.json").read_text())
    return drift_summary([drift_of_stream(folder.path, stream["file"], stream["bits"], folder.codec(stream["model"]))
                          for stream in streams])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    for name in ("write", "there", "check"):
        step = steps.add_parser(name)
        step.add_argument("folder", type=Path)
        if name == "write":
            step.add_argument("--clips", type=Path, required=True)
        else:
            step.add_argument("--out", type=Path, required=True)
        if name == "there":
            step.add_argument("--device", default="cuda")
        if name == "check":
            step.add_argument("answer", type=Path)
    options = parser.parse_args()
    if options.step == "write":
        write(options.folder, options.clips)
    elif options.step == "there":
        there(options.folder, options.device, options.out)
    else:
        check(options.folder, options.answer, options.out)


if __name__ == "__main__":
    main()
