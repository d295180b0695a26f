"""Policies, limits and reasons refuse what makes no sense, in plain words."""

import pytest

from video_platform.config import load_recipe, to_yaml
from video_platform.video.limits import REASONS, MediaLimits, reject
from video_platform.video.policy import PixelPolicy


@pytest.mark.parametrize("field", ["frames", "height", "width"])
def test_a_policy_without_pixels_is_refused(field):
    sizes = {"frames": 5, "height": 8, "width": 8, field: 0}
    with pytest.raises(ValueError, match=rf"{field} = 0; it must be at least 1"):
        PixelPolicy(fps=8.0, **sizes)


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_a_policy_without_a_rate_is_refused(fps):
    with pytest.raises(ValueError, match="fps = "):
        PixelPolicy(frames=5, height=8, width=8, fps=fps)


def test_a_policy_survives_a_recipe(tmp_path):
    policy = PixelPolicy(frames=5, height=8, width=8, fps=12.5, untagged="by_size")
    (tmp_path / "recipe.yaml").write_text(to_yaml(policy))
    assert load_recipe(PixelPolicy, tmp_path / "recipe.yaml") == policy


def test_a_limit_of_nothing_is_refused():
    with pytest.raises(ValueError, match="timeout_s = 0; it must be a number above 0"):
        MediaLimits(timeout_s=0)


def test_a_reject_says_its_reason_and_its_detail():
    error = reject("too_long", "max_duration_s = 5")
    assert error.reason == "too_long"
    assert str(error) == f"too_long: {REASONS['too_long']} (max_duration_s = 5)"


def test_a_reason_outside_the_table_is_a_defect():
    with pytest.raises(KeyError):
        reject("bad_hair_day")
