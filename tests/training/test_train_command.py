"""train_dcvc.py as users call it: its flags, its refusals, its stages, its resumption, its processes."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dcvc.checkpoint import load_p_frame_model
from dcvc.commands.arguments import ArgumentParser
from dcvc.commands.train import add_arguments, job_from
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.errors import InputError, MissingError, ReadError
from dcvc.training.stage_setup import prepare_stage
from dcvc.training.trainer import train_stage
from dcvc.weights import read_checkpoint, weights_hash

ROOT = Path(__file__).resolve().parents[2]

FLAGS = """--use_video_dataset --no-use_video_dataset --train_video_dir --val_video_dir --vimeo_dir --septuplet_list
--bvi_aom_dir --hevc_b_dir --crop_size --batch_size --num_workers --sampling --i_frame_type --i_frame_model_name
--i_frame_quality --i_frame_pretrained --no-i_frame_pretrained --i_frame_checkpoint --vqgan_config --vqgan_checkpoint
--i_frame_size --weights --tile
--codec --stage --gop_size --epochs --max_steps --lambda_value --quality_index --learning_rate --force_learning_rate
--no-force_learning_rate --stage4_gop_opt --no-stage4_gop_opt --model_size --checkpoint_dir --resume --load_pretrained
--seed --mixed_precision --gradient_accumulation_steps --grad_clip_max_norm --use_ema --no-use_ema --ema_decay
--compile --no-compile --checkpoint_minutes --device --quiet --no-quiet --eval_freq --eval_max_frames
--eval_max_sequences --eval_intra_period --skip_eval --no-skip_eval --recipe --set --lambdas --dry_run --no-dry_run
--accept_changes --no-accept_changes --keep_checkpoints --max_skips --max_rollbacks --rollback_factor --log_every
--wandb --no-wandb --activation_checkpointing --no-activation_checkpointing --use_scheduler --no-use_scheduler
--scheduler_factor --scheduler_patience --scheduler_min_lr --stream_model
--small_videos --short_videos --lpips_weights --dists_weights --cache_dir --cache_gb""".split()


def parser() -> ArgumentParser:
    made = ArgumentParser(prog="train_dcvc.py")
    add_arguments(made)
    return made


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    write_synthetic_clips(folder / "train", count=4, frames=6, size=(96, 64), seed=3)
    write_synthetic_clips(folder / "val", count=1, frames=3, size=(96, 64), seed=4)
    return folder


def flags(videos: Path, run: Path, *more: str) -> list[str]:
    return ["--use_video_dataset", "--train_video_dir", str(videos / "train"), "--val_video_dir", str(videos / "val"),
            "--i_frame_model_name", "bmshj2018-factorized", "--i_frame_quality", "1", "--no-i_frame_pretrained",
            "--model_size", "tiny", "--crop_size", "64", "--batch_size", "2", "--num_workers", "0", "--device", "cpu",
            "--quiet", "--checkpoint_dir", str(run), *more]


def job(videos: Path, run: Path, *more: str):
    return job_from(parser().parse_args(flags(videos, run, *more)))


def test_flags_are_frozen():
    known = {option for option in parser()._option_string_actions if option.startswith("--")}
    assert known - {"--help"} == set(FLAGS)


def test_dashes_serve_as_underscores_and_near_misses_are_named(capsys):
    assert parser().parse_args(["--eval-max-frames", "4", "--no-i-frame-pretrained"]).eval_max_frames == 4
    with pytest.raises(SystemExit) as stopped:
        parser().parse_args(["--eval_max_frame", "4"])
    assert stopped.value.code == 2
    assert "did you mean '--eval_max_frames'" in capsys.readouterr().err


def test_stages_follow_each_other_and_never_overwrite(videos, tmp_path):
    run = tmp_path / "run"
    for number in ("1", "2", "3", "4"):
        outcome = train_stage(job(videos, run, "--stage", number, "--max_steps", "1", "--use_ema"))
        assert outcome.steps == 1
        assert outcome.best is not None
    for name in ("latest.pt", "best.pt", "ema.pt", "config.json", "metrics.jsonl", "evaluation.json"):
        assert (run / "stage4_gop2" / name).is_file(), name
    following = prepare_stage(job(videos, run, "--stage", "4", "--gop_size", "3"))
    assert following.start.path == run / "stage4_gop2" / "best.pt"
    motion = [read_checkpoint(run / f"stage{n}_gop2" / "best.pt")["model"]["mvEncoder.0.weight"] for n in (1, 2, 3, 4)]
    assert torch.equal(motion[0], motion[1])
    assert torch.equal(motion[1], motion[2])
    assert not torch.equal(motion[2], motion[3])
    with pytest.raises(InputError, match="already holds this stage's checkpoints; --resume continues"):
        train_stage(job(videos, run, "--stage", "4"))
    evaluation = json.loads((run / "stage4_gop2" / "evaluation.json").read_text())
    assert evaluation["rates"] == "estimate"
    assert set(evaluation["mean"]["P"]["bpp_terms"]) == {"mv_y", "mv_z", "y", "z"}
    assert load_p_frame_model(run).config.channels == 16
    settings = json.loads((run / "stage4_gop2" / "config.json").read_text())
    assert settings["stage"]["rate_terms"] == ["mv_y", "mv_z", "y", "z"]


@pytest.mark.parametrize("more", [(), ("--stage4_gop_opt", "--use_ema", "--use_scheduler",
                                       "--gradient_accumulation_steps", "2")])
def test_a_resumed_run_equals_a_whole_one(videos, tmp_path, more):
    common = ("--stage", "4", "--gop_size", "3", "--epochs", "9", "--skip_eval", *more)
    train_stage(job(videos, tmp_path / "whole", *common, "--max_steps", "4"))
    train_stage(job(videos, tmp_path / "cut", *common, "--max_steps", "2"))
    train_stage(job(videos, tmp_path / "cut", *common, "--max_steps", "4", "--resume"))
    whole, cut = (read_checkpoint(tmp_path / run / "stage4_gop3" / "latest.pt") for run in ("whole", "cut"))
    assert weights_hash(whole["model"]) == weights_hash(cut["model"])
    state = [run["training"]["optimizer"]["state"] for run in (whole, cut)]
    assert all(torch.equal(state[0][k]["exp_avg"], state[1][k]["exp_avg"]) for k in state[0])


def test_bf16_trains_every_stage(videos, tmp_path):
    for number in ("1", "2", "3", "4"):
        outcome = train_stage(job(videos, tmp_path / "run", "--stage", number, "--max_steps", "1", "--mixed_precision",
                                  "bf16", "--use_scheduler"))
        assert math.isfinite(outcome.best)
    saved = read_checkpoint(tmp_path / "run" / "stage4_gop2" / "latest.pt")
    assert all(value.dtype == torch.float32 for value in saved["model"].values() if value.is_floating_point())


@pytest.mark.parametrize(("change", "error", "message"), [
    (("--train_video_dir", "nowhere"), MissingError, "nowhere"),
    (("--crop_size", "128"), InputError, "96x64.*128"),
    (("--gop_size", "9"), InputError, "found 6.*9"),
    (("--gop_size", "1"), InputError, "gop_size: found 1"),
    (("--i_frame_type", "vqgan"), InputError, "--vqgan_config: missing"),
    (("--resume",), MissingError, "--resume: no checkpoint"),
    (("--load_pretrained", "nowhere.pt"), MissingError, "nowhere.pt"),
    (("--mixed_precision", "fp16"), InputError, "fp16 on a CPU"),
    (("--lambda_value", "-1"), InputError, "--lambda_value"),
    (("--stage", "1", "--stage4_gop_opt"), InputError, "--stage4_gop_opt"),
    (("--no-use_video_dataset",), InputError, "--vimeo_dir: missing"),
])
def test_bad_input_is_one_clear_line(videos, tmp_path, change, error, message):
    with pytest.raises(error, match=message) as caught:
        train_stage(job(videos, tmp_path / "run", "--max_steps", "1", *change))
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "run").rglob("*.pt"))


def test_checkpoints_of_other_things_are_refused(videos, tmp_path):
    torch.save({"state_dict": {"encoder.weight": torch.zeros(3)}}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="other.pt"):
        load_p_frame_model(tmp_path / "other.pt")
    torch.save({"code": Path}, tmp_path / "code.pt")
    # Foreign objects are read as stand-ins, and nothing of them is executed.
    with pytest.raises(InputError, match=r"code.pt: found no tensors \(its keys: code\)"):
        load_p_frame_model(tmp_path / "code.pt")
    (tmp_path / "text.pt").write_text("no checkpoint")
    with pytest.raises(ReadError, match=r"text.pt"):
        load_p_frame_model(tmp_path / "text.pt")
    run = tmp_path / "run"
    train_stage(job(videos, run, "--stage", "1", "--max_steps", "1", "--skip_eval"))
    latest = run / "stage1_gop2" / "latest.pt"
    damaged = bytearray(latest.read_bytes())
    damaged[len(damaged) // 2] ^= 255
    latest.write_bytes(bytes(damaged))
    with pytest.raises(ReadError, match="damaged"):
        load_p_frame_model(run)


def test_two_processes_as_the_readme_says(videos, tmp_path):
    """accelerate launch --num_processes 2 on a CPU: every stage, frozen and unused parameters included."""
    for number in ("1", "2", "3", "4"):
        command = [str(Path(sys.executable).parent / "accelerate"), "launch", "--num_processes", "2", "train_dcvc.py",
                   *flags(videos, tmp_path / "run", "--stage", number, "--max_steps", "1", "--batch_size", "1")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("1 steps done") == 1
        settings = json.loads((tmp_path / "run" / f"stage{number}_gop2" / "config.json").read_text())
        assert settings["processes"] == 2


def test_errors_of_the_script_are_one_line(tmp_path):
    done = subprocess.run([sys.executable, "train_dcvc.py", "--use_video_dataset", "--train_video_dir", "nowhere",
                           "--skip_eval", "--checkpoint_dir", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "nowhere" in lines[0]
    assert "Traceback" not in done.stderr


def test_sampling_options_reach_the_data_set_and_are_checked(videos, tmp_path):
    chosen = ("--stage", "1", "--max_steps", "1", "--skip_eval", "--sampling", "crops_per_read=2", "rescale=[64,64]")
    stage = prepare_stage(job(videos, tmp_path / "run", *chosen))
    assert stage.sampler.crops_per_read == stage.dataset.options.crops_per_read == 2
    assert stage.dataset.options.rescale == (64, 64)
    train_stage(job(videos, tmp_path / "run", *chosen))
    with pytest.raises(InputError, match=r"data.sampling.crops_per_read: 2 there, 1 now"):
        train_stage(job(videos, tmp_path / "run", "--stage", "1", "--resume", "--skip_eval"))
    with pytest.raises(InputError, match=r"--sampling: unknown key 'strides'.*did you mean 'stride'"):
        job(videos, tmp_path / "other", "--sampling", "strides=2")
    # Flags of their own, and the same options by their keys.
    for words in (("--small_videos", "skip", "--short_videos", "skip"),
                  ("--sampling", "small_videos=skip", "short_videos=skip")):
        sampling = job(videos, tmp_path / "other", *words).data.sampling
        assert (sampling.small_videos, sampling.short_videos) == ("skip", "skip")
    with pytest.raises(InputError, match="--small_videos skip leaves them out"):
        prepare_stage(job(videos, tmp_path / "other", "--stage", "1", "--crop_size", "128"))
    with pytest.raises(InputError, match="--sampling: found with image sequences"):
        train_stage(job(videos, tmp_path / "other", "--no-use_video_dataset", "--vimeo_dir", "x", "--septuplet_list",
                        "y", "--sampling", "stride=2"))


def test_tensorboard_holds_scalars_and_reconstructed_frames(videos, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = train_stage(job(videos, tmp_path / "run", "--stage", "4", "--max_steps", "2", "--log_every", "1")).folder
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()
    assert {"train/loss", "train/psnr", "train/bpp_y", "train/grad_norm", "val/psnr_p"} <= set(tags["scalars"])
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2]
    assert len(tags["images"]) == len(list((videos / "val").glob("*.mp4")))      # one of each sequence, up to three
    image = events.Images(tags["images"][0])[0]
    assert (image.width, image.height, image.step) == (3 * 96, 64, 2)


WANDB = '''
import json, pathlib
class Settings(dict):
    def update(self, values, allow_val_change=False): super().update(values)
config = Settings()
class Run:
    def __init__(self, **given): self.file = pathlib.Path(given["dir"]) / "rows.jsonl"; self.row(given)
    def row(self, values):
        with self.file.open("a") as file: file.write(json.dumps(values, default=str) + "\\n")
    def log(self, values, step=None, **kwargs): self.row({**values, "step": step})
    def finish(self): self.row({"finished": True})
class Image:
    def __init__(self, pixels): self.shape = pixels.shape
def init(**given): return Run(**given)
'''


def test_wandb_gets_what_tensorboard_gets(videos, tmp_path):
    """With a stand-in for the package that writes down what it is told."""
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "__init__.py").write_text(WANDB)
    words = flags(videos, tmp_path / "run", "--stage", "1", "--max_steps", "2", "--log_every", "1", "--wandb")
    done = subprocess.run([sys.executable, "-m", "dcvc.cli", "train", *words], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])})
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run" / "stage1_gop2"
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert rows[0] == {"project": "dcvc", "name": "stage1_gop2", "dir": str(folder)}
    assert [row["step"] for row in rows if "train/loss" in row] == [1, 2]
    assert any("val/psnr_p" in row for row in rows)
    assert rows[-1] == {"finished": True}
