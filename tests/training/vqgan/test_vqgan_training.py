"""Training writes what the codec loads, resumes exactly, and lowers the error; priors go into the checkpoint."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dcvc.cli import main
from dcvc.config import from_dict
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.errors import InputError, MissingError, TrainingError
from dcvc.evaluation.lpips import LPIPS
from dcvc.evaluation.stsim import stsim
from dcvc.files import save_tensors
from dcvc.intra import VQGANIFrameModel
from dcvc.intra.vqgan.config import VQGANConfig, config_to_values
from dcvc.intra.vqgan.model import VQGAN
from dcvc.training.config import SafetyOptions
from dcvc.training.divergence import DivergenceGuard
from dcvc.training.vqgan.codebook_trainer import CodebookTrainer
from dcvc.training.vqgan.config import PriorTrainingConfig, VQGANTrainingConfig
from dcvc.training.vqgan.losses import PerceptualLoss
from dcvc.training.vqgan.prior_trainer import draw_windows, split_maps, train_prior
from dcvc.training.vqgan.step import VQGANStep
from dcvc.training.vqgan.trainer import stored_config, train_vqgan
from dcvc.weights import read_checkpoint

ROOT = Path(__file__).resolve().parents[3]
MODEL = VQGANConfig("EMAVQ", 32, 8, ch=32, ch_mult=(1, 1, 1), num_res_blocks=1, attn_resolutions=(), z_channels=16)
SHORT = VQGANTrainingConfig(MODEL, steps=6, batch_size=2, crop_size=32, save_every=3, log_every=2, quantize_from=2)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_synthetic_clips(folder, count=3, frames=4, size=(96, 64))
    return folder


FULL = dataclasses.replace(SHORT, steps=8, perceptual="ms_ssim", gan_weight=0.1, gan_start=4)


@pytest.mark.parametrize("config", [SHORT, FULL], ids=["plain", "perceptual and adversary"])
def test_a_resumed_run_equals_a_whole_one(videos, tmp_path, config):
    whole = train_vqgan(config, videos, tmp_path / "whole", device="cpu", quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        original, calls = VQGANStep.run, []

        def stops_at_four(self, frames):
            calls.append(1)
            if len(calls) == 5:
                raise TrainingError("cut")
            return original(self, frames)

        patch.setattr(VQGANStep, "run", stops_at_four)
        with pytest.raises(TrainingError):
            train_vqgan(config, videos, tmp_path / "cut", device="cpu", quiet=True)
    with pytest.raises(InputError, match="already holds"):
        train_vqgan(config, videos, tmp_path / "cut", device="cpu", quiet=True)
    assert stored_config(tmp_path / "cut") == config
    again = train_vqgan(config, videos, tmp_path / "cut", device="cpu", quiet=True, resume=True)
    a, b = (read_checkpoint(run.checkpoint.with_name("latest.pt")) for run in (whole, again))
    assert _equal(a, b)
    assert (config.gan_weight > 0) == ("adversary" in a["training"])


def _equal(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_equal, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_the_run_folder_and_its_log(videos, tmp_path):
    trained = train_vqgan(FULL, videos, tmp_path, device="cpu", quiet=True)
    assert from_dict(VQGANTrainingConfig, json.loads((tmp_path / "config.json").read_text())) == FULL
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 6, 8]
    assert {"loss", "psnr", "perplexity", "codes_used", "lr"} <= rows[0].keys()
    assert ["adversary" in row for row in rows] == [False, False, True, True]
    assert 1 <= rows[-1]["perplexity"] <= rows[-1]["codes_used"] <= MODEL.n_embed
    assert list((tmp_path / "tensorboard").rglob("events*"))
    assert VQGANIFrameModel(trained.config, trained.checkpoint).codes == MODEL.n_embed


def test_a_signal_saves_and_ends_the_run(videos, tmp_path):
    class Terminated(VQGANStep):
        def run(self, frames):
            numbers = super().run(frames)
            if self.state.step == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            return numbers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dcvc.training.vqgan.trainer.VQGANStep", Terminated)
        with pytest.raises(TrainingError, match="stopped by SIGTERM after step 4 of 6; saved"):
            train_vqgan(SHORT, videos, tmp_path, device="cpu", quiet=True)
    assert read_checkpoint(tmp_path / "latest.pt")["step"] == 4


def test_resuming_from_the_command_line_keeps_the_settings(videos, tmp_path, capsys):
    flags = ["train-vqgan", "--checkpoint_dir", str(tmp_path), "--videos", str(videos), "--device", "cpu", "--quiet"]
    with open(tmp_path / "model.json", "w") as file:
        json.dump(config_to_values(MODEL), file)
    short = ["--steps", "4", "--batch_size", "2", "--crop_size", "32", "--log_every", "2", "--quantize_from", "2"]
    assert main([*flags, *short, "--vqgan_config", str(tmp_path / "model.json")]) == 0
    assert main([*flags, "--resume", "--steps", "6", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["steps"] == 6
    assert stored_config(tmp_path) == dataclasses.replace(SHORT, save_every=500)


def test_prior_goes_into_the_checkpoint(videos, tmp_path):
    trained = train_vqgan(SHORT, videos, tmp_path / "run", device="cpu", quiet=True)
    output = tmp_path / "prior.pt"
    settings = PriorTrainingConfig(frames_per_video=4, steps=120, hidden=32, channels=8, window=8)
    bits = train_prior(trained.config, trained.checkpoint, videos, output, settings, quiet=True)
    assert bits["prior"] < bits["uniform"] == 5
    plain, rated = (VQGANIFrameModel(trained.config, path) for path in (trained.checkpoint, output))
    assert (plain.rate_name, rated.rate_name) == ("uniform", "prior")
    x = torch.rand(1, 3, 64, 96)
    payload, x_hat = rated.compress(x)
    assert torch.equal(rated.decompress(payload), x_hat)
    assert torch.equal(plain.encode_indices(x), rated.encode_indices(x))
    with pytest.raises(InputError, match="exists already"):
        train_prior(trained.config, trained.checkpoint, videos, output, settings, quiet=True)


def test_prior_of_a_run_folder(videos, tmp_path, capsys):
    """`dcvc train-prior --vqgan RUN --videos D` needs no more; a file that stores its config needs no folder."""
    trained = train_vqgan(SHORT, videos, tmp_path, device="cpu", quiet=True)
    settings = ["--videos", str(videos), "--quiet", "--json", "--steps", "5", "--frames_per_video", "2",
                "--hidden", "16", "--window", "8"]
    assert main(["train-prior", "--vqgan", str(tmp_path), *settings]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["checkpoint"] == str(tmp_path / "vqgan_prior.pt")
    assert VQGANIFrameModel(trained.config, made["checkpoint"]).rate_name == "prior"
    output = tmp_path / "again.pt"
    assert main(["train-prior", "--vqgan", str(trained.checkpoint), *settings, "--output", str(output)]) == 0
    assert VQGANIFrameModel(trained.config, output).rate_name == "prior"


def test_videos_are_held_out_as_wholes():
    by_video = [[torch.full((1, 2, 2), video)] * 5 for video in range(20)]
    learn, judge = split_maps(by_video, 0.1)
    assert (len(learn), len(judge)) == (90, 10)
    assert not {int(one[0, 0, 0]) for one in learn} & {int(one[0, 0, 0]) for one in judge}
    learn, judge = split_maps(by_video[:2], 0.1)             # too few videos: single frames
    assert (len(learn), len(judge)) == (9, 1)
    assert split_maps([by_video[0][:1]], 0.1) == (by_video[0][:1], by_video[0][:1])


def test_windows_of_maps_of_different_sizes():
    maps = [torch.zeros(1, 12, 20), torch.ones(1, 45, 80), torch.full((1, 30, 6), 2)]
    shapes = {tuple(draw_windows(maps, PriorTrainingConfig(batch_size=3), step).shape) for step in range(80)}
    assert shapes == {(3, 1, 12, 20), (3, 1, 24, 24), (3, 1, 24, 6)}


def test_error_falls():
    step = VQGANStep(dataclasses.replace(SHORT, steps=40, quantize_from=10), torch.device("cpu"))
    x = torch.nn.functional.interpolate(torch.rand(4, 3, 4, 4), size=(32, 32), mode="bilinear")
    numbers = [step.run(x) for _ in range(40)]
    assert numbers[-1]["psnr"] > numbers[0]["psnr"] + 3
    assert numbers[-1]["perplexity"] > 4


@pytest.mark.parametrize("changes", [{}, {"variant": "RVQ", "levels": 2}, {"variant": "PQEMAVQ", "levels": 2}],
                         ids=["EMAVQ", "residual", "product"])
def test_dead_codes_are_started_anew(changes):
    """Codes far from every latent are never chosen; within some steps each is moved to where latents are."""
    config = dataclasses.replace(MODEL, **changes)
    books = CodebookTrainer(VQGAN(config), decay=0.9)
    tables = books.quantizer.tables()
    with torch.no_grad():
        for table in tables if config.variant == "PQEMAVQ" else tables[:1]:
            table[5:] = 1000.0 + torch.arange(len(table) - 5)[:, None]
    generator, z = torch.Generator().manual_seed(0), torch.randn(4, 8, 16, 16)
    for _ in range(40):
        codes = books.quantize(z, update=True, generator=generator)[2]
    assert float(books.quantizer.tables().abs().max()) < 20
    assert len(codes.unique()) > 20


def test_lpips_with_the_users_weights(videos, tmp_path):
    network = LPIPS("alex")
    state = {f"features.{key}": value for key, value in network.features.state_dict().items()}
    state |= {f"lin{number}.model.1.weight": torch.rand_like(head) for number, head in enumerate(network.heads)}
    torch.save(state, tmp_path / "alex.pt")
    weights = (str(tmp_path / "alex.pt"),)
    loss, x = PerceptualLoss("lpips", weights), torch.rand(2, 3, 64, 64)
    assert float(loss(x, x)) == 0
    singles = [loss.net(a, b) for a, b in zip(x.flip(0), x, strict=True)]
    assert float(loss(x.flip(0), x)) == pytest.approx(sum(singles) / 2, rel=1e-5)
    black = torch.zeros(2, 3, 64, 64, requires_grad=True)
    loss(black, x).backward()
    assert bool(torch.isfinite(black.grad).all())
    config = dataclasses.replace(SHORT, perceptual="lpips", lpips_weights=weights, steps=2)
    train_vqgan(config, videos, tmp_path / "run", device="cpu", quiet=True)
    assert stored_config(tmp_path / "run") == config
    with pytest.raises(InputError, match="lpips without weights, needed --lpips_weights"):
        PerceptualLoss("lpips")


def test_textures_are_a_perceptual_term_without_weights(videos, tmp_path):
    x = torch.rand(2, 3, 64, 64)
    loss = PerceptualLoss("stsim")
    assert abs(float(loss(x, x))) < 1e-6
    assert float(loss(x.flip(0), x)) == pytest.approx(1 - float(stsim(x, x.flip(0)).mean()), abs=1e-6)
    train_vqgan(dataclasses.replace(SHORT, perceptual="stsim", crop_size=64, steps=2), videos, tmp_path / "run",
                device="cpu", quiet=True)
    with pytest.raises(InputError, match="dists without weights, needed --dists_weights"):
        PerceptualLoss("dists")


def test_bad_settings_and_folders(videos, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="multiple of f = 4"):
        dataclasses.replace(SHORT, crop_size=30)
    with pytest.raises(InputError, match="to train"):
        VQGANStep(dataclasses.replace(SHORT, model=dataclasses.replace(MODEL, variant="VQModel")), "cpu")
    with pytest.raises(MissingError, match="--resume"):
        train_vqgan(SHORT, tmp_path, tmp_path / "none", resume=True)
    run = VQGANStep.run
    monkeypatch.setattr(VQGANStep, "run", lambda self, frames: run(self, torch.full((2, 3, 32, 32), torch.nan)))
    with pytest.raises(TrainingError, match="loss is nan at step 1 of VQGAN training; the batch's files: .*leaves_"):
        train_vqgan(SHORT, videos, tmp_path / "nan", device="cpu", quiet=True)


def poison(monkeypatch, steps):
    """Frames that are no numbers in these steps (0-based)."""
    run = VQGANStep.run
    monkeypatch.setattr(VQGANStep, "run", lambda self, frames: run(
        self, frames * torch.nan if self.state.step in steps else frames))


@pytest.mark.parametrize("bad", [1, 2], ids=["before codes come in", "when codes come in"])
def test_a_step_that_is_not_finite_leaves_weights_and_codebooks_alone(videos, tmp_path, monkeypatch, capsys, bad):
    poison(monkeypatch, {bad})
    config = dataclasses.replace(SHORT, max_skips=1, log_every=1)
    trained = train_vqgan(config, videos, tmp_path, device="cpu", quiet=True)
    assert f"loss is nan at step {bad + 1} of VQGAN training; the batch's files: " in capsys.readouterr().err
    saved = read_checkpoint(tmp_path / "latest.pt")
    assert tuple(saved["training"]["guard"]) == (1, 0, 0)
    assert all(torch.isfinite(value).all() for value in saved["model"].values())
    # Codes far from all latents are used by nobody; put on latents, most are.
    assert trained.numbers["codes_used"] > 4
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "train"] == [n for n in range(1, 7) if n != bad + 1]


def test_after_the_limit_a_vqgan_goes_back_with_a_lower_rate(videos, tmp_path, monkeypatch, capsys):
    steps, back = {3, 4}, DivergenceGuard.go_back

    def once(guard, message):
        back(guard, message)
        steps.clear()

    monkeypatch.setattr(DivergenceGuard, "go_back", once)
    poison(monkeypatch, steps)
    config = dataclasses.replace(SHORT, max_skips=1, max_rollbacks=1, log_every=1)
    train_vqgan(config, videos, tmp_path, device="cpu", quiet=True)
    assert "Going back to step 3 (latest.pt) with learning rate" in capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rates = {row["step"]: row["lr"] for row in rows if row["kind"] == "train"}
    undisturbed = VQGANStep(SHORT, torch.device("cpu"))
    for done in range(6):
        undisturbed.state.step = done
        assert rates[done + 1] == pytest.approx(undisturbed.learning_rate() * (0.5 if done >= 3 else 1))
    assert tuple(read_checkpoint(tmp_path / "latest.pt")["training"]["guard"]) == (2, 0, 1)


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(videos, tmp_path, capsys):
    whole = train_vqgan(SHORT, videos, tmp_path / "whole", device="cpu", quiet=True)
    train_vqgan(SHORT, videos, tmp_path / "cut", device="cpu", quiet=True)
    latest = tmp_path / "cut" / "latest.pt"
    assert read_checkpoint(latest.with_name("latest.1.pt"))["step"] == 3
    data = latest.read_bytes()
    latest.unlink()                                          # the older checkpoint may share its bytes
    latest.write_bytes(data[:len(data) // 2])
    assert stored_config(tmp_path / "cut") == SHORT
    train_vqgan(SHORT, videos, tmp_path / "cut", device="cpu", quiet=True, resume=True)
    assert "falling back to latest.1.pt" in capsys.readouterr().err
    assert latest.with_suffix(".damaged").is_file()
    assert _equal(read_checkpoint(whole.checkpoint.with_name("latest.pt")), read_checkpoint(latest))


def test_two_trainings_in_one_folder_are_refused(videos, tmp_path):
    code = ("import sys, time; from pathlib import Path; from dcvc.models.run_folder import only_run\n"
            "with only_run(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)")
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another process is training in this folder"):
            train_vqgan(SHORT, videos, tmp_path, device="cpu", quiet=True)
    finally:
        other.kill()
        other.wait()


def test_a_checkpoint_written_before_steps_were_counted_resumes(videos, tmp_path):
    """Its training table held the optimizer, the codes' counts and fewer settings."""
    whole = train_vqgan(SHORT, videos, tmp_path / "whole", device="cpu", quiet=True)
    train_vqgan(dataclasses.replace(SHORT, save_every=3), videos, tmp_path / "cut", device="cpu", quiet=True)
    latest = tmp_path / "cut" / "latest.pt"
    old = read_checkpoint(latest.with_name("latest.1.pt"))
    safety = {field.name for field in dataclasses.fields(SafetyOptions)}
    settings = {key: value for key, value in old["training"]["settings"].items() if key not in safety}
    save_tensors(latest, {**old, "training": {
        "optimizer": old["training"]["optimizer"], "counts": old["training"]["counts"], "settings": settings}})
    train_vqgan(SHORT, videos, tmp_path / "cut", device="cpu", quiet=True, resume=True)
    assert _equal(read_checkpoint(whole.checkpoint.with_name("latest.pt")), read_checkpoint(latest))
