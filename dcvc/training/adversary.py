"""The adversary of I-frame and P-frame training: a network that learns to tell decoded frames from
originals, and the loss it learns by. What is trained against it learns to be taken for real."""

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Judges overlapping patches (Isola et al., CVPR 2017): (B, inputs, H, W) -> scores
    (B, 1, h, w), higher for frames that it takes for real.

    inputs: 3 for a frame alone; 6 with a second frame below it, on which the judgement may depend.
    """

    def __init__(self, channels: int = 32, inputs: int = 3) -> None:
        super().__init__()
        widths = (inputs, channels, 2 * channels, 4 * channels)
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            # Spectral normalisation bounds how steep the scores are: the adversary stays beatable.
            convolution = nn.utils.parametrizations.spectral_norm(nn.Conv2d(before, after, 4, 2, 1))
            layers += [convolution, nn.LeakyReLU(0.2, inplace=True)]
        # One score for each patch and none for the whole frame: it judges texture, not composition.
        self.net = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def features(self, x: Tensor) -> list[Tensor]:
        """What it sees on the way: the maps after each activation, then the scores."""
        maps = []
        for layer in self.net:
            x = layer(x)
            if isinstance(layer, nn.LeakyReLU):
                maps.append(x)
        return [*maps, x]


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss on its scores: it wants real ones above 1 and fake ones below -1,
    and gains nothing by going further (Lim and Ye, 2017)."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


class ConditionalAdversary(nn.Module):
    """Judges a frame beside the decoded frame before it: it can tell texture that is there from
    texture that appears.

    updates: how often it has learned. Nobody should listen to a network that has seen nothing yet.
    """

    def __init__(self) -> None:
        super().__init__()
        self.net = PatchDiscriminator(inputs=6)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def features(self, frame: Tensor, reference: Tensor) -> list[Tensor]:
        return self.net.features(torch.cat((frame, reference), dim=1))

    def loss(self, seen: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
        """What it learns by. seen: (original, decoded, reference) of some P-frames, no gradients."""
        original, decoded, reference = (torch.cat(part) for part in zip(*seen, strict=True))
        return hinge_loss(self.net(torch.cat((original, reference), dim=1)),
                          self.net(torch.cat((decoded, reference), dim=1)))


class AdversaryTraining:
    """The discriminator's own updates, in turn with the codec's and at the codec's learning rate."""

    def __init__(self, accelerator: Accelerator, adversary: ConditionalAdversary,
                 optimizer: torch.optim.Optimizer) -> None:
        self.accelerator, self.adversary, self.optimizer = accelerator, adversary, optimizer

    def learn(self, seen: list[tuple[Tensor, Tensor, Tensor]], rate: float, left_out: Tensor
              ) -> Tensor:
        """One update on what the codec's update saw; its loss. left_out: 1 where the codec's update
        was not finite, and so this one must be left out as well."""
        with torch.autocast(self.accelerator.device.type, enabled=False):
            loss = self.adversary.loss(seen)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradients = [parameter.grad for parameter in self.adversary.parameters()]
        if self.accelerator.num_processes > 1:
            # All processes keep the same network, by the mean of their gradients.
            for gradient in gradients:
                gradient.copy_(self.accelerator.reduce(gradient, "mean"))
        finite = torch.stack([gradient.isfinite().all() for gradient in gradients]).all()
        left_out = torch.maximum(left_out, (~finite).float())
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self.optimizer.param_groups[0]["fused"]:
            # As for the codec: the optimizer is told on the device, and nothing waits.
            self.optimizer.found_inf = left_out
            self.optimizer.step()
        elif not bool(left_out):
            self.optimizer.step()
        self.adversary.updates += 1 - left_out.to(torch.int64)
        return loss.detach()
