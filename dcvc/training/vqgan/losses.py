"""What a VQGAN is trained by besides the pixels: structure, perception, an adversary."""


import torch.nn.functional as F
from pytorch_msssim import ms_ssim, ssim
from torch import Tensor, nn

from dcvc.errors import InputError
from dcvc.evaluation.lpips import load_lpips
from dcvc.training.vqgan.config import Perceptual

# MS-SSIM halves the frame four times and then needs more than its window of 11 less one:
# pytorch-msssim takes sides of more than 10 * 2^4 = 160.
SMALLEST_MS_SSIM = 161


class PerceptualLoss(nn.Module):
    """0 for equal frames in [0, 1]. "ms_ssim" becomes SSIM below 161 pixels; "lpips" needs files of
    its weights, else InputError."""

    def __init__(self, kind: Perceptual, lpips_weights: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.kind = kind
        if kind == "lpips" and not lpips_weights:
            raise InputError("--perceptual: found lpips without weights, needed --lpips_weights FILE "
                             "[FILE] (none come with this kit); or use ms_ssim")
        self.net = load_lpips(lpips_weights) if kind == "lpips" else None

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Two batches `(B, 3, H, W)` -> their mean distance, 0-dim."""
        # Not left out by the caller: the loss is the same sum whatever is chosen.
        if self.kind == "none":
            return x_hat.new_zeros(())
        if self.net is not None:
            return self.net.distances(x_hat, x).mean()
        measure = ms_ssim if min(x.shape[-2:]) >= SMALLEST_MS_SSIM else ssim
        return 1 - measure(x_hat, x, data_range=1.0)


class PatchDiscriminator(nn.Module):
    """Judges overlapping patches (Isola et al., CVPR 2017): (B, 3, H, W) -> scores (B, 1, h, w),
    higher for frames that it takes for real."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        widths = (3, channels, 2 * channels, 4 * channels)
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            # Spectral normalisation bounds how steep the scores are: the adversary stays beatable.
            convolution = nn.utils.parametrizations.spectral_norm(nn.Conv2d(before, after, 4, 2, 1))
            layers += [convolution, nn.LeakyReLU(0.2, inplace=True)]
        # One score for each patch and none for the whole frame: it judges texture, not composition.
        self.net = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss on its scores: it wants real ones above 1 and fake ones below -1,
    and gains nothing by going further (Lim and Ye, 2017)."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
