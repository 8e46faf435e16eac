"""What one step does to the weights: accumulated batches are one bigger batch."""

import torch

from dcvc.interfaces import FrameOutput
from dcvc.training.stage_setup import prepare_stage


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
