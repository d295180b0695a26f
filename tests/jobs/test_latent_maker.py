"""Frames to latents inside an encoder: cut or whole, and looked at twice."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image

from jobs.latent_maker import LatentMaker, latent_layer
from tests.tiny import make_autoencoder
from video_models.formats import save_autoencoder
from video_platform.datasets.record import Record
from video_platform.errors import ConfigError
from video_platform.latents.config import CacheConfig
from video_platform.video.policy import ClipSize, PixelPolicy

WHOLE = CacheConfig(url="a")
ALL = {"13x16x16": 1 << 64, "13x16x32": 1 << 64}
"""Bounds of draws below which every clip is."""


def frames(height=16, width=16, number=13, clips=2):
    draw = np.random.default_rng(0)
    coarse = draw.integers(0, 256, (clips, number, height // 4, width // 4, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=2).repeat(4, axis=3)


def records(count=2, url="/videos"):
    fields = {"key": "k", "size_bytes": 1, "identity": "v"}
    return [Record(id=f"{number}.mp4", url=url, **fields) for number in range(count)]


def make(shape=(16, 16, 13), bounds=ALL, **cache):
    maker = LatentMaker(make_autoencoder(), dataclasses.replace(WHOLE, **cache), bounds)
    return maker(frames(*shape), records())


@pytest.mark.parametrize(
    "cut", [{"chunk_frames": 4}, {"chunk_frames": 5}, {"tile_pixels": 8}, {"tile_pixels": 12}]
)
def test_chunks_and_tiles_change_no_latent(cut):
    for one, whole in zip(make(**cut), make(), strict=True):
        assert list(one.tensors) == ["mean", "logvar"]
        for name, tensor in whole.tensors.items():
            torch.testing.assert_close(one.tensors[name], tensor, atol=1e-5, rtol=1e-4)
        assert whole.finding.difference is None
        assert 0 <= one.finding.difference < 1e-5


def test_tiles_cut_only_what_is_larger():
    assert make(tile_pixels=16)[0].finding.difference is None
    assert make(shape=(16, 32, 13), tile_pixels=16)[0].finding.difference is not None


def test_what_chunks_get_wrong_is_measured(monkeypatch):
    def forgetful(self, chunks):
        yield from (self.encode(torch.cat([chunk[:, :, :1]] * 5, dim=2)) for chunk in [*chunks][:2])

    monkeypatch.setattr("video_models.autoencoder.model.Autoencoder.encode_stream", forgetful)
    assert make(chunk_frames=4)[0].finding.difference > 0.1


def test_the_psnr_is_that_of_the_latents_as_they_are_stored():
    model = make_autoencoder()
    video = torch.from_numpy(frames()).movedim(-1, 1).float() / 127.5 - 1
    with torch.no_grad():
        stored = model.encode(video).mean.bfloat16().float()
        error = (model.decode(stored).clamp(-1, 1) - video).square().mean((1, 2, 3, 4))
    cache = dataclasses.replace(WHOLE, stored="bfloat16")
    found = [made.finding for made in LatentMaker(model, cache, ALL)(frames(), records())]
    assert [each.bucket for each in found] == ["13x16x16"] * 2
    for each, expected in zip(found, 10 * torch.log10(4 / error), strict=True):
        assert each.psnr_db == pytest.approx(float(expected), abs=1e-5)  # rounding moves it by 2e-4


def test_only_the_sampled_share_is_looked_at_and_never_the_canary():
    assert all(made.finding is None for made in make(bounds={}))
    maker = LatentMaker(make_autoencoder(), WHOLE, ALL)
    assert maker(frames(), records(url=""))[0].finding is None


def test_the_first_clip_of_a_bucket_and_each_that_is_worse_is_drawn():
    maker = LatentMaker(make_autoencoder(), WHOLE, ALL)
    found = [made.finding for made in maker(frames(clips=6), records(6))]
    worst, drawn = float("inf"), 0
    for each in found:
        assert (each.strip is not None) == (each.psnr_db < worst)
        worst, drawn = min(worst, each.psnr_db), drawn + (each.strip is not None)
    assert drawn < 6
    picture = Image.open(io.BytesIO(found[0].strip))
    assert picture.width > picture.height > 3 * 64


def test_latents_that_are_no_numbers_are_not_measured():
    model = make_autoencoder()
    next(model.encoder.parameters()).data.fill_(float("nan"))
    assert LatentMaker(model, WHOLE, ALL)(frames(), records())[0].finding is None


def test_a_layer_is_bound_to_weights_and_never_to_chunks(tmp_path):
    save_autoencoder(make_autoencoder(), tmp_path)
    policy = PixelPolicy(frames=13, height=16, width=16, fps=8.0)

    def layer(**changes):
        cache = dataclasses.replace(WHOLE, **changes)
        return latent_layer(str(tmp_path), policy, [policy.size], cache)

    assert layer(chunk_frames=4, tile_pixels=8).fingerprint == layer().fingerprint
    assert layer(compute="bfloat16").fingerprint != layer().fingerprint
    with pytest.raises(ConfigError, match=r"tile_pixels is 6; a latent .* is 4 pixels wide"):
        layer(tile_pixels=6)
    with pytest.raises(ConfigError, match="clip of 6 frames does not fit"):
        latent_layer(str(tmp_path), policy, [policy.size, ClipSize(6, 16, 16)], WHOLE)
