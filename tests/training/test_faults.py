"""What may happen to a run: damaged checkpoints, full disks, changed settings and data."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dcvc.files
from dcvc.errors import InputError, ReadError
from dcvc.models.run_folder import keep_latest, only_run
from dcvc.report.figures import read_metrics
from dcvc.training.stage_setup import prepare_stage
from dcvc.training.trainer import train, train_stage
from dcvc.weights import read_checkpoint

ROOT = Path(__file__).resolve().parents[2]


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle:middle + 512] = bytes(byte ^ 255 for byte in data[middle:middle + 512])
    path.unlink()                                            # the older checkpoint may share its bytes
    path.write_bytes(bytes(data))


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(job, tmp_path, capsys, model_hash):
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


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EMLINK])
@pytest.mark.parametrize("keep", [2, 3])
def test_checkpoints_are_kept_on_a_disk_without_hard_links(tmp_path, monkeypatch, code, keep):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    for number in range(5):
        keep_latest(tmp_path, keep)
        (tmp_path / "latest.pt").write_text(str(number))
    names = ["latest.pt", "latest.1.pt", "latest.2.pt"][:keep]
    assert [(tmp_path / name).read_text() for name in names] == ["4", "3", "2"][:keep]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_is_one_clear_line(job, tmp_path, monkeypatch, code):
    train_stage(job("--max_steps", "2"))
    latest = tmp_path / "run" / "stage4_gop2" / "latest.pt"
    before = latest.read_bytes()

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    stage = prepare_stage(job("--max_steps", "4", "--resume"))
    monkeypatch.setattr(dcvc.files.os, "fsync", refuse)
    with pytest.raises(ReadError, match=os.strerror(code)) as caught:
        train(stage)
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
    code = ("import sys, time; from pathlib import Path; from dcvc.models.run_folder import only_run\n"
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


def test_rows_that_are_done_again_are_logged_once(job, tmp_path):
    folder = tmp_path / "run" / "stage4_gop2"
    train_stage(job("--max_steps", "2", "--log_every", "1"))
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"kind": "train", "step": 3}) + '\n{"kind": "tra')
    train_stage(job("--max_steps", "4", "--log_every", "1", "--resume"))
    assert [row["step"] for row in read_metrics(folder, "train")] == [1, 2, 3, 4]
