"""The closed formulas count what PyTorch counts, for every switch of the joint transformer."""

import dataclasses

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from tests.video_models.transformer.tiny_joint import CONFIG, VARIANTS
from video_models.presets import JOINT_TRANSFORMERS
from video_models.transformer.joint import JointTransformer
from video_models.transformer.joint_costs import joint_costs, joint_parameter_count

CASES = {
    **{name: dataclasses.replace(CONFIG, **changes) for name, changes in VARIANTS.items()},
    **{
        name: dataclasses.replace(config, num_layers=2, num_single_layers=2)
        for name, config in JOINT_TRANSFORMERS.items()
    },
}
SIZE, BATCH, L = (3, 8, 6), 2, 5


def counted(config, *, recompute=False, times=()):
    """Return parameters, and operations forward and backward, as PyTorch counts them."""
    with torch.device("meta"):
        model = JointTransformer(config)
        given = {
            "latents": torch.empty(BATCH, config.latent_channels, *SIZE),
            "t": torch.empty(BATCH, *times),
            "text": torch.empty(BATCH, L, config.text_dim),
            "guidance": torch.empty(BATCH) if config.guidance_embedding else None,
            "pooled": config.pooled_dim and torch.empty(BATCH, config.pooled_dim),
        }
        if config.condition_channels:
            given["condition"] = torch.empty(BATCH, config.condition_channels, *SIZE)
    if recompute:
        for name in model.block_names():
            block = model.get_submodule(name)
            run = block.forward
            block.forward = lambda *x, run=run: checkpoint(run, *x, use_reentrant=False)
    with FlopCounterMode(display=False) as forward:
        out = model(**given)
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    return (
        sum(p.numel() for p in model.parameters()),
        forward.get_total_flops(),
        backward.get_total_flops(),
    )


@pytest.mark.parametrize("case", CASES)
def test_parameters_and_operations_are_those_that_pytorch_counts(case):
    config = CASES[case]
    parameters, forward, backward = counted(config)
    costs = joint_costs(config, SIZE, batch=BATCH, text_tokens=L)
    assert (costs.parameters, joint_parameter_count(config)) == (parameters, parameters)
    assert costs.tokens == BATCH * 36 // config.patch_size[0]
    assert costs.forward.total == forward
    assert costs.backward.total == backward


@pytest.mark.parametrize("case", ["pooled text", "guidance", "only single blocks"])
def test_a_time_for_each_token_is_counted(case):
    _, forward, backward = counted(CASES[case], times=(36,))
    costs = joint_costs(CASES[case], SIZE, batch=BATCH, text_tokens=L, time_per_token=True)
    assert (costs.forward.total, costs.backward.total) == (forward, backward)


def test_recomputed_blocks_cost_their_forward_pass_once_more():
    config = CASES["pooled text"]
    _, forward, backward = counted(config, recompute=True)
    costs = joint_costs(config, SIZE, batch=BATCH, text_tokens=L)
    assert forward == costs.forward.total
    assert backward == (costs.backward + costs.recomputed).total
