"""The limit of the gradient norm: fixed, and following the gradients."""

import math
import statistics

import pytest

from video_platform.training.clipping import SETTLED, Clipping


def after(norms, *, norm=None, deviations=3.0):
    clipping = Clipping(norm, deviations)
    for value in norms:
        clipping.note(value)
    return clipping


NORMS = [2.0 + 0.1 * (i % 5) for i in range(SETTLED)]


def test_a_fixed_limit_stays():
    assert after(NORMS, norm=1.0, deviations=None).limit == 1.0
    assert after(NORMS, deviations=None).limit == math.inf


def test_the_limit_lies_some_deviations_above_the_average():
    expected = statistics.fmean(NORMS) + 3.0 * statistics.pstdev(NORMS)
    assert after(NORMS).limit == pytest.approx(expected)
    assert after(NORMS, norm=2.1).limit == 2.1
    assert after(NORMS[:-1], norm=7.0).limit == 7.0  # too few to tell


def test_one_bad_batch_hardly_lifts_the_limit_and_a_lasting_change_does():
    before = after(NORMS).limit
    assert after([*NORMS, 1e6]).limit < 1.1 * before
    assert after([*NORMS, *[20.0] * 200]).limit > 20.0


def test_the_limit_survives_a_restart():
    whole = after(NORMS)
    resumed = Clipping(None, 3.0)
    resumed.restore(whole.counters())
    assert resumed.limit == whole.limit
    assert after(NORMS, deviations=None).counters() == {}
