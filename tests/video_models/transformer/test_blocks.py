"""Blocks can be checkpointed and compiled one by one, whatever kind they are."""

import functools

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from tests.video_models.transformer.test_packing import SIZES, pack
from tests.video_models.transformer.tiny import VARIANTS, inputs_of, relative_error, tiny


def gradients(model, latents, t, rest):
    model.zero_grad()
    outputs = model(latents, t, **rest)
    sum(v.square().mean() for v in outputs).backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def inputs_for(model, packed):
    if not packed:
        return inputs_of(model)
    return pack([inputs_of(model, size, batch=1, seed=seed) for seed, size in enumerate(SIZES)])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_recomputed_blocks_have_the_same_gradients_bit_for_bit(variant, packed):
    model = tiny(**VARIANTS[variant])
    given = inputs_for(model, packed)
    expected = gradients(model, *given)
    for name in model.block_names():
        block = model.get_submodule(name)
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
    for name, gradient in gradients(model, *given).items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=0, msg=name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("variant", ["plain", "windowed", "block modulation", "image tokens"])
def test_compiled_blocks_have_no_graph_break_and_compute_the_same(variant, packed):
    """Takes minutes: `pytest -m slow tests/video_models/transformer/test_blocks.py`."""
    torch.compiler.reset()
    model = tiny(**VARIANTS[variant])
    given = inputs_for(model, packed)
    expected = gradients(model, *given)
    for name in model.block_names():
        model.get_submodule(name).compile(fullgraph=True)
    for name, gradient in gradients(model, *given).items():
        assert relative_error(gradient, expected[name]) < 1e-4, name


def test_blocks_of_a_model_that_is_built_twice_are_the_same():
    first, second = tiny(), tiny()
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b), name
