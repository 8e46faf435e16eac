"""Fine-tuning of every layout: what it learns, what it leaves alone, what it writes."""

import dataclasses
import json

import pytest
import torch
from kit import vqgan_layouts

from dcvc.cli import main
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.errors import InputError, TrainingError
from dcvc.intra import VQGANIFrameModel
from dcvc.intra.vqgan import loading
from dcvc.intra.vqgan.config import VQGANConfig
from dcvc.intra.vqgan.model import VQGAN
from dcvc.training.vqgan.config import FINE_TUNING
from dcvc.training.vqgan.fine_tune import LeadingFrames, fine_tune, judged_frames, split
from dcvc.training.vqgan.quantizer_trainer import GradientQuantizer
from dcvc.training.vqgan.step import VQGANStep
from dcvc.weights import read_checkpoint

SHORT = dataclasses.replace(FINE_TUNING, steps=3, batch_size=2, crop_size=32, validate_every=3, prior_steps=0,
                            learning_rate=1e-3, log_every=1)
# Quantizers that the layouts of other projects do not have.
OTHERS = {"gumbel": VQGANConfig("GumbelVQ", 32, 8), "residual": VQGANConfig("RVQ", 32, 8, levels=2),
          "product": VQGANConfig("PQEMAVQ", 32, 8, levels=2)}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_synthetic_clips(folder, count=2, frames=3, size=(64, 32))
    return [folder]


def written(folder, layout):
    """(config argument, source) of a small model."""
    if layout not in OTHERS:
        return vqgan_layouts.write(folder, layout)[:2]
    config = dataclasses.replace(OTHERS[layout], ch=32, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(),
                                 z_channels=8)
    state = {key: value + 0.05 * torch.randn(value.shape) for key, value in VQGAN(config).state_dict().items()}
    folder.mkdir()
    torch.save({"state_dict": state}, folder / "model.ckpt")
    return config, folder / "model.ckpt"


def tuned(source, config, videos, out, **changes):
    settings = dataclasses.replace(SHORT, start=str(source), **changes)
    return fine_tune(settings, videos, out, vqgan_config=config, device="cpu", quiet=True).numbers


QUICK = {"amused", "ibq", "magvit2", "var", "residual"}      # of each kind of quantizer and of container one


@pytest.mark.parametrize("layout", [pytest.param(layout, marks=() if layout in QUICK else pytest.mark.slow)
                                    for layout in sorted({*vqgan_layouts.WRITERS, *OTHERS})])
def test_every_layout_is_trained_on_and_written_back(videos, tmp_path, layout):
    config, source = written(tmp_path / "in", layout)
    before = VQGANIFrameModel(config, source, "cpu")
    numbers = tuned(source, config, videos, tmp_path / "out")
    assert numbers["kept_step"] == 3
    assert numbers["val_psnr"] > numbers["start_psnr"]
    ours = VQGANIFrameModel(None, tmp_path / "out", "cpu")
    theirs = tmp_path / "out" / "as_read" / ("" if source.is_dir() else source.name)
    assert VQGANIFrameModel(config, theirs, "cpu").model_id == ours.model_id != before.model_id
    assert ours.config == before.config
    after = ours.model.state_dict()
    parts = ["encoder.", "decoder."] + (["quantize."] if any(key.startswith("quantize.") for key in after) else [])
    for part in parts:
        assert any(not torch.equal(value, after[key]) for key, value in before.model.state_dict().items()
                   if key.startswith(part)), part


@pytest.mark.parametrize("layout", ["ibq", "gumbel", "residual"])
def test_training_the_decoder_alone_leaves_all_codes_as_they_were(videos, tmp_path, layout):
    config, source = written(tmp_path / "in", layout)
    numbers = tuned(source, config, videos, tmp_path / "out", freeze=("encoder", "codebook"))
    before, after = VQGANIFrameModel(config, source, "cpu"), VQGANIFrameModel(None, tmp_path / "out", "cpu")
    x = torch.rand(2, 3, 64, 32)
    assert torch.equal(before.codes_of(x), after.codes_of(x))
    assert numbers["kept_step"] == 3
    moved = {key.split(".")[0] for key, value in after.model.state_dict().items()
             if not torch.equal(value, before.model.state_dict()[key])}
    assert moved in ({"decoder"}, {"decoder", "post_quant_conv"})


