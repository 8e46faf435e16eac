"""Tiny clips, and the flags that train the tiny model on them within a second."""

from pathlib import Path

import pytest

from dcvc.commands.arguments import ArgumentParser
from dcvc.commands.train import add_arguments, job_from
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.weights import read_checkpoint, weights_hash


@pytest.fixture(scope="session")
def small_videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small_videos")
    write_synthetic_clips(folder / "train", count=4, frames=6, size=(96, 64), seed=3)
    write_synthetic_clips(folder / "val", count=3, frames=3, size=(96, 64), seed=4)
    return folder


@pytest.fixture(scope="session")
def small_flags(small_videos):
    """(run folder, more flags…) -> the command line after `dcvc train`."""
    def make(run: Path, *more: str) -> list[str]:
        return ["--train_video_dir", str(small_videos / "train"), "--val_video_dir", str(small_videos / "val"),
                "--i_frame_model_name", "bmshj2018-factorized", "--i_frame_quality", "1", "--no-i_frame_pretrained",
                "--crop_size", "64", "--batch_size", "2", "--num_workers", "0", "--device", "cpu", "--quiet",
                "--checkpoint_dir", str(run), *more]

    return make


@pytest.fixture
def job(small_flags, tmp_path):
    """Stage 4 in tmp_path/run with more flags."""
    def make(*more: str, run: str = "run"):
        parser = ArgumentParser()
        add_arguments(parser)
        return job_from(parser.parse_args([
            "--use_video_dataset", "--stage", "4", "--model_size", "tiny", "--skip_eval", "--epochs", "9",
            *small_flags(tmp_path / run, *more)]))

    return make


@pytest.fixture
def model_hash():
    """A checkpoint's path -> the hash of its weights."""
    return lambda path: weights_hash(read_checkpoint(path)["model"])
