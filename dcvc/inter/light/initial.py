"""Where training of a light P-frame codec begins: at a transform codec, not at noise.

    context = DCT of the reference picture, of the last one from the second P-frame on
    y = 2x2 DCT of (DCT of the frame - context), divided by the step of the quality
    feature = context + inverse transform of y_hat, x_hat = inverse DCT of the feature

So an untrained model predicts by copying, codes the difference, and gets better from there. A trial
on two CPU cores was as far after 0.27 billion pixels as one from random weights after 2.4 billion.
"""

import torch
from torch import nn

from dcvc.entropy.by_quality import QualityRange
from dcvc.layers import active_channels, activity_hyperprior, start_blocks, transform_basis

# Differences of neighbouring frames: a twentieth of the pixels' range, hardly correlated.
DEVIATION, CORRELATION = 0.05, 0.7
# Steps are wider than an I-frame's: what its rounding has left then lies within half a step, and a
# picture that stands still costs nothing.
WIDER_STEP = 1.7
# Most squares of a P-frame have nothing to say: their z is zero, and their scales are small.
ACTIVITY_GAIN, ACTIVITY_LEFT, ACTIVE_SHARE = 2.0, 0.12, 0.9
# The prior networks see y in eighths of the pixels' range: differences are small numbers otherwise.
PRIOR_GAIN = 8.0


@torch.no_grad()
def initialise(model: nn.Module, quality: QualityRange) -> None:
    """Set all weights of a LightPFrameModel of topology "transform"."""
    c, n = model.config.width, model.config.latent_channels
    basis = transform_basis(c, n, DEVIATION, CORRELATION)
    # Narrower than 192 coefficients in one place, wider in the other: what is beyond the DCT starts
    # at zero.
    used, coded = len(basis.patches), len(basis.pairs)
    same = torch.eye(c)
    start_blocks(model)
    embedding = torch.zeros(c, 192)
    embedding[:used] = basis.patches
    _set(model.feature_adaptor_i.conv[0].adaptor, embedding)
    # Of memory, last feature and, where there is one, the moved picture, the last counts.
    older = model.feature_adaptor_m.conv[0].adaptor.in_channels // c - 1
    _set(model.feature_adaptor_m.conv[0].adaptor, torch.cat((*[0 * same] * older, same), dim=1))
    if model.moves:
        _set(model.prediction_embedding, embedding)
    first = (*model.encoder.conv1, model.encoder.conv2)[0]
    _set(first.adaptor, torch.cat((embedding, -same), dim=1))
    # A kernel of 3x3 at a stride of 2 with padding 1: its last two rows and columns lie on one
    # square of 2x2.
    model.encoder.down.weight.zero_()
    model.encoder.down.weight[:coded, :used, 1:, 1:] = basis.pairs
    up = torch.zeros(c, 2, 2, n)
    up[:used, :, :, :coded] = basis.pairs.permute(1, 2, 3, 0)
    _set(model.decoder.up.conv[0], up.reshape(4 * c, n))
    _set(model.decoder.conv1[0].adaptor, torch.cat((same, same), dim=1))
    _set(model.decoder.conv2, same)
    _set(model.recon_head.head, embedding.t())
    _start_entropy(model, quality, basis.deviations)


def _start_entropy(model: nn.Module, quality: QualityRange, deviations: torch.Tensor) -> None:
    """Known scales, means of zero, and a z that costs nearly nothing until it is good for
    something."""
    n = model.config.latent_channels
    scales = torch.full((n,), PRIOR_GAIN * float(deviations.min()))
    scales[:len(deviations)] = PRIOR_GAIN * deviations
    last, start = model.y_prior_fusion.conv[-1], [torch.ones(n), scales, torch.zeros(n)]
    if model.config.exact_scales:
        # Scales are what the hyperprior says; what the trace changes is to be learned.
        start.pop(1)
        model.scale_prior.conv[-1].weight.zero_()
    last.weight.zero_()
    last.bias.copy_(torch.cat(start))
    model.y_spatial_prior.conv[-1].weight.zero_()
    model.bit_estimator_z.start_narrow()
    activity_hyperprior(model.hyper_encoder, model.hyper_decoder, scales, ACTIVITY_GAIN, ACTIVITY_LEFT)
    model.bit_estimator_z.start_narrow(ACTIVE_SHARE, slice(active_channels(model.hyper_encoder)))
    steps = WIDER_STEP * quality.steps(model.config.quality_rows)[:, None]
    model.q_encoder.copy_((1 / steps).expand_as(model.q_encoder))
    model.q_decoder.copy_(steps.expand_as(model.q_decoder))
    model.q_prior.copy_((1 / (PRIOR_GAIN * steps)).expand_as(model.q_prior))
    # z follows at half the pace: it has less to say at a low quality, but not a 27th.
    model.q_hyper.copy_((steps.median() / steps).sqrt().expand_as(model.q_hyper))


def _set(layer: nn.Conv2d, weight: torch.Tensor) -> None:
    layer.weight.copy_(weight[:, :, None, None])
