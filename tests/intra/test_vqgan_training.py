"""Training writes what the codec loads, resumes exactly, and lowers the error; priors go into the checkpoint."""

import dataclasses

import pytest
import torch

from dcvc.data.synthetic import write_synthetic_clips
from dcvc.errors import InputError, MissingError, TrainingError
from dcvc.intra import VQGANIFrameModel
from dcvc.intra.vqgan.config import VQGANConfig
from dcvc.intra.vqgan.prior_training import PriorTrainingConfig, train_prior
from dcvc.intra.vqgan.training import VQGANTrainer, VQGANTrainingConfig, train_vqgan

MODEL = VQGANConfig("EMAVQ", 32, 8, ch=32, ch_mult=(1, 1, 1), num_res_blocks=1, attn_resolutions=(), z_channels=16)
SHORT = VQGANTrainingConfig(MODEL, steps=6, batch_size=2, crop_size=32, save_every=3, log_every=2, quantize_from=2)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_synthetic_clips(folder, count=3, frames=4, size=(96, 64))
    return folder


def test_a_resumed_run_equals_a_whole_one(videos, tmp_path):
    whole = train_vqgan(SHORT, videos, tmp_path / "whole", device="cpu", quiet=True)
    trainer_config = dataclasses.replace(SHORT, save_every=3)
    with pytest.MonkeyPatch.context() as patch:
        original, calls = VQGANTrainer.step, []

        def stops_at_four(self, frames):
            calls.append(1)
            if len(calls) == 5:
                raise TrainingError("cut")
            return original(self, frames)

        patch.setattr(VQGANTrainer, "step", stops_at_four)
        with pytest.raises(TrainingError):
            train_vqgan(trainer_config, videos, tmp_path / "cut", device="cpu", quiet=True)
    with pytest.raises(InputError, match="already holds"):
        train_vqgan(SHORT, videos, tmp_path / "cut", device="cpu", quiet=True)
    again = train_vqgan(SHORT, videos, tmp_path / "cut", device="cpu", quiet=True, resume=True)
    a, b = (torch.load(run.checkpoint, weights_only=True)["model"] for run in (whole, again))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_prior_goes_into_the_checkpoint(videos, tmp_path):
    trained = train_vqgan(SHORT, videos, tmp_path / "run", device="cpu", quiet=True)
    output = tmp_path / "prior.pt"
    settings = PriorTrainingConfig(frames_per_video=4, steps=120, hidden=32, channels=8)
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


def test_error_falls_and_dead_codes_come_back():
    trainer = VQGANTrainer(dataclasses.replace(SHORT, steps=40, quantize_from=10), torch.device("cpu"))
    x = torch.nn.functional.interpolate(torch.rand(4, 3, 4, 4), size=(32, 32), mode="bilinear")
    numbers = [trainer.step(x) for _ in range(40)]
    assert numbers[-1]["psnr"] > numbers[0]["psnr"] + 3
    assert numbers[-1]["perplexity"] > 4


def test_bad_settings_and_folders(tmp_path):
    with pytest.raises(InputError, match="multiple of f = 4"):
        dataclasses.replace(SHORT, crop_size=30)
    with pytest.raises(InputError, match="to train"):
        VQGANTrainer(dataclasses.replace(SHORT, model=dataclasses.replace(MODEL, variant="VQModel")), "cpu")
    with pytest.raises(MissingError, match="--resume"):
        train_vqgan(SHORT, tmp_path, tmp_path / "none", resume=True)
    trainer = VQGANTrainer(SHORT, torch.device("cpu"))
    with pytest.raises(TrainingError, match="loss is nan"):
        trainer.step(torch.full((2, 3, 32, 32), torch.nan))
