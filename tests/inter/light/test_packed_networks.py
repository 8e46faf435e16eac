"""Parts of the light P-frame codec that take another way where symbols are coded: the same numbers, or the same but
for last bits."""

import torch

from dcvc.entropy.scale_classes import scale_classes
from dcvc.inter.light.config import SIZES
from dcvc.inter.light.networks import Decoder, Encoder, Head
from dcvc.inter.light.scales import trace_of
from dcvc.layers import BlockStyle, packed

CONFIG, STYLE = SIZES["s"], BlockStyle("clip", True)


def picture(channels: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(1, channels, height, width)


def agree(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool((found - expected).abs().max() < 1e-5 * expected.abs().max()) and not torch.equal(found, expected)


@torch.no_grad()
def test_the_decoder_network_begins_before_it_has_y():
    torch.manual_seed(0)
    network, context = Decoder(CONFIG, STYLE).eval(), picture(96, 46, 10)
    for gain in (0.5 + torch.rand(1, 96, 1, 1), 0.5 + torch.rand(1, 96, 1, 1)):
        y_hat = picture(96, 23, 5)
        expected = network(y_hat, context, gain)
        with packed():
            prepared = network.prepare(context, gain)
            assert agree(network(y_hat, context, gain, prepared), expected)


@torch.no_grad()
def test_encoder_and_head_compute_the_same():
    torch.manual_seed(0)
    encoder, head = Encoder(CONFIG, STYLE).eval(), Head(CONFIG, STYLE).eval()
    patches, context, gain = picture(192, 46, 10), picture(96, 46, 10), 0.5 + torch.rand(1, 96, 1, 1)
    expected = encoder(patches, context, gain), head(context, context / 2)
    with packed():
        assert agree(encoder(patches, context, gain), expected[0])
        assert agree(head(context, context / 2), expected[1])


def test_the_trace_of_a_frame_is_the_same_to_the_last_bit():
    torch.manual_seed(0)
    classes = scale_classes(256.0)
    symbols = (picture(6, 9, 7) * 12).round()
    # Scales on the edges of classes as well, and beyond both ends.
    scales = torch.exp(picture(6, 9, 7) * 4)
    scales.view(-1)[:128] = classes.edges
    unit = (0.1 + torch.rand(1, 6, 1, 1)).double()
    expected = trace_of(symbols, scales, unit, classes)
    numbers = (torch.searchsorted(classes.edges, scales, right=True) - 1).clamp_min(0)
    with packed():
        assert torch.equal(classes.index(scales), numbers)
        assert torch.equal(trace_of(symbols, scales, unit, classes), expected)
