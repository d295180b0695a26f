"""One driver a run, on a disk and in S3."""

import dataclasses
import json
import subprocess
import sys
import threading
import time

import pytest

from video_platform.errors import LeaseError
from video_platform.storage import open_store
from video_platform.training.lease import Holder, Lease

HOLD = """
import sys, time
from video_platform.training.lease import Lease
with Lease(sys.argv[1], beat_s=0.2):
    print("held", flush=True)
    time.sleep(60)
"""
BEAT_S = 0.2


def take(url):
    return Lease(url, beat_s=BEAT_S)


def from_elsewhere(url):
    """Make the holder look as if it were on another machine."""
    store = open_store(url)
    (key,) = store.list()
    holder = json.loads(store.read(key))
    store.put(key, json.dumps(holder | {"machine": "another", "host": "far-away"}).encode())


def test_a_second_driver_is_refused_and_told_who_holds_the_run(store_url):
    with take(store_url), pytest.raises(LeaseError, match=r"process \d+ on .* holds .*; end it"):
        take(store_url).__enter__()
    with take(store_url), take(f"{store_url}-other"):
        pass


def test_a_lease_given_back_is_free_at_once(store_url):
    for _ in range(3):
        start_s = time.monotonic()
        with take(store_url):
            assert time.monotonic() - start_s < BEAT_S * 5
    assert len(open_store(store_url).list()) == 1


def test_a_holder_that_was_killed_on_this_machine_is_replaced_at_once(tmp_path):
    url = str(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, url], stdout=subprocess.PIPE, text=True,
        env={"PYTHONPATH": "platform"},
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "held\n"
        with pytest.raises(LeaseError, match=f"process {process.pid} "):
            take(url).__enter__()
        process.kill()
        process.wait()
        start_s = time.monotonic()
        with Lease(url, beat_s=30):
            assert time.monotonic() - start_s < 10


def test_a_holder_elsewhere_is_replaced_only_when_it_has_been_silent(store_url):
    with take(store_url) as held:
        held._stop.set()  # it falls asleep
        held._thread.join()
        from_elsewhere(store_url)
        start_s = time.monotonic()
        with take(store_url):
            assert time.monotonic() - start_s > BEAT_S * 3
            held._stop.clear()
            held._beat()  # it wakes up
            with pytest.raises(LeaseError, match="taken over by another driver"):
                held.check()


def test_of_many_drivers_that_take_over_at_once_one_succeeds(tmp_path):
    url, start = str(tmp_path), threading.Barrier(8)
    gone = dataclasses.replace(Holder.this_process(), ended=True)
    open_store(url).put("00000001.json", json.dumps(dataclasses.asdict(gone)).encode())
    held, refused = [], []

    def try_it():
        lease = take(url)
        start.wait()
        try:
            held.append(lease.__enter__())
        except LeaseError:
            refused.append(lease)

    threads = [threading.Thread(target=try_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for lease in held:
        lease.__exit__()
    assert len(held) == 1 and len(refused) == 7