@pytest.mark.parametrize(("freeze", "still"), [
    (("decoder",), {"decoder", "post_quant_conv"}), (("encoder",), {"encoder", "quant_conv"}),
    (("codebook",), {"quantize"})])
@pytest.mark.parametrize("layout", ["diffusers", "product"])
def test_what_is_frozen_stays(tmp_path, layout, freeze, still):
    config, source = written(tmp_path / "in", layout)
    codec = VQGANIFrameModel(config, source, "cpu")
    settings = dataclasses.replace(SHORT, start=str(source), model=codec.config, freeze=freeze)
    step = VQGANStep(settings, torch.device("cpu"), codec.model.state_dict())
    for _ in range(2):
        step.run(torch.rand(2, 3, 32, 32))
    now = {key.split(".")[0] for key, value in step.model.state_dict().items()
           if not torch.equal(value, codec.model.state_dict()[key])}
    assert now == {"encoder", "quant_conv", "quantize", "decoder", "post_quant_conv"} - still


def test_the_start_is_kept_where_nothing_is_better(videos, tmp_path, capsys):
    config, source = written(tmp_path / "in", "diffusers")
    numbers = tuned(source, config, videos, tmp_path / "out", learning_rate=30.0)
    assert (numbers["kept_step"], numbers["val_psnr"]) == (0, numbers["start_psnr"])
    before, after = VQGANIFrameModel(config, source, "cpu"), VQGANIFrameModel(None, tmp_path / "out", "cpu")
    assert before.model_id == after.model_id == VQGANIFrameModel(None, tmp_path / "out" / "as_read", "cpu").model_id


def test_going_on_from_an_older_checkpoint_keeps_what_was_best(videos, tmp_path):
    config, source = written(tmp_path / "in", "ibq")
    tuned(source, config, videos, tmp_path / "out", steps=2)
    best = read_checkpoint(tmp_path / "out" / "best.pt")
    # As if a later step, which going back has undone, had been better than all that follow.
    torch.save({**best, "loss": 0.0}, tmp_path / "out" / "best.pt")
    settings = dataclasses.replace(SHORT, start=str(source), steps=4)
    fine_tune(settings, videos, tmp_path / "out", vqgan_config=config, device="cpu", quiet=True, resume=True)
    kept = read_checkpoint(tmp_path / "out" / "vqgan.pt")
    assert all(torch.equal(value, kept["model"][key].float()) for key, value in best["model"].items())


def test_a_resumed_fine_tuning_equals_a_whole_one(videos, tmp_path, monkeypatch):
    config, source = written(tmp_path / "in", "ibq")
    changes = {"steps": 4, "validate_every": 2, "save_every": 2, "gan_weight": 0.1, "gan_start": 1}
    tuned(source, config, videos, tmp_path / "whole", **changes)
    run = VQGANStep.run

    def cut(self, frames):
        if self.state.step == 3:
            raise TrainingError("cut")
        return run(self, frames)

    with monkeypatch.context() as patch:
        patch.setattr(VQGANStep, "run", cut)
        with pytest.raises(TrainingError, match="cut"):
            tuned(source, config, videos, tmp_path / "cut", **changes)
    assert not (tmp_path / "cut" / "vqgan.pt").exists()
    assert main(["train-vqgan", "--checkpoint_dir", str(tmp_path / "cut"), "--videos", str(videos[0]), "--resume",
                 "--device", "cpu", "--quiet"]) == 0
    whole, again = (read_checkpoint(tmp_path / name / "vqgan.pt") for name in ("whole", "cut"))
    assert whole["model"].keys() == again["model"].keys()
    assert all(torch.equal(value, again["model"][key]) for key, value in whole["model"].items())


