"""Checkpoints on a disk and in S3: whole or not there, the newest valid one is read, others go."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.proxy import FaultyS3
from tests.video_platform.training.saved_network import Network, checkpoints, load, save
from tests.video_platform.training.test_engine import launch
from video_platform.errors import CheckpointError
from video_platform.latents.sealed import seal
from video_platform.storage import open_store
from video_platform.training.checkpoint import fingerprint

ROOT = Path(__file__).parents[3]


def keys_of(url, step, *, ending=""):
    return [key for key in open_store(url).list(f"step-{step:08d}") if key.endswith(ending)]


def steps_of(url):
    keys = open_store(url).list()
    return [int(key.split("/")[0][5:]) for key in keys if key.endswith("/manifest.json")]


def test_what_was_saved_comes_back(store_url):
    save(store_url, 7)
    step, network = load(store_url)
    assert (step, network.count) == (7, 7)
    assert network.equals(Network(7))
    assert network.state["ema"]["w"].signbit()[0, 1], "minus zero, too"


def test_a_fresh_run_finds_nothing(store_url):
    assert checkpoints(store_url).restore({"net": Network()}) is None


def test_a_save_holds_what_was_there_when_it_was_called(tmp_path):
    store, network, state = checkpoints(tmp_path), Network(1), {"seen": [1]}
    store.save({"net": network}, step=1, state=state)
    network.state["weights"]["w"] += 5
    network.count = 9
    state["seen"].append(2)
    store.wait()
    again = Network()
    assert store.restore({"net": again}).state == {"seen": [1]}
    assert again.equals(Network(1)) and again.count == 1


def test_training_goes_on_while_a_checkpoint_is_written(s3_url, s3_server, monkeypatch):
    with FaultyS3(s3_server, lambda number: "slow") as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        store = checkpoints(s3_url)
        store.save({"net": Network(1)}, step=1, state={})
        assert steps_of(s3_url) == []
        store.wait()
        assert steps_of(s3_url) == [1]


def test_the_newest_stay_and_the_last_good_one_and_every_tenth(store_url):
    save(store_url, 10, 11, 12, 13, 14, keep_every=10, good=(11, 12))
    assert steps_of(store_url) == [10, 12, 13, 14]
    assert {key.split("/")[0] for key in open_store(store_url).list()} == {
        f"step-{step:08d}" for step in (10, 12, 13, 14)
    }


def test_going_back_to_a_good_one_sets_later_ones_aside(store_url):
    save(store_url, 1, 2, 3, good=(1,))
    assert load(store_url, at="good")[0] == 1
    assert load(store_url)[0] == 1
    record = json.loads(open_store(store_url).read("step-00000003/quarantined.json"))
    assert record["reason"] == "the run went back to step 1"
    assert load(store_url, at="good")[0] == 1


def test_a_step_saved_again_is_not_good_because_it_once_was(tmp_path):
    save(tmp_path, 1, 2, good=(1, 2))
    save(tmp_path, 2)
    assert load(tmp_path)[0] == 2
    assert load(tmp_path, at="good")[0] == 1


def test_without_a_good_one_there_is_none_to_go_back_to(tmp_path):
    save(tmp_path, 1)
    store = checkpoints(tmp_path)
    assert not store.has_good()
    assert store.restore({"net": Network()}, at="good") is None
    store.mark_good(1)
    assert store.has_good()


def cut(store, key):
    store.put(key, store.read(key)[:-2])


def flip(store, key):
    data = bytearray(store.read(key))
    data[-3] ^= 1
    store.put(key, bytes(data))


def empty(store, key):
    store.put(key, b"")


def remove(store, key):
    store.delete(key)


HARMS = [cut, flip, empty, remove]


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("file", ["00000-00000.safetensors", "00000-00001.safetensors"])
def test_a_torn_checkpoint_is_set_aside_with_its_reason(store_url, caplog, harm, file):
    save(store_url, 1, 2)
    (key,) = keys_of(store_url, 2, ending=file)
    harm(open_store(store_url), key)
    step, network = load(store_url)
    assert step == network.count == 1
    assert network.equals(Network(1)), "nothing of the torn one was loaded"
    reason = json.loads(open_store(store_url).read("step-00000002/quarantined.json"))["reason"]
    assert file in reason and reason in caplog.text
    assert steps_of(store_url) == [1]
    assert keys_of(store_url, 2, ending="00000.safetensors") or harm is remove, (
        "it can be looked at"
    )


@pytest.mark.parametrize("harm", HARMS)
def test_a_checkpoint_without_a_valid_manifest_is_none(store_url, harm):
    save(store_url, 1, 2)
    harm(open_store(store_url), "step-00000002/manifest.json")
    assert load(store_url)[0] == 1
    save(store_url, 3, 4, keep=1)
    assert {key.split("/")[0] for key in open_store(store_url).list()} == {"step-00000004"}


def test_a_torn_checkpoint_does_not_stop_others_from_being_removed(tmp_path):
    save(tmp_path, 1, 2, good=(1,))
    flip(open_store(tmp_path), "step-00000002/manifest.json")
    save(tmp_path, 3, 4, 5)
    assert steps_of(tmp_path) == [1, 4, 5]


def test_the_same_step_may_be_saved_again(store_url):
    save(store_url, 3)
    save(store_url, 3)
    assert load(store_url)[1].equals(Network(3))
    assert len(keys_of(store_url, 3, ending="00000-00000.safetensors")) == 1


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    save(tmp_path, 1)
    with pytest.raises(CheckpointError, match="of another run"):
        checkpoints(tmp_path, run_fingerprint="other").restore({"net": Network()})


def test_a_checkpoint_of_other_networks_is_refused(tmp_path):
    save(tmp_path, 1)
    with pytest.raises(CheckpointError, match=r"holds the networks \['net'\]"):
        checkpoints(tmp_path).restore({"critic": Network()})


@pytest.mark.parametrize(
    ("shape", "name", "words"),
    [
        ((3, 2), "w", r"w is \['float32', 2, 3\], expected \['float32', 3, 2\]"),
        ((2, 3), "v", r"lacks \['v'\] and has \['w'\] besides"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused_before_anything_is_loaded(
    tmp_path, shape, name, words
):
    save(tmp_path, 1)
    other = Network(9)
    other.state["ema"] = {name: torch.full(shape, 9.0)}
    with pytest.raises(CheckpointError, match=words):
        checkpoints(tmp_path).restore({"net": other})
    assert (other.state["weights"]["w"] == Network(9).state["weights"]["w"]).all()


def test_a_manifest_cannot_name_files_elsewhere(tmp_path, caplog):
    save(tmp_path, 1)
    path = tmp_path / "step-00000001" / "manifest.json"
    tree = json.loads(path.read_text())
    del tree["sha256"]
    tree["files"]["../../secret"] = {"size_bytes": 0, "sha256": ""}
    path.write_bytes(seal(tree))
    assert checkpoints(tmp_path).restore({"net": Network()}) is None
    assert "outside its own folder" in caplog.text


def test_a_piece_that_no_file_holds_is_noticed(tmp_path, caplog):
    save(tmp_path, 1)
    path = tmp_path / "step-00000001" / "manifest.json"
    tree = json.loads(path.read_text())
    del tree["sha256"]
    tree["files"].popitem()
    path.write_bytes(seal(tree))
    assert checkpoints(tmp_path).restore({"net": Network()}) is None
    assert "hold 6 numbers, expected 12" in caplog.text


@pytest.mark.parametrize("where", ["disk", pytest.param("s3", marks=pytest.mark.slow)])
def test_a_save_may_die_at_any_step(where, tmp_path, request):
    """There is the checkpoint before or the new one, whole, and what is left goes with the next.

    In S3: pytest -m slow tests/video_platform/training/test_checkpoint.py
    """
    if where == "disk":
        url, environment = str(tmp_path), {}
        proxy = None
    else:
        url = request.getfixturevalue("s3_url")
        proxy = FaultyS3(request.getfixturevalue("s3_server"))
        environment = {"AWS_ENDPOINT_URL": proxy.url}
    command = [sys.executable, "-m", "tests.faults.checkpoint_steps", url, where]
    try:
        with subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
        ) as process:
            if proxy is not None:
                kill_after_each_change(proxy, process)
            steps = int(process.communicate(timeout=200)[0])
    finally:
        if proxy is not None:
            proxy.close()
    assert process.returncode == 0
    found = [look_after(f"{url}/{step}") for step in range(steps)]
    assert found == sorted(found) and set(found) == {0, 1, 2}
    assert steps >= 12


def kill_after_each_change(proxy, process):
    """Kill the n-th child after n changes in S3."""
    written, killed = [0], [0]

    def die(number):
        if proxy.seen[number][0] in ("PUT", "POST", "DELETE"):
            written[0] += 1
            if written[0] > killed[0]:
                written[0] = 0
                killed[0] += 1
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
                for child in children.split():
                    os.kill(int(child), signal.SIGKILL)

    proxy.on_done = die


def look_after(url):
    """Go on where a save was killed; return what it left."""
    network = Network()
    manifest = checkpoints(url).restore({"net": network})
    step = manifest.step if manifest else 0
    assert network.equals(Network(step)) and network.count == step
    save(url, 3, keep=1)
    assert {key.split("/")[0] for key in open_store(url).list()} == {"step-00000003"}
    assert open_store(url).unfinished() == {}
    return step


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two ranks report."""
    return launch(
        tmp_path_factory.mktemp("ranks"), 2, "fails", "torn", "hidden", script="checkpoint_ranks.py"
    )


def test_what_one_rank_cannot_write_is_told_on_all(pair):
    one, two = pair["fails"]["messages"]
    assert one == two
    assert "of step 2 could not be written" in one and "this size are not allowed here" in one
    assert pair["fails"]["goes on at"] == 1
    assert pair["fails"]["seconds"] < 50, "rank 0 does not wait for what will not come"


def test_what_one_rank_finds_torn_is_set_aside_by_all(pair):
    assert pair["torn"]["steps"] == [1, 1]
    assert "rank-00001-00000.safetensors does not match its checksum" in pair["torn"]["reason"]
    assert pair["torn"]["files read"] == [2, 2], "each rank reads its share of four"


def test_a_folder_that_one_node_does_not_see_is_no_torn_checkpoint(pair):
    one, two = pair["hidden"]["messages"]
    assert all("is not visible on every node; put checkpoints in S3" in each for each in (one, two))
    assert pair["hidden"]["steps"] == [1]


@given(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=4))
def test_a_fingerprint_does_not_depend_on_the_order_of_keys(tree):
    assert fingerprint(tree) == fingerprint(dict(reversed(tree.items())))
