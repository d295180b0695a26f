"""What is decided about faults, without a cluster: skips, spikes, stragglers."""

import random

import pytest

from video_platform.training.config import TrainingConfig
from video_platform.training.faults import (
    SkipPolicy,
    Spike,
    SpikeWatch,
    Straggler,
    Verdict,
    find_stragglers,
)


def policy(**knobs):
    return SkipPolicy(TrainingConfig(steps=1, batch_size=1, micro_batch_size=1, **knobs))


def judged(watch, places, *, checkpointed=True):
    return [watch.judge(place, checkpointed=checkpointed) for place in places]


def test_three_skips_in_a_row_go_back_and_the_third_return_stops():
    watch = policy()
    go, back, stop = Verdict.GO_ON, Verdict.REWIND, Verdict.STOP
    assert judged(watch, [5, 6, 7]) == [go, go, back]
    assert judged(watch, [8, 9, 10]) == [go, go, back]
    assert judged(watch, [20, 21, 22]) == [go, go, stop]
    assert watch.reason == "the loss or gradient of 3 steps was not finite, after 2 rewinds"


def test_skips_with_good_steps_between_them_are_borne_up_to_twenty_in_a_thousand():
    watch = policy()
    assert set(judged(watch, range(0, 38, 2))) == {Verdict.GO_ON}
    assert judged(watch, [40]) == [Verdict.REWIND]


def test_skips_and_returns_are_forgotten_after_a_thousand_steps():
    watch = policy(max_rewinds=1)
    assert set(judged(watch, range(0, 100_000, 60))) == {Verdict.GO_ON}
    assert judged(watch, [200_000, 200_001, 200_002])[-1] is Verdict.REWIND
    assert judged(watch, [202_000, 202_001, 202_002])[-1] is Verdict.REWIND
    assert judged(watch, [202_500, 202_501, 202_502])[-1] is Verdict.STOP


def test_without_a_checkpoint_there_is_nothing_to_go_back_to():
    assert judged(policy(), [0, 1, 2], checkpointed=False)[-1] is Verdict.STOP


def test_what_a_restart_remembers_leads_to_the_same_verdicts():
    draw = random.Random(1)
    places = [place for place in range(4000) if draw.random() < 0.03]
    whole, first, second = policy(), policy(), policy()
    expected = judged(whole, places)
    got = judged(first, places[:60])
    second.load_state_dict(first.state_dict())
    assert got + judged(second, places[60:]) == expected
    assert len(set(expected)) > 1


def test_a_spike_is_told_for_the_bucket_that_it_is_in_and_not_followed():
    watch = SpikeWatch(limit=6.0)
    draw = random.Random(2)
    buckets = {"loss/t-0.1": 0.1, "loss/t-0.9": 1.0}
    for _ in range(200):
        assert watch.note({n: v + draw.gauss(0, 0.01) for n, v in buckets.items()}) == []
    (spike,) = watch.note(buckets | {"loss/t-0.1": 0.5})
    assert isinstance(spike, Spike) and spike.name == "loss/t-0.1"
    assert spike.value == 0.5 and spike.usual == pytest.approx(0.1, abs=0.02)
    assert watch.note({"loss/t-0.9": 1.03, "validation/loss": 99.0}) == []
    assert watch.note({"loss/t-0.1": 0.5})[0].usual < 0.13, "a spike moves the average by little"


def test_a_gradient_norm_that_shoots_up_is_a_spike_and_early_ones_are_not():
    watch = SpikeWatch(limit=6.0)
    assert watch.note({"net/grad_norm": 1.0}) + watch.note({"net/grad_norm": 90.0}) == []
    watch = SpikeWatch(limit=6.0)
    for value in (1.0, 1.1) * 10:
        watch.note({"net/grad_norm": value})
    assert [spike.name for spike in watch.note({"net/grad_norm": 5.0})] == ["net/grad_norm"]
    assert SpikeWatch(limit=None).note({"net/grad_norm": 5.0}) == []


def test_a_rank_that_the_others_wait_for_is_a_straggler():
    seconds = [1.0, 1.1, 0.9, 2.0]
    assert find_stragglers(seconds, ratio=1.5, step_s=3.0) == [Straggler(3, 2.0, 1.0)]
    assert find_stragglers([1.0, 1.2], ratio=1.5, step_s=3.0) == []
    assert find_stragglers([1.0, 1.9], ratio=1.5, step_s=3.0) == [Straggler(1, 1.9, 1.0)]
    assert find_stragglers([0.001, 0.01], ratio=1.5, step_s=1.0) == [], "no matter"
    assert find_stragglers([5.0], ratio=1.5, step_s=1.0) == []
