"""`dcvc tune`: a model and some videos -> the model tuned on them, if that helps, and a report.

    1  clips      what is trained on, what is judged by (tuning_clips.py)
    2  before     the model as it is, and x264 and x265, on what is judged
    3  training   two stages: short GOPs, then longer ones at a falling rate
    4  after      the tuned model on the same frames
    5  the model that needs fewer bits goes into FOLDER, with a report

The time for training is what steps 2 and 4 leave of `minutes`. How many steps that makes is found
by doing some: a few of the first stage tell its number, all of the first stage that of the second.
Everything is kept in FOLDER as it is finished, so the same command goes on after a kill.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dcvc.checkpoint import load_codec, load_p_frame_checkpoint, save_pretrained
from dcvc.data.config import DataConfig, SamplingOptions
from dcvc.data.eval_sequences import EvalSequence, open_sequences
from dcvc.errors import InputError, TrainingError
from dcvc.evaluation.anchors import compare
from dcvc.evaluation.measured_codec import MeasuredCodec
from dcvc.evaluation.run import evaluate_codecs
from dcvc.files import write_text
from dcvc.inter.registry import codec_entry
from dcvc.intra.light.config import NAME as LIGHT
from dcvc.intra.scene import NAME as SCENE
from dcvc.models.catalog import CARD, MODEL_FILE
from dcvc.models.run_folder import find_checkpoint, kept_checkpoints, only_run
from dcvc.report import write_report
from dcvc.report.results import read_results, write_results
from dcvc.schedule import Stage
from dcvc.training import tuning_clips as clips
from dcvc.training.config import TrainConfig
from dcvc.training.job import Job
from dcvc.training.trainer import train_stage
from dcvc.training.tuning_scenes import with_scenes
from dcvc.training.tuning_summary import Summary, summarise
from dcvc.video.places import absolute
from dcvc.video.reader import VideoReader

QUALITIES, METRICS = (10.0, 24.0, 38.0, 52.0), ("psnr", "psnr_yuv")
# From finer than a codec of many rates to coarser: curves are compared where their qualities meet.
ANCHORS = {"x264": (20, 26, 32, 38, 44, 50), "x265": (22, 28, 34, 40, 46, 51)}
# Coding at four qualities, before and after, may take a fifth of the time on two CPU cores.
JUDGED_PIXELS_A_MINUTE = 2.3e6
CROP = 160
# Of the time for training, so much for the first stage.
FIRST_SHARE = 0.5
# Steps of the first stage that tell how long one takes; the first of them start processes.
PROBE, WARM_UP = 12, 3
RECORD = "tune.json"


@dataclass(frozen=True)
class Tune:
    """videos: folders, files or lists. model: by name, run folder or file. folder: for everything
    that is written. minutes: for everything. judged: videos to judge by; None: some of `videos`."""

    videos: tuple[str, ...]
    model: str
    folder: Path
    minutes: float = 10.0
    intra_period: int = 32
    seed: int = 0
    device: str = "auto"
    quiet: bool = False
    judged: str | None = None
    progress: Callable[[int, int, str], None] | None = None

    def __post_init__(self) -> None:
        if not self.minutes > 0:
            raise InputError(f"--minutes: found {self.minutes}, needed above 0")

    @property
    def settings(self) -> dict[str, Any]:
        videos = [absolute(video) for video in self.videos]
        return {"videos": videos, "judged": self.judged and absolute(self.judged),
                "model": self.model, "minutes": self.minutes, "intra_period": self.intra_period,
                "seed": self.seed}

    @property
    def start(self) -> Path:
        """The file of the model that is tuned."""
        return find_checkpoint(Path(self.model))

    @property
    def training(self) -> Path:
        # Not beside the model: a folder with stages in it stands for the last of them.
        return self.folder / "training"

    def tell(self, text: str) -> None:
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)


class _Record:
    """FOLDER/tune.json: the settings, and the numbers of steps that were found."""

    def __init__(self, tune: Tune) -> None:
        self.path, self.content = tune.folder / RECORD, {"settings": tune.settings, "steps": {}}
        if self.path.exists():
            self.content = json.loads(self.path.read_text(encoding="utf-8"))
            _refuse_other_settings(self.content["settings"], tune)

    def steps(self, name: str, find: Callable[[], int]) -> int:
        """The number under this name; found and kept where it is new."""
        if name not in self.content["steps"]:
            self.content["steps"][name] = find()
            self.write()
        return self.content["steps"][name]

    def write(self, **more: Any) -> None:
        self.content |= more
        write_text(self.path, json.dumps(self.content, indent=1) + "\n")


def _refuse_other_settings(found: dict[str, Any], tune: Tune) -> None:
    for name, value in tune.settings.items():
        if found.get(name) != value:
            raise InputError(f"{tune.folder}: holds a tuning with {name} {found.get(name)}, found "
                             f"{value}; give the same to go on, or another --output")


def run_tune(tune: Tune) -> Summary:
    """Raises InputError for videos that do not serve, for a folder of something else, and for a
    model that has one rate; what training raises. The same call goes on."""
    started, folder = time.monotonic(), tune.folder
    # What may be refused comes before the first file is written.
    trained, held_out = clips.split(tune.videos, tune.judged)
    _check_model(tune)
    if folder.exists() and any(folder.iterdir()) and not (folder / RECORD).exists():
        raise InputError(f"{folder}: found a folder with other files, needed an empty or new one; "
                         "choose another --output")
    with only_run(folder):
        record = _Record(tune)
        # Before the clips: a folder with a record is one that may go on.
        record.write()
        judged = _write_clips(tune, trained, held_out)
        _judge_anchors(tune, judged)
        # The model as it is was never measured on this machine: its own time tells what coding costs.
        begun = time.monotonic()
        before = _judge(tune, judged, tune.start, "before")
        # Judging the result will take as long again, and the report some seconds.
        reserve = 1.1 * (time.monotonic() - begun) + 3
        _train(tune, record, started + 60 * tune.minutes - reserve)
        tuned = _tuned_model(tune)
        after = _judge(tune, judged, tuned, "after")
        return _finish(tune, record, before, after, tuned)


def _check_model(tune: Tune) -> None:
    checkpoint = load_p_frame_checkpoint(tune.start)
    # The I-frame codec learns too, and lies in the tuned model's file.
    i_frames = checkpoint.intra.type if checkpoint.intra else "none"
    if checkpoint.model.rates is None or i_frames not in (LIGHT, SCENE):
        raise InputError(f"--model {tune.model}: found a P-frame codec {checkpoint.model.name} with "
                         f"I-frames by {i_frames}, needed both of many rates "
                         "(light)")


def _write_clips(tune: Tune, trained: list[clips.Part], held_out: list[clips.Part]
                 ) -> list[EvalSequence]:
    """Clips of both kinds as files; what is judged by as sequences."""
    to_train = clips.training_clips(trained, tune.folder / "clips" / "train")
    to_judge = clips.judged_clips(held_out, tune.folder / "clips" / "held_out",
                                  JUDGED_PIXELS_A_MINUTE * tune.minutes)
    # Counted before they are written: writing takes a while, and one wants to know of what.
    frames = sum(len(clip.part) for clip in to_train)
    tune.tell(f"1/4 clips: {frames} frames to train on, {sum(len(c.part) for c in to_judge)} held "
              f"out of {len({c.part.path for c in to_judge})} video(s) to judge by")
    clips.write_clips([*to_train, *to_judge])
    return [sequence for clip in to_judge for sequence in open_sequences(clip.file)]


def _judge_anchors(tune: Tune, judged: list[EvalSequence]) -> None:
    file = tune.folder / "anchors.json"
    # Anchors do not change with the model: a tuning that goes on has them.
    if not file.exists():
        tune.tell("2/4 x264 and x265 on what is held out, then the model as it is")
        write_results(file, compare(judged, ANCHORS, tune.folder / "anchors_frames",
                                    intra_period=tune.intra_period, command="dcvc tune",
                                    metrics=METRICS, progress=tune.progress))


def _judge(tune: Tune, judged: list[EvalSequence], model: Path, when: str) -> dict[str, Any]:
    """The results of a model at QUALITIES, from FOLDER/before.json or after.json where it is there.

    Streams are written and their bytes counted. They are not decoded again: that takes as long, and
    says nothing that the tests of this package do not say. They are streams in floats: exact ones cost
    both models alike, and more time. MS-SSIM, which takes longer than all else that is measured, is left
    out: the time is better spent on training."""
    file = tune.folder / f"{when}.json"
    if not file.exists():
        # Two curves on one page need two names.
        label = _label(tune) + " tuned" * (when == "after")
        codecs = [MeasuredCodec(label=label, setting=f"q{quality:g}", model=str(model),
                                intra_period=tune.intra_period, quality=quality, decode=False,
                                exact=False, metrics=METRICS)
                  for quality in QUALITIES]
        write_results(file, evaluate_codecs(codecs, judged, tune.folder / f"{when}_frames", load_codec,
                                            command="dcvc tune", progress=tune.progress))
    return read_results(file)


def _label(tune: Tune) -> str:
    return Path(tune.model).name


def _train(tune: Tune, record: _Record, until: float) -> None:
    """Both stages; `until` is when training should end, by the monotonic clock."""
    # Judged already: training on would change what the numbers are about.
    if (tune.folder / "after.json").exists():
        return
    tune.tell("3/4 training")
    # Short clips first, as in the recipes: most is learned from them in the least time.
    first, second = _stages(tune)
    if not record.content["steps"]:
        # A few steps of the real training: what they learned is not lost.
        _train_stage(tune, replace(first, max_steps=PROBE), quiet=True)
    pace = _seconds_a_step(tune.training / first.label)
    steps = record.steps(first.label, lambda: _steps(FIRST_SHARE * (until - time.monotonic()), pace))
    _train_stage(tune, replace(first, max_steps=steps))
    # A step of either stage has as many frames, so the first one's pace is that of the second.
    pace = _seconds_a_step(tune.training / first.label)
    steps = record.steps(second.label, lambda: _steps(until - time.monotonic(), pace))
    _train_stage(tune, replace(second, max_steps=steps), start=tune.training / first.label / "ema.pt")


def _steps(seconds: float, pace: float) -> int:
    return max(PROBE + 1, int(seconds / pace))


def _stages(tune: Tune) -> tuple[Stage, Stage]:
    """Of about 18 frames a step: six clips of 3, then three of 5."""
    checkpoint = load_p_frame_checkpoint(tune.start)
    # Half of the samples have the quality steps that an encoder gives, for it is judged with them.
    together = codec_entry(checkpoint.model.name).stages[1]
    first = replace(together, number=1, gop_size=3, batch_size=6, epochs=None, max_steps=PROBE,
                    learning_rate=2e-4, final_rate=0.6, warm_up=0.2, stepped=0.5)
    return first, replace(first, number=2, gop_size=5, batch_size=3, learning_rate=1.2e-4,
                          final_rate=0.05, warm_up=0.1)


def _train_stage(tune: Tune, stage: Stage, start: Path | None = None, quiet: bool = False) -> None:
    """One stage from the model, or from `start`; goes on where it was stopped."""
    # A stage that was begun goes on from its own checkpoints.
    resume = "auto" if kept_checkpoints(tune.training / stage.label) else None
    weights = start or tune.start
    checkpoint = load_p_frame_checkpoint(weights)
    # Of a model that has been tuned before, what learns is the codec below its pictures.
    intra = replace(checkpoint.intra, type=LIGHT)
    folder = tune.folder / "clips" / "train"
    # A crop has to fit into the smallest of the clips, in whole patches of the latent.
    smallest = min(min(VideoReader(file).size) for file in sorted(folder.glob("*.mp4")))
    data = DataConfig(use_video_dataset=True, train_video_dir=(str(folder),),
                      crop_size=min(CROP, smallest // 16 * 16), num_workers=1,
                      sampling=SamplingOptions(sampling="frames", ping_pong=True))
    # No validation inside: what decides is judged at the end, at equal rates.
    train = TrainConfig(seed=tune.seed, skip_eval=True, use_ema=True, ema_decay=0.99, max_skips=10,
                        max_rollbacks=3, log_every=1)
    outcome = train_stage(Job(
        stage=stage, data=data, intra=intra, train=train,
        checkpoint_dir=tune.training, inter=checkpoint.model.config,
        resume=resume, load_pretrained=None if resume else str(weights), device=tune.device,
        quiet=quiet or tune.quiet, accept_changes=True, how_to_continue="the same command continues"))
    if outcome.stopped:
        raise TrainingError("stopped, saved; the same command continues")


def _seconds_a_step(folder: Path) -> float:
    """From the log of a stage: the mean over what was done in one go, the start-up left out."""
    lines = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    times = [line["time"] for line in lines if line["kind"] == "train"][WARM_UP:]
    gaps = sorted(later - earlier for earlier, later in zip(times, times[1:], strict=False))
    # The slowest are interruptions and checkpoints.
    kept = gaps[:max(1, len(gaps) * 9 // 10)]
    return max(sum(kept) / len(kept), 1e-3) * 1.05


def _tuned_model(tune: Tune) -> Path:
    """The averaged weights of the last stage as they would be kept, with pictures of the place."""
    folder = tune.folder / "tuned"
    if not (folder / CARD).exists():
        shutil.rmtree(folder, ignore_errors=True)
        stage = _stages(tune)[1]
        codec = load_codec(tune.training / stage.label / "ema.pt")
        save_pretrained(with_scenes(codec, tune.folder / "clips" / "train"), folder, half=True)
    return folder / MODEL_FILE


def _finish(tune: Tune, record: _Record, before: dict, after: dict, tuned: Path) -> Summary:
    """The better model into the folder, the page, the summary."""
    anchors = read_results(tune.folder / "anchors.json")
    # A light I-frame codec has none.
    pictures = getattr(load_codec(tuned).intra.config, "pictures", ())
    summary = summarise(before, after, anchors, pictures)
    # The folder always holds a model that is at least as good as the one that was given.
    kept = tuned if summary.better else tune.start
    # An earlier end may have left another one.
    for name in (MODEL_FILE, CARD):
        (tune.folder / name).unlink(missing_ok=True)
    save_pretrained(load_codec(kept), tune.folder, half=summary.better)
    files = [tune.folder / name for name in ("anchors.json", "before.json", "after.json")]
    tune.tell("4/4 report")
    page = write_report(files, tune.folder / "report.html", anchor="x264",
                        title=f"{_label(tune)} tuned on {' '.join(tune.videos)}")
    record.write(summary=summary.as_dict(), report=str(page))
    write_text(tune.folder / "summary.txt", summary.text)
    return summary
