"""What may happen to a run: damaged checkpoints, full disks, numbers that are not finite, changed data."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import dcvc.files
from dcvc.commands.arguments import ArgumentParser
from dcvc.commands.train import add_arguments, job_from
from dcvc.errors import InputError, ReadError, TrainingError
from dcvc.interfaces import FrameOutput
from dcvc.report.figures import read_metrics
from dcvc.run_folder import only_run
from dcvc.training.trainer import Trainer, train_stage
from dcvc.weights import read_checkpoint, weights_hash

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def job(small_flags, tmp_path):
    """Stage 4 in tmp_path/run with more flags."""
    def make(*more: str, run: str = "run"):
        parser = ArgumentParser()
        add_arguments(parser)
        return job_from(parser.parse_args(["--use_video_dataset", "--stage", "4", "--model_size", "tiny", "--skip_eval",
                                           "--epochs", "9", *small_flags(tmp_path / run, *more)]))

    return make


def model_hash(path: Path) -> str:
    return weights_hash(read_checkpoint(path)["model"])


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle:middle + 512] = bytes(byte ^ 255 for byte in data[middle:middle + 512])
    path.unlink()                                            # the older checkpoint may share its bytes
    path.write_bytes(bytes(data))


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(job, tmp_path, capsys):
    train_stage(job("--max_steps", "4", run="whole"))
    train_stage(job("--max_steps", "2"))
    train_stage(job("--max_steps", "3", "--resume"))
    folder = tmp_path / "run" / "stage4_gop2"
    assert [read_checkpoint(folder / name)["progress"]["step"] for name in ("latest.pt", "latest.1.pt")] == [3, 2]
    damage(folder / "latest.pt")
    outcome = train_stage(job("--max_steps", "4", "--resume"))
    assert outcome.steps == 4
    said = capsys.readouterr().err
    assert "latest.pt: damaged" in said
    assert "falling back to latest.1.pt" in said
    assert (folder / "latest.damaged").is_file()
    assert read_checkpoint(folder / "latest.1.pt")["progress"]["step"] == 2
    assert model_hash(folder / "latest.pt") == model_hash(tmp_path / "whole" / "stage4_gop2" / "latest.pt")
    for path in folder.glob("latest*.pt"):
        damage(path)
    with pytest.raises(ReadError, match=r"latest.pt: damaged"):
        train_stage(job("--max_steps", "5", "--resume"))


def test_as_many_checkpoints_are_kept_as_asked(job, tmp_path):
    train_stage(job("--max_steps", "4", "--keep_checkpoints", "3", "--checkpoint_minutes", "0"))
    folder = tmp_path / "run" / "stage4_gop2"
    assert sorted(path.name for path in folder.glob("latest*")) == ["latest.1.pt", "latest.2.pt", "latest.pt"]
    steps = [read_checkpoint(folder / name)["progress"]["step"] for name in ("latest.pt", "latest.1.pt", "latest.2.pt")]
    assert steps == [4, 3, 2]
    train_stage(job("--max_steps", "5", "--keep_checkpoints", "1", "--resume"))
    assert [path.name for path in folder.glob("latest*")] == ["latest.pt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_is_one_clear_line(job, tmp_path, monkeypatch, code):
    train_stage(job("--max_steps", "2"))
    latest = tmp_path / "run" / "stage4_gop2" / "latest.pt"
    before = latest.read_bytes()

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    trainer = Trainer(job("--max_steps", "4", "--resume"))
    monkeypatch.setattr(dcvc.files.os, "fsync", refuse)
    with pytest.raises(ReadError, match=os.strerror(code)) as caught:
        trainer.run()
    assert "\n" not in str(caught.value)
    assert latest.read_bytes() == before
    assert not list(latest.parent.glob(".*.tmp*"))


def test_a_disk_that_fills_while_logging_keeps_the_checkpoint(job, tmp_path):
    """A real limit on the size of files, in a process of its own."""
    train_stage(job("--max_steps", "2"))
    latest = tmp_path / "run" / "stage4_gop2" / "latest.pt"
    before = latest.read_bytes()
    words = ["train_dcvc.py", "--stage", "4", "--model_size", "tiny", "--skip_eval", "--epochs", "9", "--max_steps",
             "4", "--resume", "--use_video_dataset", "--train_video_dir", job().data.train_video_dir[0],
             "--val_video_dir", job().data.val_video_dir, "--i_frame_model_name", "bmshj2018-factorized",
             "--i_frame_quality", "1",
             "--no-i_frame_pretrained", "--crop_size", "64", "--batch_size", "2", "--num_workers", "0", "--quiet",
             "--device", "cpu", "--checkpoint_dir", str(tmp_path / "run")]
    code = (f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) // 2}, -1)); "
            f"sys.argv = {words!r}; runpy.run_path('train_dcvc.py', run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "latest.pt" in errors[0]
    assert "Traceback" not in done.stderr
    assert latest.read_bytes() == before


def poison(trainer: Trainer, monkeypatch, steps: set[int]) -> None:
    """Frames that are no numbers, in these steps (0-based)."""
    make = trainer.updates.step
    monkeypatch.setattr(trainer.intra, "forward", lambda x: FrameOutput(torch.zeros_like(x), {}))
    monkeypatch.setattr(trainer.updates, "step", lambda clips: make(
        [clip * float("nan") for clip in clips] if trainer.step in steps else clips))


def test_a_step_that_is_not_finite_is_left_out_and_counted(job, tmp_path, monkeypatch, capsys):
    trainer = Trainer(job("--max_steps", "3", "--max_skips", "2", "--log_every", "1", "--use_ema"))
    poison(trainer, monkeypatch, {1})
    start = {name: value.clone() for name, value in trainer.p_frame.state_dict().items()}
    outcome = trainer.run()
    assert outcome.skipped == 1
    said = capsys.readouterr().err
    assert "loss is nan at step 2 of stage4_gop2; the batch's files:" in said
    assert "leaves_3_" in said
    state = trainer.p_frame.state_dict()
    assert all(torch.isfinite(value).all() for value in state.values())
    assert any(not torch.equal(value, start[name]) for name, value in state.items())
    assert {float(entry["step"]) for entry in trainer.optimizer.state.values()} == {2.0}
    rows = read_metrics(tmp_path / "run" / "stage4_gop2", "train")
    assert rows[-1]["skipped"] == pytest.approx(1 / 3)
    assert {"grad_norm", "bpp_mv_y", "bpp_mv_z", "bpp_y", "bpp_z"} <= set(rows[0])


def test_a_skipped_step_leaves_every_weight_alone(job, monkeypatch):
    trainer = Trainer(job("--max_steps", "1", "--max_skips", "1"))
    poison(trainer, monkeypatch, {0})
    start = {name: value.clone() for name, value in trainer.p_frame.state_dict().items()}
    trainer.run()
    assert all(torch.equal(value, start[name]) for name, value in trainer.p_frame.state_dict().items())


def test_after_the_limit_it_goes_back_with_a_lower_rate(job, tmp_path, monkeypatch, capsys):
    trainer = Trainer(job("--max_steps", "6", "--max_skips", "1", "--max_rollbacks", "1", "--checkpoint_minutes", "0",
                          "--learning_rate", "0.001"))
    steps, back = {2, 3}, trainer._roll_back
    poison(trainer, monkeypatch, steps)

    def once(message):
        back(message)
        steps.clear()

    monkeypatch.setattr(trainer, "_roll_back", once)
    outcome = trainer.run()
    assert outcome.steps == 6
    assert outcome.skipped == 2
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.0005)
    assert "Going back to step 2 (latest.pt) with learning rate 0.0005 instead of 0.001" in capsys.readouterr().err
    saved = read_checkpoint(tmp_path / "run" / "stage4_gop2" / "latest.pt")
    assert tuple(saved["training"]["guard"]) == (2, 0, 1)


def test_when_the_limits_are_used_up_it_stops_and_names_the_files(job, tmp_path, monkeypatch):
    trainer = Trainer(job("--max_steps", "9", "--max_skips", "1", "--max_rollbacks", "1"))
    poison(trainer, monkeypatch, set(range(9)))
    with pytest.raises(TrainingError, match=r"loss is nan at step 2 of stage4_gop2; the batch's files: .*leaves_3_"):
        trainer.run()
    saved = read_checkpoint(tmp_path / "run" / "stage4_gop2" / "latest.pt")
    assert saved["progress"]["step"] == 0


def test_other_settings_are_refused_unless_told(job):
    train_stage(job("--max_steps", "1"))
    with pytest.raises(InputError, match=r"train.lambda_value: 2048.0 there, 99.0 now.*--accept_changes"):
        train_stage(job("--max_steps", "2", "--resume", "--lambda_value", "99"))
    assert train_stage(job("--max_steps", "2", "--resume", "--lambda_value", "99", "--accept_changes")).steps == 2


def test_changed_data_is_warned_of_with_counts(small_videos, tmp_path, job, capsys):
    moved = tmp_path / "videos"
    shutil.copytree(small_videos / "train", moved)
    train_stage(job("--max_steps", "1", "--train_video_dir", str(moved)))
    sorted(moved.glob("*.mp4"))[0].unlink()
    train_stage(job("--max_steps", "2", "--resume", "--train_video_dir", str(moved)))
    said = capsys.readouterr().err
    assert "the train data changed since the last run: 4 videos, 24 frames then, 3 videos, 18 frames now" in said


def test_resuming_from_another_file_is_one_clear_line(job, tmp_path):
    (tmp_path / "notes.txt").write_text("no checkpoint")
    with pytest.raises(ReadError, match=r"notes.txt: not a"):
        train_stage(job("--resume", str(tmp_path / "notes.txt")))
    train_stage(job("--max_steps", "1", "--use_ema"))
    with pytest.raises(InputError, match=r"ema.pt: holds weights without the optimizer's state"):
        train_stage(job("--resume", str(tmp_path / "run" / "stage4_gop2" / "ema.pt")))


def test_two_runs_in_one_folder_are_refused(job, tmp_path):
    folder = tmp_path / "run" / "stage4_gop2"
    code = ("import sys, time; from pathlib import Path; from dcvc.run_folder import only_run\n"
            "with only_run(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)")
    other = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another process is training in this folder"), only_run(folder):
            pass
    finally:
        other.kill()
        other.wait()
    with only_run(folder):
        pass


def test_sigterm_saves_and_the_rest_is_the_same(job, tmp_path):
    train_stage(job("--max_steps", "8", run="whole"))
    trainer = Trainer(job("--max_steps", "8"))
    once = trainer.updates.step

    def step(clips):
        if trainer.step == 2:
            threading.Timer(0, os.kill, (os.getpid(), signal.SIGTERM)).start()
        return once(clips)

    trainer.updates.step = step
    with pytest.raises(TrainingError, match=r"stopped by SIGTERM after step \d of 8; saved, --resume continues"):
        trainer.run()
    train_stage(job("--max_steps", "8", "--resume"))
    whole, cut = (tmp_path / run / "stage4_gop2" / "latest.pt" for run in ("whole", "run"))
    assert model_hash(whole) == model_hash(cut)


def test_a_killed_validation_is_done_again(job, tmp_path, monkeypatch):
    """Killed between the last step and the end of its validation: nothing is trained again, best.pt is written."""
    import dcvc.training.trainer

    flags = ("--max_steps", "2", "--no-skip_eval", "--eval_max_frames", "2")
    train_stage(job(*flags, run="whole"))
    trainer = Trainer(job(*flags))

    class Killed(BaseException):
        pass

    class Validation:
        def __init__(self, *_):
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(dcvc.training.trainer, "Validation", Validation)
        with pytest.raises(Killed):
            trainer.run()
    folder = tmp_path / "run" / "stage4_gop2"
    assert not (folder / "best.pt").exists()
    assert read_checkpoint(folder / "latest.pt")["progress"] == {
        "stage": 4, "gop": 2, "step": 2, "steps": 2, "best": None, "finished": False}
    train_stage(job(*flags, "--resume"))
    assert model_hash(folder / "best.pt") == model_hash(tmp_path / "whole" / "stage4_gop2" / "best.pt")
    assert read_checkpoint(folder / "latest.pt")["progress"]["finished"] is True


def test_rows_that_are_done_again_are_logged_once(job, tmp_path):
    folder = tmp_path / "run" / "stage4_gop2"
    train_stage(job("--max_steps", "2", "--log_every", "1"))
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"kind": "train", "step": 3}) + '\n{"kind": "tra')
    train_stage(job("--max_steps", "4", "--log_every", "1", "--resume"))
    assert [row["step"] for row in read_metrics(folder, "train")] == [1, 2, 3, 4]
