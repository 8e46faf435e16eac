"""What one step does to the weights: accumulated batches are one bigger batch."""

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from dcvc.device import computing_threads
from dcvc.entropy import checkerboard
from dcvc.inter.registry import build_p_frame, codec_entry
from dcvc.interfaces import FrameOutput
from dcvc.intra.light.config import SIZES as INTRA_SIZES
from dcvc.intra.light.model import LightIFrameModel
from dcvc.training.config import TrainConfig
from dcvc.training.stage_setup import prepare_stage
from dcvc.training.step import prepare_step


def test_accumulated_gradients_are_those_of_the_bigger_batch(job, monkeypatch):
    """Without the noise, two micro-batches of one clip give the gradient of one batch of two. In float64: with
    float32, an activation within rounding of the kink of its ReLU decides about the fourth digit of a tensor."""
    monkeypatch.setattr("torch.Tensor.float", lambda self: self.double())
    monkeypatch.setattr("torch.Tensor.uniform_", lambda self, *a, **k: self.zero_())
    monkeypatch.setattr("torch.rand_like", lambda x, **k: torch.full_like(x, 0.5))
    gradients = []
    for batch, accumulation in (("2", "1"), ("1", "2")):
        stage = prepare_stage(job("--batch_size", batch, "--gradient_accumulation_steps", accumulation,
                                  "--grad_clip_max_norm", "0", run=batch))
        clips = [torch.stack([stage.dataset.sample(*key) for key in keys]).double()
                 for keys in stage.sampler.step_keys(0)]
        monkeypatch.setattr(stage.step.optimizer, "step", lambda: None)
        monkeypatch.setattr(stage.step.optimizer, "zero_grad", lambda **_: None)
        stage.step.p_frame.eval().double()
        # An untrained I-frame codec shows black: every activation would sit on the kink of its LeakyReLU.
        monkeypatch.setattr(stage.step.intra, "forward",
                            lambda x, _=None: FrameOutput(torch.nn.functional.avg_pool2d(x, 3, 1, 1), {}))
        stage.step.run(clips)
        gradients.append([p.grad.clone() for p in stage.step.trained])
    for one, two in zip(*gradients, strict=True):
        assert one.dtype == torch.float64
        assert float((one - two).norm()) <= 1e-5 * float(one.norm()) + 1e-7


@pytest.mark.parametrize("batch", [2, 3])
def test_shards_are_the_whole_batch(batch, monkeypatch):
    """Computed at once on two threads, a batch has the gradients and the means of the whole one."""
    monkeypatch.setattr(checkerboard, "uniform_noise", torch.zeros_like)
    found = []
    clips = torch.rand(batch, 3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    for threads in (1, 2):
        torch.manual_seed(0)
        step = light_step()
        monkeypatch.setattr(step.optimizer, "step", lambda: None)
        monkeypatch.setattr(step.optimizer, "zero_grad", lambda **_: None)
        torch.manual_seed(2)
        with computing_threads(threads):
            assert step._shards(batch) == threads
            found.append((step.run([clips]), [weight.grad for weight in step.trained]))
    (whole, gradients), (shards, others) = found
    for name in ("loss", "mse", "bpp", "bpp_I", "grad_norm"):
        assert float(shards[name]) == pytest.approx(float(whole[name]), rel=1e-4), name
    for one, two in zip(gradients, others, strict=True):
        assert float((one - two).norm()) <= 1e-3 * float(one.norm()) + 1e-7


def test_shards_repeat_their_noise():
    """The same seed and number of threads give the same gradients, bit for bit; other noise gives others."""
    clips, found = torch.rand(4, 2, 3, 64, 64, generator=torch.Generator().manual_seed(1)), []
    for seed in (5, 5, 6):
        torch.manual_seed(0)
        step = light_step()
        torch.manual_seed(seed)
        with computing_threads(3):
            result = step.run([clips])
        found.append((float(result["grad_norm"]), [weight.detach().clone() for weight in step.trained]))
    assert found[0][0] == found[1][0] != found[2][0]
    assert all(torch.equal(one, two) for one, two in zip(found[0][1], found[1][1], strict=True))


def light_step():
    entry = codec_entry("light")
    stage = replace(entry.recipes["light-s"].stages[0], jumps=0.0, refreshes=0.0, cuts=0.0)
    return prepare_step(Accelerator(cpu=True), LightIFrameModel(INTRA_SIZES["s"], trainable=True),
                        build_p_frame(entry.size("s")), stage, TrainConfig(grad_clip_max_norm=0.0))
