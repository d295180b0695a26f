"""Checkpoints on disk: whole or not there, the newest valid one is read, older ones go."""

import errno
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from video_platform.errors import CheckpointError
from video_platform.training import checkpoint
from video_platform.training.checkpoint import Checkpoints, fingerprint, verify


class Network:
    """Stands in for an engine: two kinds of state, one tensor each."""

    kinds = ("weights", "ema")

    def __init__(self, value=0.0):
        self.state = {kind: {"w": torch.full((3,), value)} for kind in self.kinds}
        self.count = int(value)

    def gather(self, kind, *, keep=True):
        return self.state[kind] if keep else {}

    def restore(self, kind, tensors):
        self.state[kind] = dict(tensors)

    def counters(self):
        return {"steps": self.count}

    def restore_counters(self, counters):
        self.count = counters["steps"]


def checkpoints(folder, **options):
    return Checkpoints(folder, **({"run_fingerprint": "a run", "keep": 2} | options))


def save(folder, *steps, **options):
    for step in steps:
        store = checkpoints(folder, **options)
        store.save({"net": Network(float(step))}, step=step, state={"turn": step})


def test_what_was_saved_comes_back(tmp_path):
    save(tmp_path, 7)
    network = Network()
    manifest = checkpoints(tmp_path).restore({"net": network})
    assert (manifest.step, manifest.state, network.count) == (7, {"turn": 7}, 7)
    assert network.state["ema"]["w"].tolist() == [7.0] * 3


def test_a_fresh_run_finds_nothing(tmp_path):
    assert checkpoints(tmp_path / "none").restore({"net": Network()}) is None


def test_only_the_newest_stay(tmp_path):
    save(tmp_path, 1, 2, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [cut, flip, Path.unlink])
@pytest.mark.parametrize("file", ["net.weights.safetensors", "manifest.json"])
def test_a_torn_checkpoint_is_passed_over_with_its_reason(tmp_path, caplog, harm, file):
    save(tmp_path, 1, 2)
    harm(tmp_path / "step-00000002" / file)
    network = Network()
    assert checkpoints(tmp_path).restore({"net": network}).step == 1
    assert network.count == 1
    assert "torn" in caplog.text and file in caplog.text


def test_an_interrupted_write_is_never_seen(tmp_path):
    save(tmp_path, 1)
    partial = tmp_path / ".step-00000002.partial"
    partial.mkdir()
    (partial / "manifest.json").write_text("{}")
    assert checkpoints(tmp_path).restore({"net": Network()}).step == 1
    save(tmp_path, 2)
    assert not partial.exists()


def test_a_full_disk_leaves_the_earlier_checkpoint_and_says_so(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def full(tensors, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        save(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    save(tmp_path, 1)
    with pytest.raises(CheckpointError, match="of another run"):
        checkpoints(tmp_path, run_fingerprint="other").restore({"net": Network()})


def test_a_checkpoint_of_other_networks_is_refused(tmp_path):
    save(tmp_path, 1)
    with pytest.raises(CheckpointError, match=r"holds the networks \['net'\]"):
        checkpoints(tmp_path).restore({"critic": Network()})


def test_a_manifest_cannot_name_files_elsewhere(tmp_path):
    save(tmp_path, 1)
    path = tmp_path / "step-00000001" / "manifest.json"
    tree = json.loads(path.read_text())
    tree["files"]["../../secret"] = {"size_bytes": 0, "sha256": ""}
    path.write_text(json.dumps(tree))
    with pytest.raises(CheckpointError, match="outside its own folder"):
        verify(path.parent)


@given(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=4))
def test_a_fingerprint_does_not_depend_on_the_order_of_keys(tree):
    assert fingerprint(tree) == fingerprint(dict(reversed(tree.items())))
