"""Whatever dies, and whatever the line to the store does: every clip is in the cache once.

`pytest -m slow tests/faults/test_exactly_once.py` kills 300 times a store and prints what it saw.
"""

import time
from collections import Counter

import pytest

from tests.faults.mayhem import check_exactly_once, fill_with_kills
from tests.faults.proxy import FaultyS3, seeded
from video_platform.latents import collect_garbage, verify
from video_platform.storage import Store, open_store

LINE = {"500": 0.02, "503": 0.02, "slow": 0.01, "reset": 0.02, "short": 0.02, "lost": 0.03}
"""How often a request meets each fault."""
CLIPS = 60
KILLS = 15
"""Most kills in the making of one cache: it must come to be."""


@pytest.fixture
def place(store_url, request):
    """Give the URL of a store and what the jobs need of the environment to reach it."""
    if not store_url.startswith("s3://"):
        yield store_url, {}, None
        return
    with FaultyS3(request.getfixturevalue("s3_server"), seeded(11, LINE)) as proxy:
        yield store_url, {"AWS_ENDPOINT_URL": proxy.url, "AWS_MAX_ATTEMPTS": "8"}, proxy


def run(place, *, kills, first_seed):
    """Fill caches, one after the other, until so many processes were killed."""
    url, environment, proxy = place
    killed, orphans, samples, rounds, start_s = Counter(), 0, 0, 0, time.monotonic()
    while killed.total() < kills:
        here = f"{url}/{rounds}"
        killed += fill_with_kills(
            here,
            clips=CLIPS,
            seed=first_seed + rounds,
            kills=min(KILLS, kills - killed.total()),
            environment=environment,
        )
        orphans += check_exactly_once(here, CLIPS)
        samples += CLIPS
        rounds += 1
    print(
        f"{url}: {dict(killed)} killed in {rounds} caches of {CLIPS} clips, {orphans} orphans, "
        f"{samples} clips once each, {time.monotonic() - start_s:.0f} s"
        + (f", requests {proxy.counts()}" if proxy else "")
    )
    return rounds


def test_every_clip_is_stored_once_whatever_is_killed(place, monkeypatch):
    rounds = run(place, kills=12, first_seed=1)
    clock = Store.clock
    monkeypatch.setattr(Store, "clock", lambda store: clock(store) + 8 * 86_400)
    for number in range(rounds):
        url = f"{place[0]}/{number}"
        collect_garbage(url)
        assert verify(url) == []
        assert open_store(url).unfinished() == {}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_clip_is_stored_once_after_300_kills(place):
    run(place, kills=300, first_seed=1000)
