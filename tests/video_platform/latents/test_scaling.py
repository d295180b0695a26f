"""How large the pools become, and how busy they are said to be."""

import pytest

from video_platform.latents.meter import Meter
from video_platform.latents.scaling import BUSY, Side, rescale


def side(size, busy, *, waiting=0, least=1, most=8):
    return Side(size=size, waiting=waiting, busy=busy, least=least, most=most)


def test_the_side_that_holds_the_other_up_grows():
    assert rescale(side(2, 1.0), side(1, 0.6)) == (4, 1)
    assert rescale(side(4, 0.8), side(1, 1.0)) == (4, 2)


def test_it_grows_by_no_more_than_the_other_side_can_use_and_at_most_doubles():
    assert rescale(side(4, 1.0), side(1, 0.8)) == (5, 1)
    assert rescale(side(2, 1.0), side(1, 0.01)) == (4, 1)


def test_it_grows_to_no_more_than_the_most():
    assert rescale(side(7, 1.0), side(1, 0.1)) == (8, 1)


def test_it_does_not_grow_while_the_cluster_has_no_room_for_those_that_were_asked_for():
    decoders, _ = rescale(side(2, 1.0, waiting=1), side(1, 0.5))
    assert decoders == 3


def test_where_the_slow_side_cannot_grow_the_other_gives_back_what_it_does_not_need():
    assert rescale(side(6, 0.3), side(1, 1.0, most=1)) == (2, 1)
    assert rescale(side(6, 0.3), side(1, 1.0, waiting=1)) == (2, 2)
    assert rescale(side(6, 0.3, least=4), side(1, 1.0, most=1)) == (4, 1)


def test_nothing_changes_while_both_are_busy_or_neither_is():
    assert rescale(side(3, 0.95), side(2, 0.95)) == (3, 2)
    assert rescale(side(3, 0.2), side(2, 0.2)) == (3, 2)


@pytest.mark.parametrize(("decode_s", "encode_s"), [(4.0, 1.0), (1.0, 3.0), (1.0, 1.0), (7.9, 1.0)])
def test_pools_settle_where_neither_side_waits_long(decode_s, encode_s):
    decoders, encoders = 1, 1
    sizes = []
    for _ in range(12):
        pace = min(decoders / decode_s, encoders / encode_s)
        busy = pace * decode_s / decoders, pace * encode_s / encoders
        decoders, encoders = rescale(side(decoders, busy[0]), side(encoders, busy[1]))
        sizes.append((decoders, encoders))
    assert min(busy) >= 0.75
    assert sizes[-1] == sizes[-2], "and stay there"


def test_a_meter_says_which_share_of_the_actors_time_had_work():
    meter = Meter()
    assert meter.share() == 0
    meter.tell(10.0, size=2, busy=1)
    meter.tell(14.0, size=4, busy=4)
    assert meter.share() == 0.5
    mark = meter.mark()
    meter.tell(15.0, size=0, busy=0)
    meter.tell(99.0, size=0, busy=0)
    assert meter.share() == pytest.approx(8 / 12)
    assert meter.share(mark) == 1.0
    assert BUSY < 1
