"""Every second of a run is in one phase, over restarts and returns."""

import pytest

from video_platform.training.attempt import Attempt
from video_platform.training.throughput import PHASES, Ledger


class Clock:
    def __init__(self, now_s):
        self.now_s = now_s

    def __call__(self):
        return self.now_s


def life(now_s, *, began_s, entered_s=None, last_seen_s=None, state=None):
    """Begin a life of a run that began at `began_s`, now."""
    clock = Clock(now_s)
    entered_s = began_s if entered_s is None else entered_s
    attempt = Attempt(began_s=began_s, entered_s=entered_s, last_seen_s=last_seen_s)
    ledger = Ledger(attempt, clock)
    if state is not None:
        with ledger.phase("restore", "step 0"):
            clock.now_s += 2
        ledger.load_state_dict(state)
    return ledger, clock


def work(ledger, clock, **phases):
    for name, seconds in phases.items():
        with ledger.phase(name, "step 1"):
            clock.now_s += seconds


def seconds(ledger):
    return {name: value for name, value in ledger.seconds.items() if value}


def test_phases_add_up_to_the_time_since_the_driver_began():
    ledger, clock = life(110.0, began_s=100.0)
    work(ledger, clock, data=1, step=5, hooks=2, save=1)
    clock.now_s += 3
    assert seconds(ledger) == {
        "init": 10, "data": 1, "step": 5, "hooks": 2, "save": 1, "other": 3,
    }  # fmt: skip
    assert sum(ledger.seconds.values()) == clock.now_s - 100.0
    assert ledger.goodput()["goodput/step"] == pytest.approx(5 / 22)
    assert set(ledger.goodput()) == {f"goodput/{name}" for name in PHASES}


def test_work_after_the_checkpoint_is_lost_and_the_way_back_is_down_time():
    ledger, clock = life(110.0, began_s=100.0)
    work(ledger, clock, step=20)
    state = ledger.state_dict()  # at 130
    work(ledger, clock, step=30)  # seen until 155, dead at 160, back at 170
    ledger, clock = life(175.0, began_s=100.0, entered_s=170.0, last_seen_s=155.0, state=state)
    work(ledger, clock, step=30)
    assert seconds(ledger) == {
        "init": 15, "restore": 2, "step": 50, "lost": 25, "down": 15,
    }  # fmt: skip
    assert sum(ledger.seconds.values()) == clock.now_s - 100.0


def test_a_worker_that_died_before_any_checkpoint_lost_all():
    ledger, clock = life(175.0, began_s=100.0, entered_s=170.0, last_seen_s=155.0)
    assert seconds(ledger) == {"init": 5, "lost": 55, "down": 15}
    assert sum(ledger.seconds.values()) == clock.now_s - 100.0


def test_a_run_that_rests_is_not_charged_for_the_night():
    ledger, clock = life(110.0, began_s=100.0)
    work(ledger, clock, step=20)
    state = ledger.state_dict(resting=True)
    ledger, clock = life(40_005.0, began_s=40_000.0, state=state)
    assert seconds(ledger) == {"init": 15, "restore": 2, "step": 20}


def test_a_driver_that_died_is_charged_for_the_time_until_it_is_back():
    ledger, clock = life(110.0, began_s=100.0)
    work(ledger, clock, step=20)
    state = ledger.state_dict()
    ledger, clock = life(205.0, began_s=200.0, state=state)
    assert seconds(ledger) == {"init": 15, "restore": 2, "step": 20, "lost": 70}
    assert sum(ledger.seconds.values()) == clock.now_s - 100.0


def test_a_return_to_a_checkpoint_makes_what_was_done_since_lost():
    ledger, clock = life(110.0, began_s=100.0)
    work(ledger, clock, step=20, data=1)
    state = ledger.state_dict()
    work(ledger, clock, step=7, data=2, hooks=1)
    ledger.rewind(state)
    assert seconds(ledger) == {"init": 10, "step": 20, "data": 1, "hooks": 1, "lost": 9}
    assert sum(ledger.seconds.values()) == clock.now_s - 100.0


def test_a_reading_gives_the_shares_and_rates_since_the_last_one():
    ledger, clock = life(110.0, began_s=100.0)
    work(ledger, clock, step=3, data=1)
    first = ledger.read(steps=2, samples=8)
    assert first == {"time/data": 0.25, "time/step": 0.75, "steps_per_s": 0.5, "samples_per_s": 2.0}
    work(ledger, clock, step=1)
    assert ledger.read(steps=1, samples=4)["time/step"] == 1.0


@pytest.mark.parametrize("last_seen_s", [None, 155.0])
@pytest.mark.parametrize("saved", [False, True])
def test_the_shares_of_every_reading_add_up_to_one(last_seen_s, saved):
    """Of the first one of a life, of the next, and of the first one after a return."""
    before, clock = life(110.0, began_s=100.0)
    work(before, clock, step=20)
    state = before.state_dict() if saved else None
    entered_s = 100.0 if last_seen_s is None else 170.0
    ledger, clock = life(
        175.0, began_s=100.0, entered_s=entered_s, last_seen_s=last_seen_s, state=state
    )
    work(ledger, clock, data=1, step=4)
    first = ledger.read(steps=2, samples=8)
    clock.now_s += 3
    work(ledger, clock, step=1)
    second = ledger.read(steps=1, samples=4)
    state = ledger.state_dict()
    work(ledger, clock, step=7, hooks=2)
    ledger.rewind(state)
    work(ledger, clock, step=4, save=1)
    third = ledger.read(steps=1, samples=4)
    for read in (first, second, third):
        shares = {name: value for name, value in read.items() if name.startswith("time/")}
        assert sum(shares.values()) == pytest.approx(1.0)
    assert "time/init" not in first and first["steps_per_s"] == pytest.approx(2 / 5)
    assert third == {
        "time/step": 0.8, "time/save": 0.2, "steps_per_s": 0.2, "samples_per_s": 0.8,
    }  # fmt: skip


def test_the_watchdog_is_told_what_is_done():
    told = []
    ledger = Ledger(Attempt(alive=told.append))
    with ledger.phase("save", "step 7"):
        pass
    assert told == ["save of step 7"]
