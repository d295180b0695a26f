"""Checkpoints on a store that fails: a full disk, a bad line, an outage that ends or does not."""

import resource
import time

import pytest

from tests.faults.proxy import FaultyS3, seeded
from tests.video_platform.training.saved_network import Network, checkpoints, load, save
from tests.video_platform.training.test_checkpoint import keys_of, steps_of
from video_platform.errors import CheckpointError, StorageError
from video_platform.storage import open_store
from video_platform.training import patience
from video_platform.training.patience import Patience


@pytest.mark.parametrize("room", [0, 130, 350])
def test_a_full_disk_leaves_the_earlier_checkpoint_and_says_so(tmp_path, room, caplog):
    """So many bytes a file: the first file does not fit, a later one, or the manifest."""
    save(tmp_path, 1)
    before = open_store(tmp_path).list()
    store = checkpoints(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        store.save({"net": Network(2)}, step=2, state={})
        with pytest.raises(CheckpointError, match=r"step 2 could not .*not allowed.*keep_ch"):
            store.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "once more" not in caplog.text, "only a person can help"
    assert set(open_store(tmp_path).list()) >= set(before)
    assert not open_store(tmp_path).exists("step-00000002/manifest.json")
    assert load(tmp_path)[0] == 1
    save(tmp_path, 3)
    assert keys_of(tmp_path, 2) == []


def test_a_failure_shows_at_the_next_save(tmp_path):
    (tmp_path / "step-00000001").write_text("in the way")
    store = checkpoints(tmp_path)
    store.save({"net": Network(1)}, step=1, state={})
    with pytest.raises(CheckpointError, match="the checkpoint of step 1 could not be written"):
        store.save({"net": Network(2)}, step=2, state={})


def test_a_failing_line_to_s3_costs_only_time(s3_url, s3_server, monkeypatch):
    words = {"503": 0.04, "500": 0.04, "reset": 0.04, "lost": 0.04, "short": 0.04}
    with FaultyS3(s3_server, seeded(5, words)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        save(s3_url, 1, 2, 3, good=(2,))
        step, network = load(s3_url)
        assert len(proxy.counts()) >= 5
    assert step == 3 and network.equals(Network(3))
    assert steps_of(s3_url) == [2, 3]


def test_an_outage_of_s3_is_sat_out_while_training_goes_on(s3_url, s3_server, monkeypatch, caplog):
    """One that the store's own repeats do not bridge, in the middle of a save and at its end."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(patience, "PAUSES_S", (0.05, 0.05, 0.05))
    outages = {1, 3, 4, 6, 9}  # a file, the record of it twice, the list of records, the manifest
    with FaultyS3(s3_server, lambda number: "503" if number in outages else "ok") as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        store = checkpoints(s3_url)
        store.save({"net": Network(1)}, step=1, state={"turn": 1})
        store.wait()
        assert proxy.counts()["503"] == 5
        assert load(s3_url)[1].equals(Network(1))
    lines = [line for line in caplog.messages if "once more in 0.05 s" in line]
    assert [line.partition(" failed")[0] for line in lines] == [
        "writing rank-00000-00001.safetensors of step 1", *["telling of rank 0 in step 1"] * 2,
        *["committing step 1"] * 2,
    ]  # fmt: skip


def test_an_outage_of_s3_without_end_is_told_after_a_few_attempts(s3_url, s3_server, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(patience, "PAUSES_S", (0.01, 0.02))
    with FaultyS3(s3_server, lambda number: "503") as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        store = checkpoints(s3_url)
        store.save({"net": Network(1)}, step=1, state={})
        with pytest.raises(CheckpointError, match=r"step 1 could not be written.*AWS_MAX_ATTEMPTS"):
            store.wait()
        assert len(proxy.seen) == 3 + 1, "three attempts, and one to tell of them"


def test_nothing_is_begun_anew_that_others_would_not_wait_for(monkeypatch):
    monkeypatch.setattr(patience, "PAUSES_S", (5.0,))
    tried = []

    def fail():
        tried.append(time.monotonic())
        raise StorageError("away")

    with pytest.raises(StorageError, match="away"):
        Patience(8).insist(fail, doing="writing")
    assert len(tried) == 1


def test_s3_out_of_reach_is_told_and_taken_neither_for_an_empty_store_nor_a_torn_checkpoint(
    s3_url, s3_server, monkeypatch
):
    save(s3_url, 1)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(patience, "PAUSES_S", ())
    with FaultyS3(s3_server, lambda number: "503" if proxy_down else "ok") as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy_down = True
        store = checkpoints(s3_url)
        store.save({"net": Network(2)}, step=2, state={})
        with pytest.raises(CheckpointError, match="could not be written to s3://"):
            store.wait()
        with pytest.raises(StorageError):
            load(s3_url)
        proxy_down = False
        assert load(s3_url)[0] == 1
