"""HunyuanVideo's folders open, compute what diffusers computes, train, and open there again."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file

from video_models.autoencoder.model import Autoencoder
from video_models.formats import ModelFormatError, fingerprint, open_autoencoder, save_autoencoder
from video_models.formats.hunyuan import from_tree
from video_models.presets import AUTOENCODERS

PEERS = {
    "AutoencoderKLHunyuanVideo": {
        "block_out_channels": [8, 16, 16, 32],
        "layers_per_block": 2,
        "latent_channels": 4,
        "norm_num_groups": 4,
    },
    "AutoencoderKLHunyuanVideo15": {
        "block_out_channels": [8, 16, 32, 32, 32],
        "layers_per_block": 1,
        "latent_channels": 4,
    },
}
HUNYUAN, HUNYUAN_15 = PEERS


@pytest.fixture(params=PEERS)
def peer(request):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    return off_the_start(getattr(diffusers, request.param)(**PEERS[request.param]).eval())


def off_the_start(peer):
    """Leave no gain at 1 and no shift at 0, and keep diffusers from blending pieces in time."""
    peer.use_framewise_encoding = peer.use_framewise_decoding = False
    with torch.no_grad():
        for name, parameter in peer.named_parameters():
            if "norm" in name:
                parameter.add_(torch.rand_like(parameter) - 0.5)
    return peer


def relative_error(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm()).item()


def assert_computes_the_same(ours, peer, *, frames, rows, columns):
    side = ours.config.spatial_factor
    video = torch.rand(1, 3, frames, rows * side, columns * side) * 2 - 1
    theirs, posterior = peer.encode(video).latent_dist, ours.encode(video)
    assert relative_error(posterior.mean, theirs.mean) <= 1e-5
    assert relative_error(posterior.logvar, theirs.logvar) <= 1e-5
    latents = 3 * torch.randn_like(theirs.mean)
    assert relative_error(ours.decode(latents), peer.decode(latents).sample) <= 1e-5


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize(
    ("frames", "rows", "columns"), [(1, 3, 5), (5, 5, 3), (17, 3, 1), (33, 1, 3)]
)
def test_a_diffusers_folder_computes_the_same(peer, tmp_path, frames, rows, columns, gradients):
    peer.save_pretrained(tmp_path)
    ours = open_autoencoder(tmp_path)
    with torch.set_grad_enabled(gradients):
        assert_computes_the_same(ours, peer, frames=frames, rows=rows, columns=columns)


def test_two_clips_at_a_time_are_each_as_if_alone(peer, tmp_path):
    peer.save_pretrained(tmp_path)
    ours, side = open_autoencoder(tmp_path), peer.config.spatial_compression_ratio
    videos = torch.rand(2, 3, 5, 2 * side, 3 * side) * 2 - 1
    latents = 3 * torch.randn(2, 4, 2, 2, 3)
    with torch.no_grad():
        means, decoded = ours.encode(videos).mean, ours.decode(latents)
        for at in range(2):
            theirs = peer.encode(videos[at : at + 1]).latent_dist.mean[0]
            assert relative_error(means[at], theirs) <= 1e-5
            assert relative_error(decoded[at], peer.decode(latents[at : at + 1]).sample[0]) <= 1e-5


def test_after_training_our_folder_computes_the_same_in_diffusers(peer, tmp_path):
    peer.save_pretrained(tmp_path / "theirs")
    ours = open_autoencoder(tmp_path / "theirs").train()
    side = ours.config.spatial_factor
    optimiser = torch.optim.SGD(ours.parameters(), lr=0.1)
    video = torch.rand(1, 3, 5, side, side) * 2 - 1
    reconstruction, posterior = ours(video, torch.randn(1, 4, 2, 1, 1))
    ((reconstruction - video).square().mean() + 1e-3 * posterior.kl().mean()).backward()
    assert [name for name, p in ours.named_parameters() if p.grad is None] == []
    torch.nn.utils.clip_grad_norm_(ours.parameters(), 1.0)
    optimiser.step()
    save_autoencoder(ours.eval(), tmp_path / "ours", format="diffusers")
    again = type(peer).from_pretrained(tmp_path / "ours").eval()
    assert fingerprint(again) != fingerprint(peer)
    with torch.no_grad():
        assert_computes_the_same(ours, again, frames=5, rows=3, columns=1)


def test_a_published_model_saved_by_us_opens_in_diffusers(peer, tmp_path):
    peer.save_pretrained(tmp_path / "theirs")
    save_autoencoder(open_autoencoder(tmp_path / "theirs"), tmp_path / "ours")
    again = type(peer).from_pretrained(tmp_path / "ours")
    assert fingerprint(again) == fingerprint(peer)
    mine, published = (
        json.loads((tmp_path / whose / "config.json").read_text()) for whose in ("ours", "theirs")
    )
    assert mine == {key: value for key, value in published.items() if key != "_diffusers_version"}


def test_the_same_model_opens_from_our_own_format(peer, tmp_path):
    peer.save_pretrained(tmp_path / "theirs")
    ours = open_autoencoder(tmp_path / "theirs")
    save_autoencoder(ours, tmp_path / "native", format="native")
    again = open_autoencoder(tmp_path / "native")
    assert (again.config, fingerprint(again)) == (ours.config, fingerprint(ours))


def test_latents_are_scaled_as_the_pipelines_scale_them(peer, tmp_path):
    peer.save_pretrained(tmp_path)
    ours = open_autoencoder(tmp_path)
    latents = torch.randn(1, 4, 2, 3, 3)
    torch.testing.assert_close(ours.normalise(latents), latents * peer.config.scaling_factor)


@pytest.mark.parametrize(
    ("name", "kind"), [("hunyuan-video", HUNYUAN), ("hunyuan-video-1.5", HUNYUAN_15)]
)
def test_a_config_that_says_nothing_is_the_published_size(name, kind):
    config = from_tree({"_class_name": kind})
    assert dataclasses.replace(config, latents_std=None) == AUTOENCODERS[name]


@pytest.mark.parametrize(
    ("kind", "changes", "says"),
    [
        (HUNYUAN, {"act_fn": "gelu"}, "act_fn is 'gelu'; only 'silu' is supported"),
        (HUNYUAN, {"mid_block_add_attention": False}, "mid_block_add_attention is False"),
        (HUNYUAN, {"temporal_compression_ratio": 8}, "ratio is 8; only 4 is supported"),
        (HUNYUAN, {"out_channels": 4}, "in_channels is 3, out_channels 4; they must be the same"),
        (HUNYUAN, {"spatial_compression_ratio": 4}, "space must halve between each two"),
        (HUNYUAN, {"block_out_channels": [8, 12, 16, 16]}, "a multiple of the first"),
        (HUNYUAN, {"norm_num_groups": 5}, "norm_groups is 5; it must divide the widths"),
        (HUNYUAN_15, {"downsample_match_channel": False}, "downsample_match_channel is False"),
        (HUNYUAN_15, {"temporal_compression_ratio": 3}, "must be a power of 2, at most 16"),
        (HUNYUAN_15, {"latent_channels": 5}, "5 latent ones out evenly"),
        (HUNYUAN_15, {"block_out_channels": [8, 16, 32, 32, 64]}, "weights and config disagree"),
    ],
)
def test_a_config_that_is_not_supported_is_refused(tmp_path, kind, changes, says):
    diffusers = pytest.importorskip("diffusers")
    getattr(diffusers, kind)(**PEERS[kind]).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ModelFormatError, match=says):
        open_autoencoder(tmp_path)


@pytest.mark.parametrize(
    ("kind", "changes", "says"),
    [
        (HUNYUAN, {"padding": "first_frame"}, "no HunyuanVideo autoencoder with padding='first_fr"),
        (HUNYUAN, {"norm": "channel_rms"}, "autoencoder with norm='channel_rms', with"),
        (HUNYUAN, {"time_up": (True, True, False)}, r"with time_up=\(True, True, False\);"),
        (HUNYUAN, {"dropout": 0.1, "patch_size": 2}, "autoencoder with "),
        (HUNYUAN, {"latents_std": (1.0, 2.0, 1.0, 1.0)}, "deviation for each latent channel"),
        (HUNYUAN_15, {"latent_convs": True}, "no HunyuanVideo 1.5 autoencoder with latent_convs"),
        (HUNYUAN_15, {"latents_mean": (1.0,) * 4}, "with a mean or a standard deviation for each"),
    ],
)
def test_what_diffusers_cannot_express_is_named_and_saved_natively(tmp_path, kind, changes, says):
    config = from_tree({"_class_name": kind, **PEERS[kind]})
    model = Autoencoder(dataclasses.replace(config, **changes))
    with pytest.raises(ModelFormatError, match=says):
        save_autoencoder(model, tmp_path / "vae", format="diffusers")
    save_autoencoder(model, tmp_path / "vae")
    again = open_autoencoder(tmp_path / "vae")
    assert (again.config, fingerprint(again)) == (model.config, fingerprint(model))


def test_a_parameter_without_a_place_is_named(peer, tmp_path):
    peer.save_pretrained(tmp_path)
    (weights,) = tmp_path.glob("*.safetensors")
    state = peer.state_dict() | {"encoder.extra.weight": torch.zeros(1)}
    save_file(state, weights)
    with pytest.raises(ModelFormatError, match=r"Unexpected key.*encoder\.extra\.weight"):
        open_autoencoder(tmp_path)
    del state["encoder.extra.weight"], state["encoder.mid_block.attentions.0.to_k.bias"]
    save_file(state, weights)
    with pytest.raises(ModelFormatError, match=r"attentions\.0\.to_qkv\.bias"):
        open_autoencoder(tmp_path)
