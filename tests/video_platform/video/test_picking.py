"""The picker against the sentence that defines it."""

import math
from fractions import Fraction

import numpy as np
import pytest

from video_platform.errors import MediaError
from video_platform.video.picking import TOLERANCE_S, FramePicker
from video_platform.video.policy import PixelPolicy


def pick_all(times, stay_s, policy, start_s=0.0):
    """Walk a picker along frames and return the index that each frame of the clip shows."""
    tick = Fraction(1, math.lcm(*(time.denominator for time in times)))
    ticks = [int(time / tick) for time in times]
    picker, shown = FramePicker(policy, tick=tick, start_s=start_s), []
    for index, next_time in enumerate(ticks[1:]):
        foreseen = picker.needs(ticks[index], next_time)
        repeats = picker.until(next_time)
        assert foreseen == (repeats > 0)
        shown += [index] * repeats
        if picker.full:
            return shown
    return shown + [len(times) - 1] * picker.at_end(ticks[-1], stay_s)


def on_screen(times, second):
    """The latest frame that has appeared by then."""
    return max(i for i, time in enumerate(times) if time <= second + TOLERANCE_S)


def a_policy(frames, fps, short="reject"):
    return PixelPolicy(frames=frames, height=8, width=8, fps=fps, short=short)


@pytest.mark.parametrize("seed", range(20))
def test_a_clip_shows_what_is_on_screen_at_its_times(seed):
    rng = np.random.default_rng(seed)
    gaps = rng.integers(1, 200, 60)
    times = [Fraction(int(ms), 1000) for ms in np.cumsum(gaps) - gaps[0]]
    fps = int(rng.integers(1, 60))
    start = Fraction(int(rng.integers(0, 2000)), 1000)
    frames = int((times[-1] - start) * fps)
    expected = [on_screen(times, start + Fraction(k, fps)) for k in range(frames)]
    assert pick_all(times, Fraction(0), a_policy(frames, float(fps)), float(start)) == expected


def test_times_rounded_to_milliseconds_skip_and_repeat_nothing():
    times = [Fraction(round(1000 * k / 30), 1000) for k in range(300)]
    assert pick_all(times, Fraction(33, 1000), a_policy(300, 30.0)) == list(range(300))


def test_ntsc_rates_stay_in_step_with_themselves():
    times = [Fraction(1001 * k, 30_000) for k in range(3000)]
    assert pick_all(times, Fraction(1001, 30_000), a_policy(3000, 30_000 / 1001)) == list(
        range(3000)
    )


def test_the_last_frame_counts_until_the_video_ends():
    times = [Fraction(0), Fraction(1, 10)]
    assert pick_all(times, Fraction(1, 10), a_policy(4, 20.0)) == [0, 0, 1, 1]
    with pytest.raises(MediaError) as caught:
        pick_all(times, Fraction(1, 10), a_policy(5, 20.0))
    assert caught.value.reason == "too_short"
    assert "ends after 4, the clip needs 5 frames at 20.0 a second" in str(caught.value)


def test_a_last_frame_of_no_duration_still_appears():
    times = [Fraction(0), Fraction(1, 10)]
    assert pick_all(times, Fraction(0), a_policy(2, 10.0)) == [0, 1]


def test_a_short_video_can_hold_its_last_frame():
    times = [Fraction(0), Fraction(1, 10)]
    assert pick_all(times, Fraction(0), a_policy(4, 10.0, "repeat_last")) == [0, 1, 1, 1]


def test_a_clip_that_would_begin_behind_the_end_is_rejected_even_if_it_may_hold():
    times = [Fraction(0), Fraction(1, 10)]
    with pytest.raises(MediaError, match=r"from 0\.3 s on"):
        pick_all(times, Fraction(1, 10), a_policy(2, 10.0, "repeat_last"), 0.3)


@pytest.mark.parametrize("start_s", [-0.1, float("nan"), float("inf")])
def test_a_start_that_is_no_moment_is_refused(start_s):
    with pytest.raises(ValueError, match="start_s"):
        FramePicker(a_policy(2, 10.0), tick=Fraction(1, 10), start_s=start_s)
