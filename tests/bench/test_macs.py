"""Parameters and multiplications of every codec, against what is published and what shapes say."""

import pytest
import torch
from kit.vqgan import make_rated_vqgan

from dcvc.bench.macs import SIDE, i_frame_parts, p_frame_parts, total
from dcvc.inter.dcvc2021.model import DCVC
from dcvc.inter.light.config import SIZES
from dcvc.inter.light.model import LightPFrameModel
from dcvc.intra.compressai import CompressAIIFrameModel
from dcvc.intra.light.config import SIZES as INTRA_SIZES
from dcvc.intra.light.model import LightIFrameModel
from dcvc.intra.vqgan.codec import VQGANIFrameModel
from dcvc.intra.vqgan.model import AttnBlock


def counted(codec, parts):
    """The parts by name, whole: no parameter is left out, and none changes by counting."""
    assert total(parts).parameters == sum(p.numel() for p in codec.parameters())
    assert all(part.decoder in (0, part.encoder) for part in parts)
    return {part.name: part for part in (*parts, total(parts))}


def test_the_published_p_frame_model_costs_what_is_published():
    codec = LightPFrameModel(SIZES["uf-ld"]).eval()
    parts = counted(codec, p_frame_parts(codec))
    assert parts["total"].encoder == pytest.approx(86.2, abs=0.5)
    assert parts["total"].decoder == pytest.approx(72, abs=0.5)
    assert parts["total"].parameters == 9_650_176
    # Only the first P-frame runs this one.
    assert parts["feature_adaptor_i"].encoder == 0
    assert parts["encoder"].encoder > parts["encoder"].decoder == 0
    assert parts["hyper_decoder"].decoder == pytest.approx(0.59, abs=0.01)


def test_the_published_i_frame_model_costs_what_is_published():
    codec = LightIFrameModel(INTRA_SIZES["uf-intra"])
    parts = counted(codec, i_frame_parts(codec))
    assert parts["total"].encoder == pytest.approx(454, abs=1)
    assert parts["dec"].decoder == pytest.approx(217.1, abs=0.1)
    assert parts["enc"].decoder == 0


@pytest.mark.parametrize(("size", "p_most", "i_most"), [("m", 20, 15), ("s", 11, 9), ("l", 60, 32)])
def test_our_own_sizes_are_light(size, p_most, i_most):
    p_frame, i_frame = LightPFrameModel(SIZES[size]).eval(), LightIFrameModel(INTRA_SIZES[size])
    assert 0 < total(p_frame_parts(p_frame)).encoder <= p_most
    parts = counted(i_frame, i_frame_parts(i_frame))
    assert 0 < parts["total"].encoder <= i_most
    # Exact networks run under no name of their own, and are counted all the same.
    assert parts["hyper_dec"].decoder > 0
    assert not i_frame.trainable


def test_dcvc_2021_costs_a_thousand():
    """The reference counts 1,116 of convolutions: of the masked ones alone what the mask leaves."""
    codec = DCVC().eval()
    parts = counted(codec, p_frame_parts(codec))
    assert parts["total"].encoder == pytest.approx(1116, rel=0.01)
    assert parts["opticFlow"].encoder == pytest.approx(319, abs=1)
    assert {name for name, part in parts.items() if part.decoder < part.encoder} == {
        "total", "opticFlow", "mvEncoder", "mvpriorEncoder", "contextualEncoder", "priorEncoder"}


def test_i_frame_codecs_of_other_projects_are_counted_inside_their_wrapper(tmp_path):
    zoo = CompressAIIFrameModel("bmshj2018-hyperprior", 1, pretrained=False)
    parts = counted(zoo, i_frame_parts(zoo))
    assert parts["g_a"].encoder == parts["g_s"].encoder > parts["g_a"].decoder == parts["h_a"].decoder == 0
    assert parts["h_s"].decoder > 0
    vqgan = VQGANIFrameModel(*make_rated_vqgan(tmp_path))
    parts = counted(vqgan, i_frame_parts(vqgan))
    assert parts["encoder"].encoder > parts["encoder"].decoder == 0
    convolutions = _convolutions(vqgan, "decoder")
    # Two products of attention: scores over all pairs of positions, and the sum they weight.
    attention = [block for block in vqgan.model.decoder.modules() if isinstance(block, AttnBlock)]
    positions = (SIDE // vqgan.multiple) ** 2
    expected = convolutions + sum(2 * positions**2 * block.q.in_channels for block in attention)
    assert attention
    assert parts["decoder"].decoder * 1000 * SIDE**2 == pytest.approx(expected)


def _convolutions(vqgan, part):
    """Multiplications of the convolutions of one part, by their shapes."""
    counts = []
    hooks = [layer.register_forward_hook(lambda layer, _, out: counts.append(layer.weight[0].numel() * out.numel()))
             for layer in getattr(vqgan.model, part).modules() if isinstance(layer, torch.nn.Conv2d)]
    vqgan(torch.rand(1, 3, SIDE, SIDE))
    for hook in hooks:
        hook.remove()
    return sum(counts)
