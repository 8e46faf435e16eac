"""The networks that DCVC-2021 is put together from, one function each.

Sizes: n channels of features (config.channels), m of y, v of y_mv, h of both hyper-latents. Shapes
and the order of layers are those of the published checkpoints, whose entries are numbered by them.
"""

from torch import nn

from dcvc.layers import GDN, LeakyResidualBlock, ResidualBlock, subpel


def hyper_encoder(latent: int, h: int) -> nn.Sequential:
    """(B, latent, H/16, W/16) -> (B, h, H/64, W/64)."""
    # LeakyReLU and not GDN: hyper-latents say how large y is, and GDN would divide just that away.
    return nn.Sequential(
        nn.Conv2d(latent, h, 3, padding=1), nn.LeakyReLU(0.01, inplace=True),
        nn.Conv2d(h, h, 5, stride=2, padding=2), nn.LeakyReLU(0.01, inplace=True),
        nn.Conv2d(h, h, 5, stride=2, padding=2))


def hyper_decoder(h: int, first: int, second: int, out: int) -> nn.Sequential:
    """(B, h, H/64, W/64) -> (B, out, H/16, W/16)."""

    def up(channels: int, wider: int) -> nn.ConvTranspose2d:
        return nn.ConvTranspose2d(channels, wider, 5, stride=2, padding=2, output_padding=1)

    return nn.Sequential(up(h, first), nn.LeakyReLU(0.01, inplace=True),
                         up(first, second), nn.LeakyReLU(0.01, inplace=True),
                         nn.ConvTranspose2d(second, out, 3, padding=1))


def motion_encoder(v: int) -> nn.Sequential:
    """Flow (B, 2, H, W) -> y_mv (B, v, H/16, W/16)."""
    layers: list[nn.Module] = [nn.Conv2d(2, v, 3, stride=2, padding=1)]
    # A GDN between the layers, none at the end: what is rounded keeps its size.
    for _ in range(3):
        layers += [GDN(v), nn.Conv2d(v, v, 3, stride=2, padding=1)]
    return nn.Sequential(*layers)


def motion_decoder(v: int) -> nn.Sequential:
    """y_mv_hat (B, v, H/16, W/16) -> decoded flow (B, 2, H, W)."""
    layers: list[nn.Module] = []
    for out in (v, v, v, 2):
        layers += [nn.ConvTranspose2d(v, out, 3, stride=2, padding=1, output_padding=1),
                   GDN(v, inverse=True)]
    return nn.Sequential(*layers[:-1])


def motion_refinement(width: int) -> nn.Sequential:
    """Decoded flow and reference (B, 5, H, W) -> correction of the flow (B, 2, H, W)."""
    # Full size throughout: it corrects what four upsampling layers left blurred.
    widths = (5, *[width] * 6, 2)
    layers: list[nn.Module] = []
    for channels, out in zip(widths, widths[1:], strict=False):
        layers += [nn.Conv2d(channels, out, 3, padding=1), nn.LeakyReLU(0.1, inplace=True)]
    return nn.Sequential(*layers[:-1])


def contextual_encoder(n: int, m: int) -> nn.Sequential:
    """Frame and context (B, 3 + n, H, W) -> y (B, m, H/16, W/16)."""

    def down(channels: int, out: int) -> nn.Conv2d:
        return nn.Conv2d(channels, out, 5, stride=2, padding=2)

    return nn.Sequential(down(n + 3, n), GDN(n), LeakyResidualBlock(n),
                         down(n, n), GDN(n), LeakyResidualBlock(n),
                         down(n, n), GDN(n),
                         down(n, m))


def contextual_decoder(n: int, m: int) -> nn.Sequential:
    """y_hat (B, m, H/16, W/16) -> features (B, n, H, W)."""
    return nn.Sequential(subpel(m, n), GDN(n, inverse=True),
                         subpel(n, n), GDN(n, inverse=True), LeakyResidualBlock(n),
                         subpel(n, n), GDN(n, inverse=True), LeakyResidualBlock(n),
                         subpel(n, n))


def reconstruction_head(n: int) -> nn.Sequential:
    """Features and context (B, 2n, H, W) -> x_hat (B, 3, H, W)."""
    return nn.Sequential(nn.Conv2d(2 * n, n, 3, padding=1), ResidualBlock(n), ResidualBlock(n),
                         nn.Conv2d(n, 3, 3, padding=1))


def temporal_prior(n: int, m: int) -> nn.Sequential:
    """Context (B, n, H, W) -> its part of the prior of y (B, m, H/16, W/16)."""
    # As deep as the contextual encoder, so that it ends at the size of y.
    layers: list[nn.Module] = []
    for out in (n, n, n, m):
        layers += [nn.Conv2d(n, out, 5, stride=2, padding=2), GDN(n)]
    return nn.Sequential(*layers[:-1])
