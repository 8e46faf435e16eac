"""What a VQGAN is trained by besides the pixels: structure and perception. Its adversary is that of
dcvc/training/adversary.py."""

from pytorch_msssim import ms_ssim, ssim
from torch import Tensor, nn

from dcvc.errors import InputError
from dcvc.evaluation.dists import load_dists
from dcvc.evaluation.lpips import load_lpips
from dcvc.evaluation.stsim import stsim
from dcvc.training.vqgan.config import Perceptual

# MS-SSIM halves the frame four times and then needs more than its window of 11 less one:
# pytorch-msssim takes sides of more than 10 * 2^4 = 160.
SMALLEST_MS_SSIM = 161


class PerceptualLoss(nn.Module):
    """0 for equal frames in [0, 1]. "ms_ssim" becomes SSIM below 161 pixels; "lpips" and "dists" need
    files of their weights, else InputError."""

    def __init__(self, kind: Perceptual, lpips_weights: tuple[str, ...] = (),
                 dists_weights: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.kind = kind
        load, files = {"lpips": (load_lpips, lpips_weights),
                       "dists": (load_dists, dists_weights)}.get(kind, (None, ()))
        if load is not None and not files:
            raise InputError(f"--perceptual: found {kind} without weights, needed --{kind}_weights "
                             "FILE [FILE] (none come with this kit); or use stsim or ms_ssim")
        self.net = load(files) if load is not None else None

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Two batches `(B, 3, H, W)` -> their mean distance, 0-dim."""
        # Not left out by the caller: the loss is the same sum whatever is chosen.
        if self.kind == "none":
            return x_hat.new_zeros(())
        if self.net is not None:
            return self.net.distances(x_hat, x).mean()
        if self.kind == "stsim":
            return (1 - stsim(x, x_hat)).mean()
        measure = ms_ssim if min(x.shape[-2:]) >= SMALLEST_MS_SSIM else ssim
        return 1 - measure(x_hat, x, data_range=1.0)
