"""A model can be asked for more tokens than it was trained on, if it says how."""

import pytest
import torch

from tests.video_models.transformer.tiny import inputs_of, relative_error, tiny

SMALL, LARGE = (3, 4, 4), (9, 4, 4)


def answers(size, **changes):
    model = tiny(**changes)
    latents, t, rest = inputs_of(model, size)
    with torch.no_grad():
        return model(latents, t, **rest)


def test_more_positions_than_trained_are_refused_without_a_rule():
    with pytest.raises(ValueError, match="9 tokens along one axis; max_positions allows 4"):
        answers(LARGE, max_positions=4)


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("rule", ["interpolation", "ntk"])
@pytest.mark.parametrize("trained", [{"max_positions": 4}, {"trained_grid": (4, 4, 4)}])
def test_a_rule_changes_what_lies_beyond_the_training_alone(rule, trained, absolute):
    told = {"extrapolation": rule, **trained, "absolute_positions": absolute}
    plain = {"absolute_positions": absolute}
    torch.testing.assert_close(answers(SMALL, **told), answers(SMALL, **plain), rtol=0, atol=0)
    assert relative_error(answers(LARGE, **told), answers(LARGE, **plain)) > 1e-4
