"""The closed formulas count what PyTorch counts, for every switch of the transformer."""

import dataclasses

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from video_models.presets import TRANSFORMERS
from video_models.transformer.config import TransformerConfig
from video_models.transformer.costs import parameter_count, transformer_costs
from video_models.transformer.model import VideoTransformer

CONFIG = TransformerConfig(
    latent_channels=4, text_dim=16, num_heads=2, head_dim=12, ffn_dim=40, num_layers=3, freq_dim=32
)
VARIANTS = {
    "plain": {},
    "no norm before the text": {"cross_attention_norm": False},
    "guidance": {"guidance_embedding": True},
    "one token a position": {"patch_size": (1, 1, 1)},
    "long patches": {"patch_size": (3, 2, 1)},
    "absolute positions, masked text": {"absolute_positions": True, "text_padding": "mask"},
    "frames and places": {"attention": "factorised"},
    "windows": {"attention": "windowed", "window": (2, 3, 2), "full_every": 3},
    "modulated by each block": {"modulation": "block"},
    "normed in each head": {"qk_norm": "per_head"},
    "not normed": {"qk_norm": "none", "image_dim": 6},
    "two more texts": {"more_text_dims": (6, 10)},
    "image to video": {"condition_channels": 20, "image_dim": 6},
    "first and last frame": {"image_dim": 6, "image_positions": 7},
    "wide": {"num_heads": 3, "head_dim": 8, "ffn_dim": 7, "num_layers": 1, "freq_dim": 2},
}
SIZE, BATCH, L, IMAGE = (3, 8, 6), 2, 5, 7


def counted(config, size, *, batch, text_tokens, time_per_token=False, recompute=False):
    """Return parameters, and operations forward and backward by ATen name, as PyTorch counts."""
    costs = transformer_costs(config, size, text_tokens=text_tokens)
    with torch.device("meta"):
        model = VideoTransformer(config)
        given = {
            "latents": torch.empty(batch, config.latent_channels, *size),
            "t": torch.empty((batch, costs.tokens) if time_per_token else batch),
            "text": [
                torch.empty(batch, text_tokens, width)
                for width in (config.text_dim, *config.more_text_dims)
            ],
            "guidance": torch.empty(batch) if config.guidance_embedding else None,
            "image": config.image_dim
            and torch.empty(batch, config.image_positions or IMAGE, config.image_dim),
        }
        if config.condition_channels:
            given["condition"] = torch.empty(batch, config.condition_channels, *size)
    if recompute:
        for block in model.blocks:
            run = block.forward
            block.forward = lambda *x, run=run: checkpoint(run, *x, use_reentrant=False)
    with FlopCounterMode(display=False) as forward:
        out = model(**given)
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    return sum(p.numel() for p in model.parameters()), by_name(forward), by_name(backward)


def by_name(counter):
    return {str(name): flops for name, flops in counter.get_flop_counts()["Global"].items()}


@pytest.mark.parametrize("time_per_token", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_and_operations_are_those_that_pytorch_counts(variant, time_per_token):
    config = dataclasses.replace(CONFIG, **VARIANTS[variant])
    given = {"batch": BATCH, "text_tokens": L, "time_per_token": time_per_token}
    parameters, forward, backward = counted(config, SIZE, **given)
    costs = transformer_costs(config, SIZE, image_tokens=IMAGE, **given)
    assert costs.parameters == parameters
    assert (costs.forward.total, costs.backward.total) == (
        sum(forward.values()),
        sum(backward.values()),
    )
    assert (costs.forward.attention, costs.backward.attention) == (
        forward["aten.bmm"],
        backward["aten.bmm"],
    )
    assert costs.training == costs.forward + costs.backward


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_presets_cost_what_pytorch_counts(name):
    config, size = dataclasses.replace(TRANSFORMERS[name], num_layers=2), (5, 20, 26)
    parameters, forward, backward = counted(config, size, batch=1, text_tokens=77)
    image = config.image_positions or IMAGE
    costs = transformer_costs(config, size, text_tokens=77, image_tokens=image)
    assert (costs.parameters, parameter_count(config)) == (parameters, parameters)
    assert costs.forward.total == sum(forward.values())
    assert costs.backward.total == sum(backward.values())


def test_recomputed_blocks_cost_their_forward_pass_once_more():
    given = {"batch": BATCH, "text_tokens": L}
    _, forward, backward = counted(CONFIG, SIZE, **given, recompute=True)
    costs = transformer_costs(CONFIG, SIZE, **given)
    assert sum(forward.values()) == costs.forward.total
    assert sum(backward.values()) == (costs.backward + costs.recomputed).total


def test_packed_samples_cost_what_they_cost_one_by_one():
    sizes = [(3, 8, 6), (1, 4, 4), (2, 4, 8)]
    with torch.device("meta"):
        model = VideoTransformer(CONFIG)
        latents = [torch.empty(CONFIG.latent_channels, *size) for size in sizes]
        t, text = torch.empty(3), torch.empty(3, L, CONFIG.text_dim)
    with FlopCounterMode(display=False) as forward:
        out = model(latents, t, text)
    with FlopCounterMode(display=False) as backward:
        sum(each.sum() for each in out).backward()
    alone = [transformer_costs(CONFIG, size, text_tokens=L) for size in sizes]
    assert forward.get_total_flops() == sum(costs.forward.total for costs in alone)
    assert backward.get_total_flops() == sum(costs.backward.total for costs in alone)


def test_counting_needs_no_torch_and_no_time():
    costs = transformer_costs(TRANSFORMERS["wan-2.1-14b"], (21, 60, 104), text_tokens=512)
    assert costs.tokens == 21 * 30 * 52
    assert costs.forward.attention > costs.forward.linear > costs.forward.embedding
