"""Training knobs: what is refused, and in which words."""

import pytest

from video_platform.training.config import TrainingConfig

SIZES = {"steps": 10, "batch_size": 8, "micro_batch_size": 2}


def test_accumulation_follows_from_the_number_of_workers():
    config = TrainingConfig(**SIZES)
    assert [config.accumulation(world) for world in (1, 2, 4)] == [4, 2, 1]


def test_a_batch_that_does_not_divide_names_the_knobs():
    with pytest.raises(ValueError, match="change batch_size, micro_batch_size or the number"):
        TrainingConfig(**SIZES).accumulation(3)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"zero_stage": 0, "precision": "bf16"}, "use zero_stage 1, 2 or 3, or precision fp32"),
        ({"zero_stage": 0, "offload_optimizer": "cpu"}, "needs zero_stage 1, 2 or 3"),
        ({"micro_batch_size": 3}, "no multiple of micro_batch_size 3"),
        ({"steps": 0}, "steps is at least 1"),
        ({"learning_rate": 0.0}, "learning_rate is above 0"),
        ({"ema_decay": 1.0}, r"ema_decay is in \[0, 1\) or null"),
        ({"clip_norm": 0.0}, "clip_norm is above 0, or null"),
        ({"checkpoint_every": 0}, "checkpoint_every is at least 1"),
        ({"final_learning_rate_fraction": 2.0}, "between 0 and 1"),
    ],
)
def test_bad_knobs_are_refused_with_the_way_out(knobs, words):
    with pytest.raises(ValueError, match=words):
        TrainingConfig(**(SIZES | knobs))
