"""Tiles with the halo of the receptive field change nothing; blended tiles do."""

import pytest
import torch

from tests.video_models.autoencoder.shapes import ALL, IN_TILES, make_model
from video_models.autoencoder.tiling import (
    blended_decode,
    blended_encode,
    decode_halo,
    encode_halo,
    tiled_decode,
    tiled_encode,
)
from video_models.layers.memory import flow

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(params=IN_TILES)
def model(request):
    return make_model(request.param)


def reach(stages, x, unit_in, unit_out):
    """Return how far beyond its own cell the middle cell of the output sees along the width.

    A cell is `unit_in` columns of the input and `unit_out` of the output.
    """
    x = x.double().requires_grad_()
    (y,) = flow(stages, x, None)
    cells = x.shape[-1] // unit_in
    middle = cells // 2
    own = y[..., middle * unit_out : (middle + 1) * unit_out]
    seen = torch.autograd.grad(own.square().sum(), x)[0].abs().sum(dim=(0, 1, 2, 3)).nonzero()
    left = middle * unit_in - int(seen.min())
    right = int(seen.max()) - ((middle + 1) * unit_in - 1)
    return max(left, right)


def test_the_halo_of_encoding_is_the_measured_receptive_field(model):
    config, p = model.config, model.config.patch_size
    side = config.spatial_factor // p
    cells = 2 * (encode_halo(config) // config.spatial_factor + 1) + 3
    x = torch.randn(1, 3 * p * p, 1, side, cells * side)
    measured = reach(model.double().encoder.descent, x, side, 1)
    assert measured * p == encode_halo(config)


def test_the_halo_of_decoding_is_the_measured_receptive_field(model):
    config, p = model.config, model.config.patch_size
    side = config.spatial_factor // p
    channels = model.decoder.conv_in.out_channels
    x = torch.randn(1, channels, 1, 1, 2 * decode_halo(config) + 3)
    assert reach(model.double().decoder.ascent, x, 1, side) == decode_halo(config)


def test_wans_halos_are_the_published_networks():
    wan = make_model("wan_2.1").config.__class__(
        base_dim=96,
        latent_channels=16,
        dim_mult=(1, 2, 4, 4),
        num_res_blocks=2,
        space_down=(True,) * 3,
        time_down=(False, True, True),
    )
    assert (encode_halo(wan), decode_halo(wan)) == (68, 13)


@pytest.fixture(params=["wan_2.1", "wan_2.2", "strided", "hunyuan_1.5"])
def pictures(request):
    model = make_model(request.param)
    side = model.config.spatial_factor
    generator = torch.Generator().manual_seed(4)
    video = torch.rand(1, 3, 5, 7 * side, 13 * side, generator=generator) * 2 - 1
    with torch.no_grad():
        code = model.encode(video)
        return model, video, code, model.decode(code.mean)


@pytest.mark.parametrize("cells", [3, 64])
def test_tiles_give_the_numbers_of_whole_frames(pictures, cells):
    model, video, code, decoded = pictures
    tile = cells * model.config.spatial_factor
    tiled = tiled_encode(model, video, tile=tile)
    torch.testing.assert_close(tiled.mean, code.mean, **CLOSE)
    torch.testing.assert_close(tiled.logvar, code.logvar, **CLOSE)
    torch.testing.assert_close(tiled_decode(model, code.mean, tile=tile), decoded, **CLOSE)


def test_blended_tiles_come_close_but_no_more(pictures):
    model, video, code, decoded = pictures
    side = model.config.spatial_factor
    errors = []
    for overlap in (side, 3 * side):
        mean = blended_encode(model, video, tile=4 * side, overlap=overlap).mean
        clip = blended_decode(model, code.mean, tile=4 * side, overlap=overlap)
        errors.append(
            [
                ((ours - whole).norm() / whole.norm()).item()
                for ours, whole in ((mean, code.mean), (clip, decoded))
            ]
        )
    assert all(1e-4 < few < 1 for few in errors[0])
    assert all(wide < few for few, wide in zip(*errors, strict=True))


def test_one_blended_tile_is_the_whole_frame(pictures):
    model, video, code, decoded = pictures
    side = 64 * model.config.spatial_factor
    torch.testing.assert_close(
        blended_encode(model, video, tile=side, overlap=0).mean, code.mean, **CLOSE
    )
    torch.testing.assert_close(
        blended_decode(model, code.mean, tile=side, overlap=0), decoded, **CLOSE
    )


def test_a_tile_that_cuts_a_latent_is_refused(pictures):
    model, video, code, _ = pictures
    side = model.config.spatial_factor
    for tile in (0, side + 1):
        with pytest.raises(ValueError, match=f"positive multiples of {side}"):
            tiled_encode(model, video, tile=tile)
        with pytest.raises(ValueError, match=f"tile is {tile} pixels"):
            tiled_decode(model, code.mean, tile=tile)


@pytest.mark.parametrize("variant", sorted(ALL.keys() - IN_TILES))
def test_where_no_halo_is_enough_the_switch_is_named(variant):
    model = make_model(variant)
    side, norm = model.config.spatial_factor, model.config.norm
    with pytest.raises(ValueError, match=f"norm='{norm}'.*blended_encode and blended_decode"):
        tiled_encode(model, torch.zeros(1, 3, 1, side, side), tile=side)
    with pytest.raises(ValueError, match=f"norm='{norm}'.*tiles have no exact result"):
        tiled_decode(model, torch.zeros(1, 4, 1, 1, 1), tile=side)
