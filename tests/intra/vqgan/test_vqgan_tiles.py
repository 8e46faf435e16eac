"""Large frames in tiles: the same codes at both ends, no seams, nothing changed without them."""

import pytest
import torch
from kit import vqgan_layouts

from dcvc.errors import InputError
from dcvc.intra import VQGANIFrameModel
from dcvc.intra.config import IntraConfig
from dcvc.intra.vqgan.stream import read_payload
from dcvc.intra.vqgan.tiles import in_tiles, tiles_of, weights_of


def codecs(folder, layout="diffusers", tile=64):
    """The same model without and with tiles."""
    config, source, *_ = vqgan_layouts.write(folder, layout)
    return VQGANIFrameModel(config, source, "cpu"), VQGANIFrameModel(config, source, "cpu", tile=tile)


def test_weights_of_tiles_sum_to_one_everywhere():
    for size in (8, 11, 64):
        for length in range(1, 5 * size):
            tiles = tiles_of(length, size)
            assert (tiles[0].first, tiles[-1].end) == (0, length)
            total = torch.zeros(length * 2)
            for tile in tiles:
                assert tile.end - tile.first <= size
                total[2 * tile.first:2 * tile.end] += weights_of(tile, 2)
            assert torch.allclose(total, torch.ones(length * 2), atol=1e-6), (size, length)


def test_a_tile_borders_count_nothing_where_another_goes_on():
    first, second = tiles_of(112, 64)
    assert (first.end, second.first) == (64, 48)
    assert weights_of(first, 1)[-4:].tolist() == [0, 0, 0, 0] == weights_of(second, 1)[:4].tolist()
    assert weights_of(first, 1)[:48].tolist() == [1.0] * 48


@pytest.mark.parametrize("layout", ["diffusers", "movq", "cosmos", "var", "ibq"])
def test_streams_in_tiles_are_decoded_by_any_codec_of_the_model(tmp_path, layout):
    whole, tiled = codecs(tmp_path, layout)
    x = torch.rand(1, 3, 150, 90)
    payload, x_hat = tiled.compress(x)
    assert (payload[0] >> 4, read_payload(payload).tile) == (2, 64 // tiled.multiple)
    assert torch.equal(whole.decompress(payload), x_hat)
    assert torch.equal(tiled(x).x_hat, x_hat)
    # The codes are what the decoder gets, and its picture is made of these.
    codes, size = whole.codes_from(payload)
    assert torch.equal(codes, tiled.codes_of(x))
    assert torch.equal(tiled.frames_of(codes, *size), x_hat)
    assert not torch.equal(x_hat, whole.frames_of(codes, *size))
    # A stream without tiles is decoded without, also by a codec that has some; so is what one tile holds.
    payload, x_hat = whole.compress(x)
    assert (payload[0] >> 4, read_payload(payload).tile) == (1, 0)
    assert torch.equal(tiled.decompress(payload), x_hat)
    small = x[:, :, :64, :64]
    assert tiled.compress(small)[0] == whole.compress(small)[0]


def test_no_seam_shows_on_smooth_content():
    """Each tile has a brightness of its own, as by its own norms, and its border is spoilt, as by padding: between
    neighbouring pixels the blended picture still changes as the smooth one does, within one level."""
    ramp = torch.linspace(0.3, 0.7, 48)
    z = (ramp[None, :] * 0.5 + ramp[:40, None] * 0.5).expand(1, 3, -1, -1).contiguous()

    def decode(part):
        made = torch.nn.functional.interpolate(part - 0.5 * part.mean(), scale_factor=8, mode="nearest")
        for side in (made[..., :8], made[..., -8:], made[..., :8, :], made[..., -8:, :]):
            side[:] = 0.9
        return made

    blended = in_tiles(decode, z, 16, (1, 8), 3)
    whole = torch.nn.functional.interpolate(z, scale_factor=8, mode="nearest")
    difference = (blended - whole)[..., 8:-8, 8:-8]          # the frame's own border is spoilt without tiles too
    assert float(difference.max() - difference.min()) > 0.02
    for axis in (-1, -2):
        assert float(difference.diff(dim=axis).abs().max()) < 1 / 255


def test_models_and_sizes_that_have_no_tiles(tmp_path):
    with pytest.raises(InputError, match="in which every pixel depends on all codes"):
        codecs(tmp_path / "magvit2", "magvit2")
    with pytest.raises(InputError, match=r"--tile: found 12, needed at least 16 pixels \(f of the VQGAN is 2\)"):
        codecs(tmp_path / "small", tile=12)
    with pytest.raises(InputError, match="--tile: found with --i_frame_type light"):
        IntraConfig(type="light", tile=512)
    with pytest.raises(InputError, match="--tile: found 0, needed at least 1"):
        IntraConfig(type="vqgan", vqgan_checkpoint="x", tile=0)
