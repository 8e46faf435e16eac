"""Two flags make any VQGAN the I-frame codec of a training; the training leaves it as it was."""

import pytest
import torch

from dcvc.commands.arguments import ArgumentParser
from dcvc.commands.train import add_arguments, job_from
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.training.stage_setup import prepare_stage
from dcvc.training.trainer import train
from dcvc.weights import read_checkpoint


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_synthetic_clips(folder, count=2, frames=3, size=(96, 64), seed=3)
    return folder


def _stage(videos, run, config, checkpoint):
    parser = ArgumentParser()
    add_arguments(parser)
    flags = ["--use_video_dataset", "--train_video_dir", str(videos), "--val_video_dir", str(videos), "--stage", "4",
             "--gop_size", "2", "--model_size", "tiny", "--crop_size", "64", "--batch_size", "2", "--max_steps", "1",
             "--num_workers", "0", "--device", "cpu", "--quiet", "--checkpoint_dir", str(run)]
    return prepare_stage(job_from(parser.parse_args(
        [*flags, "--i_frame_type", "vqgan", "--vqgan_config", str(config), "--vqgan_checkpoint", str(checkpoint)])))


@pytest.mark.parametrize("name", ["fork_vqgan_emavq_small.json", "fork_rvq_small.json", "vqmodel_small.yaml",
                                  "gumbelvq_small.yaml"])
def test_two_flags_train_on_a_users_vqgan(vectors, videos, tmp_path, name):
    config = vectors / "vqgan" / name
    checkpoint = config.with_suffix(".pt" if name.startswith("fork") else ".pth")
    stage = _stage(videos, tmp_path, config, checkpoint)
    before = {key: value.clone() for key, value in stage.step.intra.state_dict().items()}
    frozen = {id(parameter) for parameter in stage.step.intra.parameters()}
    outcome = train(stage)
    assert outcome.steps == 1
    assert outcome.evaluation["mean"]["I"]["bpp"] > 0
    assert not frozen & {id(p) for group in stage.step.optimizer.param_groups for p in group["params"]}
    assert not any(module.training for module in stage.step.intra.modules())
    assert all(torch.equal(value, before[key]) for key, value in stage.step.intra.state_dict().items())
    stored = read_checkpoint(outcome.folder / "latest.pt")
    assert not [key for key in stored["model"] if "quantize" in key or "intra" in key]
    assert stored["intra"]["vqgan_checkpoint"] == str(checkpoint.resolve())
