"""Terms that a stage adds to its distortion: their gradients, the discriminator's bounded share, runs and refusals."""

import json
import math
import re
import shutil
from dataclasses import replace

import pytest
import torch

from dcvc.cli import main
from dcvc.evaluation.stsim import stsim
from dcvc.inter.light.recipes import RECIPES
from dcvc.training.adversary import AdversaryTraining, ConditionalAdversary
from dcvc.training.config import TrainConfig
from dcvc.training.interruption import SavePolicy
from dcvc.training.perception import Perception, flicker
from dcvc.weights import read_checkpoint, weights_hash

STAGE = RECIPES["perceptual-s"].stages[0]
# The recipe's own terms and those that follow a discriminator, which may be added to them.
ADVERSARIAL = {**STAGE.added, "adversary": 1e-3, "features": 1e-3}


def frames(seed: int) -> list[torch.Tensor]:
    """Two originals and what is shown of them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(2, 2, 3, 64, 72, generator=generator)
    x_hat = (x + 0.1 * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    return [x[0], x_hat[0], x[1], x_hat[1]]


def test_the_terms_reach_the_codec_as_if_they_were_in_its_graph():
    before, shown_before, x, decoded = frames(0)
    perception = Perception(replace(STAGE, added={"stsim": 0.5, "flicker": 2.0, "ycbcr": 1.5}), TrainConfig(), "cpu")
    scale = torch.tensor([3.0, 40.0])
    weight = torch.tensor(0.9, requires_grad=True)             # stands for the codec
    judgement = perception.judge(x, weight * decoded, (before, shown_before), scale)
    (2 * judgement.reach(weight * decoded)).backward()
    other = torch.tensor(0.9, requires_grad=True)
    ycbcr = Perception(replace(STAGE, added={"ycbcr": 1.0}), TrainConfig(), "cpu").measure(x, other * decoded, None)
    direct = (scale * (0.5 * (1 - stsim(x, other * decoded)) + 1.5 * ycbcr["ycbcr"]
                       + 2.0 * flicker(x, other * decoded, (before, shown_before)))).mean()
    (2 * direct).backward()
    torch.testing.assert_close(weight.grad, other.grad)
    torch.testing.assert_close(judgement.value, direct.detach())


def test_an_error_that_stays_on_its_object_does_not_flicker():
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    error = 0.1 * torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    moved = (x.roll((2, -4), (-2, -1)), (x + error).roll((2, -4), (-2, -1)))
    stays, anew = (flicker(moved[0], shown, (x, x + error)) for shown in (moved[1], moved[0]))
    # What is left is at the borders, where nothing was before.
    assert float(stays) < 0.25 * float(anew)


@pytest.mark.parametrize("weight", [1e-6, 1.0, 1e6])
def test_the_discriminator_has_its_share_of_the_gradient_and_no_more(weight):
    before, shown_before, x, decoded = frames(3)
    stage = replace(STAGE, added={"adversary": weight, "features": weight}, adversary_share=0.2, adversary_start=5)
    torch.manual_seed(4)
    perception = Perception(stage, TrainConfig(), "cpu")
    plain = Perception(replace(stage, added={}), TrainConfig(), "cpu")
    around = (before, shown_before), torch.tensor([5.0, 50.0])
    watched = perception.judge(x, decoded, *around)
    assert watched.gradient.abs().sum() == 0
    assert float(watched.terms["adversary_share"]) == 0
    perception.adversary.updates += 5
    judgement = perception.judge(x, decoded, *around)
    a = judgement.gradient.square().sum((1, 2, 3)).sqrt()
    # The stage's own metric, the squared error: its gradient by hand.
    d = (around[1][:, None, None, None] * 2 * (decoded - x) / x[0].numel() / 2).square().sum((1, 2, 3)).sqrt()
    shares = a / (a + d)
    assert float(judgement.terms["adversary_share"]) == pytest.approx(float(shares.mean()), rel=1e-4)
    assert float(shares.max()) <= 0.2 + 1e-6
    if weight == 1e6:
        assert shares.tolist() == pytest.approx([0.2, 0.2], rel=1e-5)
    if weight == 1e-6:
        assert 0 < float(shares.max()) < 0.01
    assert plain.judge(x, decoded, *around).gradient.abs().sum() == 0
    assert all(parameter.grad is None for parameter in perception.adversary.parameters())


class OneProcess:
    device, num_processes = torch.device("cpu"), 1


def test_the_discriminator_learns_to_tell_and_leaves_out_what_the_codec_leaves_out():
    torch.manual_seed(5)
    adversary = ConditionalAdversary()
    training = AdversaryTraining(OneProcess(), adversary, torch.optim.Adam(adversary.parameters(), fused=True))
    x = torch.rand(4, 3, 32, 32)
    seen = [(x, torch.nn.functional.avg_pool2d(x, 3, 1, 1), x.roll(1, 0))]
    losses = [float(training.learn(seen, 2e-3, torch.tensor(0.0))) for _ in range(60)]
    assert losses[0] > 0.9
    assert losses[-1] < 0.6
    kept = [parameter.clone() for parameter in adversary.parameters()]
    training.learn(seen, 2e-3, torch.tensor(1.0))
    training.learn([(x * torch.nan, x, x)], 2e-3, torch.tensor(0.0))
    assert all(torch.equal(one, other) for one, other in zip(kept, adversary.parameters(), strict=True))
    assert int(adversary.updates) == 60


@pytest.fixture(scope="module")
def words(small_flags, small_videos):
    def make(run, *more: str) -> list[str]:
        return ["train", "--recipe", "perceptual-s", "--train_video_dir", str(small_videos / "train"),
                "--val_video_dir", str(small_videos / "val"), "--crop_size", "64", "--num_workers", "0", "--device",
                "cpu", "--quiet", "--checkpoint_dir", str(run), "--set", "stage2.crop_size=64", "stage2.batch_size=1",
                "max_steps=3", "added=" + json.dumps(ADVERSARIAL), "adversary_start=1", "log_every=1",
                "eval_max_sequences=1", "eval_qualities=[40]", "keep_checkpoints=9", "gradient_accumulation_steps=2",
                *more]

    return make


def test_a_recipe_starts_from_the_box_is_judged_by_its_own_and_resumes_exactly(words, tmp_path, monkeypatch):
    monkeypatch.setattr(SavePolicy, "step_ends", lambda self: True)
    assert main(words(tmp_path / "whole")) == 0
    folder = tmp_path / "whole" / "stage2_gop5"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if row["kind"] == "train"]
    assert trained[0]["term_adversary_share"] == 0
    assert all(0 < row["term_adversary_share"] <= STAGE.adversary_share + 1e-6 for row in trained[1:])
    assert {"term_stsim", "term_flicker", "term_features", "term_adversary_loss"} <= set(trained[0])
    # The objective is lambda times the recipe's own distortion, and the rate.
    judged = json.loads((folder / "evaluation.json").read_text())
    means = judged["mean"]["P"]
    own = means["terms"]["metric"] + sum(STAGE.added[name] * means["terms"][name] for name in ("stsim", "flicker"))
    low, high = map(math.log, STAGE.lambdas)
    last = next(row for row in rows if row["kind"] == "val q40")
    assert last["loss"] == pytest.approx(math.exp(low + (high - low) * 40 / 63) * own + means["bpp"], rel=1e-4)
    assert read_checkpoint(folder / "best.pt")["progress"]["best"] == pytest.approx(judged["objective"])
    # From what was saved after two steps: the same codec and the same discriminator in the end.
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    folder, record = tmp_path / "cut" / "stage2_gop5", tmp_path / "cut" / "recipe.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "done": {}}))
    saved = {file: read_checkpoint(file) for file in folder.glob("latest*.pt")}
    for file, content in saved.items():
        file.rename(folder / "latest.pt") if content["progress"]["step"] == 2 else file.unlink()
    assert main(words(tmp_path / "cut")) == 0
    whole, cut = (read_checkpoint(tmp_path / run / "stage2_gop5" / "latest.pt") for run in ("whole", "cut"))
    for content in (whole, cut):
        assert content["progress"]["step"] == 3
    assert weights_hash(whole["model"]) == weights_hash(cut["model"])
    for name in ("adversary", "ema"):
        assert str(whole["training"][name]) == str(cut["training"][name])
    assert int(cut["training"]["adversary"]["updates"]) == 3


@pytest.mark.parametrize(("more", "message"), [
    (["added={\"stsin\": 1}"], "found 'stsin'.*did you mean 'stsim'"),
    (["added={\"stsim\": -1}"], "stsim: found -1, needed a weight"),
    (["added={\"stsim\": 1}", "cascaded=false"], "needed cascaded"),
    (["added={\"lpips\": 1}"], "found lpips without weights, needed --lpips_weights"),
    (["adversary_share=1.5"], "needed between 0 and 1"),
    (["lambdas=[0, 300]"], "lambdas: found .*needed two numbers above 0"),
])
def test_what_cannot_be_added_is_one_line(words, tmp_path, capsys, more, message):
    assert main(words(tmp_path / "run", *more)) == 1
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(message, told), told


def test_dcvc2021_needs_a_start(small_videos, tmp_path, capsys):
    assert main(["train", "--recipe", "perceptual-dcvc2021", "--train_video_dir", str(small_videos / "train"),
                 "--checkpoint_dir", str(tmp_path / "run")]) == 1
    assert "found no weights to start from, needed --load_pretrained MODEL" in capsys.readouterr().err
