"""Training knobs: what is refused, and in which words."""

import pytest

from video_platform.training.config import TrainingConfig

SIZES = {"steps": 10, "batch_size": 8, "micro_batch_size": 2}


def test_batches_of_tokens_hold_more_of_what_is_small():
    config = TrainingConfig(steps=1, batch_tokens=1000, micro_batch_tokens=300, batch_multiple=4)
    assert [config.sizes(tokens) for tokens in (10, 30, 200, 5000)] == [
        (100, 30), (32, 10), (4, 1), (4, 1),
    ]  # fmt: skip
    assert TrainingConfig(**SIZES).sizes(10) == (8, 2)
    assert config.sizes(10, draws=4) == (24, 30)
    assert TrainingConfig(**SIZES).sizes(10, draws=4) == (2, 2)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"zero_stage": 0, "precision": "bf16"}, "use zero_stage 1, 2 or 3, or precision fp32"),
        ({"zero_stage": 0, "offload_optimizer": "cpu"}, "needs zero_stage 1, 2 or 3"),
        ({"micro_batch_size": 9}, "a micro-batch of 9 is larger than its batch of 8"),
        ({"batch_tokens": 9}, "batch_size, batch_tokens, micro_batch_size is given; give"),
        ({"batch_size": None, "micro_batch_size": None}, "no size of a batch is given; give"),
        ({"batch_multiple": 0}, "batch_multiple is at least 1"),
        ({"draws": 3}, "batch_size = 8 is not in 3 equal draws"),
        ({"draws": 2, "pack": True}, "it needs batch_tokens and micro_batch_tokens, and draws"),
        ({"steps": 0}, "steps is at least 1"),
        ({"learning_rate": 0.0}, "learning_rate is above 0"),
        ({"ema_decay": 1.0}, r"ema_decay is in \[0, 1\) or null"),
        ({"clip_norm": 0.0}, "clip_norm is above 0, or null"),
        ({"clip_deviations": 0.0}, "clip_deviations is above 0, or null"),
        ({"checkpoint_every": 0}, "checkpoint_every is at least 1"),
        ({"keep_checkpoints": 0}, "keep_checkpoints is at least 1"),
        ({"keep_every": 0}, "keep_every is at least 1"),
        ({"keep_every": 7, "checkpoint_every": 5}, "keep_every = 7 is no multiple of checkpoint_e"),
        ({"final_learning_rate_fraction": 2.0}, "between 0 and 1"),
    ],
)
def test_bad_knobs_are_refused_with_the_way_out(knobs, words):
    with pytest.raises(ValueError, match=words):
        TrainingConfig(**(SIZES | knobs))


@pytest.mark.parametrize(
    ("knobs", "named"),
    [
        ({"offload_parameters": "cpu", "zero_stage": 2}, "offload_parameters"),
        ({"compile_blocks": True, "zero_stage": 3}, "compile_blocks"),
        ({"checkpoint_keeps": "products"}, "activation_checkpointing"),
        ({"checkpoint_every_block": 2}, "activation_checkpointing"),
        ({"sequence_parallel": 0}, "sequence_parallel"),
        ({"more_ema_decays": (1.0,)}, "more_ema_decays"),
        ({"ema_widths": (0.5,)}, "ema_widths"),
        ({"decay_share": 0.0}, "decay_share"),
    ],
)
def test_modes_that_cannot_be_are_refused_by_name(knobs, named):
    with pytest.raises(ValueError, match=named):
        TrainingConfig(steps=1, batch_size=1, micro_batch_size=1, **knobs)
