"""Pixels a second that one training step gets through: light-m beside DCVC-2021's last stage, and the share of reading.

    python benchmarks/light_training_speed.py runs/data/train360 --threads 2 --out benchmarks/light_training_speed.json

Each training has a process of its own; they take their steps in turn, on crops of the same prepared clips; medians
count. "light-m" is the recipe's first stage as it stands, in float32, "light-m bf16" the same with `--mixed_precision
bf16`: processors with AVX512_BF16 multiply numbers of 16 bits twice as fast. light-m trains its I-frames and P-frames,
so all pixels of a clip count; DCVC-2021, in float32, trains P-frames alone, so only theirs do, and its I-frames cost
nothing here. Then light-m trains from the loader as `dcvc train` has it, one worker: the share is the time that the
training waits for a batch.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import time
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader

from dcvc.bench.data import versions
from dcvc.data.config import DataConfig, SamplingOptions
from dcvc.data.factory import training_set
from dcvc.data.step_sampler import StepSampler, step_loader
from dcvc.files import write_text
from dcvc.inter.registry import build_p_frame, codec_entry
from dcvc.intra.light.config import SIZES as INTRA_SIZES
from dcvc.intra.light.model import LightIFrameModel
from dcvc.training.config import TrainConfig
from dcvc.training.dry_run import UncodedFrames
from dcvc.training.step import TrainingStep, prepare_step

ASKED_RATIO, ASKED_SHARE = 100, 0.15


def light_m(accelerator: Accelerator) -> TrainingStep:
    entry = codec_entry("light")
    intra = LightIFrameModel(INTRA_SIZES["m"], trainable=True)
    return prepare_step(accelerator, intra, build_p_frame(entry.size("m")), entry.recipes["light-m"].stages[0],
                        TrainConfig(use_ema=True))


def dcvc2021(accelerator: Accelerator) -> TrainingStep:
    entry = codec_entry("dcvc2021")
    return prepare_step(accelerator, UncodedFrames(), build_p_frame(entry.size("full")), entry.stages[4], TrainConfig())


def seconds(step: TrainingStep, clips: Tensor) -> float:
    begin = time.perf_counter()
    float(step.run([clips])["loss"])
    return time.perf_counter() - begin


def pixels(step: TrainingStep, clips: Tensor) -> int:
    """Of the frames that the step trains on."""
    batch, frames, _, height, width = clips.shape
    return batch * (frames - (not step.stage.intra)) * height * width


def batches(folder: str, step: TrainingStep, batch: int, count: int) -> DataLoader:
    """As `dcvc train` reads them, with one worker."""
    data = DataConfig(use_video_dataset=True, train_video_dir=(folder,), crop_size=160,
                      sampling=SamplingOptions(on_bad_video="skip"))
    dataset = training_set(data, step.stage.gop_size, seed=0)
    sampler = StepSampler(len(dataset), batch, 0, first_step=0, last_step=count)
    return step_loader(dataset, sampler, num_workers=1, pin_memory=False)


def waiting(loader: DataLoader, step: TrainingStep) -> dict[str, float]:
    """Of a training that reads as it goes: the share of its time that it waits for a batch."""
    waited, worked, batches = 0.0, 0.0, iter(loader)
    # The worker's start is no part of a training's hours.
    clips = next(batches)
    seconds(step, clips)
    while True:
        begin = time.perf_counter()
        clips = next(batches, None)
        waited += time.perf_counter() - begin
        if clips is None:
            return {"waiting_seconds": waited, "step_seconds": worked, "share": waited / (waited + worked)}
        worked += seconds(step, clips)


TRAININGS = {"light-m": (light_m, 6, "no"), "light-m bf16": (light_m, 6, "bf16"), "dcvc2021": (dcvc2021, 1, "no")}


def training(name: str, folder: str, threads: int, rounds: int, asked: Connection) -> None:
    """A process: a step and its pixels a second for each "step", the share of reading for "share"."""
    torch.set_num_threads(threads)
    make, batch, precision = TRAININGS[name]
    step = make(Accelerator(cpu=True, mixed_precision=precision))
    reader = iter(batches(folder, step, batch, rounds + 1))
    while (question := asked.recv()) != "end":
        if question == "share":
            asked.send(waiting(batches(folder, step, batch, 4 * rounds), step))
        else:
            clips = next(reader)
            asked.send(pixels(step, clips) / seconds(step, clips))


def ask(connection: Connection, question: str) -> float | dict[str, float]:
    connection.send(question)
    return connection.recv()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    context, connections = multiprocessing.get_context("spawn"), {}
    for name in TRAININGS:
        connections[name], theirs = context.Pipe()
        context.Process(target=training, args=(name, options.folder, options.threads, options.rounds, theirs)).start()
    speeds: dict[str, list[float]] = {name: [] for name in TRAININGS}
    for number in range(options.rounds + 1):
        for name in sorted(TRAININGS, reverse=number % 2 == 1):
            speed = ask(connections[name], "step")
            if number:                                      # the first warms up
                speeds[name].append(speed)
    middle = {name: statistics.median(values) for name, values in speeds.items()}
    share = ask(connections["light-m"], "share")
    for connection in connections.values():
        connection.send("end")
    ratios = {name: value / middle["dcvc2021"] for name, value in middle.items() if name != "dcvc2021"}
    record = {"command": f"python benchmarks/light_training_speed.py DIR --threads {options.threads} --rounds "
                         f"{options.rounds} --out benchmarks/light_training_speed.json",
              "threads": options.threads, "load_average": os.getloadavg()[0], "versions": versions(),
              "pixels_per_second": middle, "all": speeds, "ratios": ratios,
              "asked_ratio": ASKED_RATIO, "reading": share, "asked_share": ASKED_SHARE}
    write_text(options.out, json.dumps(record, indent=1) + "\n")
    print(json.dumps({"ratios": ratios, **middle, "reading": share}))


if __name__ == "__main__":
    main()