@pytest.mark.parametrize("layout", ["diffusers", "llamagen", "ibq", "magvit2", "bsq", "cosmos", "gumbel", "var"])
def test_quantizers_learn_by_gradients(tmp_path, layout):
    """The decoder sees what the codes stand for, and the gradient of that reaches encoder and tables."""
    config = vqgan_layouts.CONFIGS[layout] if layout in vqgan_layouts.CONFIGS else OTHERS[layout]
    model = VQGAN(config)
    trainer = GradientQuantizer(model, commitment=0.25, entropy=0.05)
    z = (torch.randn(2, config.embed_dim, 6, 8) * 0.1).requires_grad_()
    seen, loss, codes = trainer.quantize(z, update=True, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(seen, model.quantize.lookup(codes, (6, 8)), atol=1e-6)
    assert codes.shape[1:] == model.quantize.shape((6, 8))
    (seen.square().sum() + loss).backward()
    assert float(z.grad.abs().sum()) > 0 or layout == "gumbel"
    assert all(float(p.grad.abs().sum()) > 0 for p in model.quantize.parameters())


def test_one_video_is_shared_out(tmp_path):
    write_synthetic_clips(tmp_path, count=1, frames=9, size=(96, 64))
    parts = split([tmp_path])
    assert parts.alone
    assert parts.train == parts.judged
    data = LeadingFrames(parts.train, gop_size=1, crop_size=32, seed=0, samples_per_video=200)
    starts = {data.choose_gop(index, data.rng(0, index)).start for index in range(200)}
    assert starts == set(range(6))
    assert len(judged_frames(parts, 4)) == 3


def test_several_videos_are_shared_out(tmp_path):
    write_synthetic_clips(tmp_path, count=5, frames=2, size=(96, 64))
    parts = split([tmp_path])
    assert (len(parts.train), len(parts.judged), parts.alone) == (4, 1, False)
    assert not set(parts.train) & set(parts.judged)
    assert {tuple(frame.shape) for frame in judged_frames(parts, 48)} == {(3, 48, 96)}
    with pytest.raises(InputError, match="needed at least 128 pixels a side"):
        judged_frames(parts, 128)


def test_from_the_command_line(videos, tmp_path, capsys, monkeypatch):
    _, source = written(tmp_path / "in", "amused")
    reads, read_source = [], loading.read_source
    monkeypatch.setattr(loading, "read_source", lambda one: reads.append(one) or read_source(one))
    out = tmp_path / "out"
    flags = ["train-vqgan", "--videos", str(videos[0]), "--device", "cpu", "--quiet", "--checkpoint_dir"]
    short = ["--steps", "3", "--batch_size", "2", "--crop_size", "32", "--learning_rate", "1e-3", "--prior_steps", "4"]
    assert main([*flags, str(out), "--from", str(source), "--freeze", "encoder", "codebook", *short, "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert numbers["steps"] == 3
    assert len([one for one in reads if str(source) in str(one)]) == 1, "a large file is not read twice"
    assert (out / "as_read" / "vqvae" / "config.json").is_file()
    assert set(VQGANIFrameModel(None, out, "cpu").rate_models) == {"uniform", "static", "prior"}
    # Its own product is fine-tuned further; a second set of files would hold the same.
    assert main([*flags, str(tmp_path / "more"), "--from", str(out), *short]) == 0
    assert not (tmp_path / "more" / "as_read").exists()
    capsys.readouterr()
    for more, words in ((["--freeze", "decoder"], "--freeze: found with random weights, needed --from"),
                        (["--from", str(source), "--freeze", "encodre"], "did you mean 'encoder'"),
                        (["--from", str(source), "--freeze", "encoder", "decoder", "codebook"], "needed one left"),
                        (["--from", str(source), "--preset", "demo"], "--from and --preset: found both"),
                        (["--from", str(tmp_path / "none")], "no such file"),
                        (["--from", str(source), "--crop_size", "49"], "needed a multiple of f = 2")):
        assert main([*flags, str(tmp_path / "bad"), *more]) == 1
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    assert not (tmp_path / "bad" / "vqgan.pt").exists()
