"""Whatever happens to a training run on Ray: it ends as if nothing had, or stops and says why.

A few faults run always, and all with `pytest -m slow tests/faults/test_training_faults.py`.
"""

import os
import signal
import time

import pytest

from tests.faults.proxy import FaultyS3, seeded
from tests.faults.test_exactly_once import LINE
from tests.faults.training_world import STEPS, Fault, World, run
from video_platform import cluster
from video_platform.cluster_config import ClusterConfig
from video_platform.errors import (
    ClusterError,
    DivergedError,
    HungError,
    VdpError,
    WorkerDiedError,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning"
)  # Ray's own


@pytest.fixture(scope="module")
def ray():
    """A Ray of our own with room for two workers."""
    with cluster.start(ClusterConfig(num_cpus=2)):
        yield


@pytest.fixture(scope="module")
def undisturbed(ray, tmp_path_factory):
    return run(World(str(tmp_path_factory.mktemp("undisturbed"))))


def same_end(result, undisturbed):
    assert result["hash"] == undisturbed["hash"]
    assert result["losses"] == undisturbed["losses"]
    assert sorted(result["losses"]) == list(range(1, STEPS + 1))


def test_workers_killed_at_a_step_and_in_a_save_change_nothing(undisturbed, tmp_path):
    faults = (Fault("kill", 1, 5), Fault("kill_in_save", 0, 2), Fault("kill", 0, 10))
    start_s = time.time()
    result = run(World(str(tmp_path), faults))
    seconds, wall_s = result["outcome"]["seconds"], time.time() - start_s
    assert 0.5 * wall_s < sum(seconds.values()) < wall_s + 1, "over all restarts"
    assert seconds["lost"] > 0 and seconds["down"] > 0
    assert {path.name for path in tmp_path.glob("kill*")} == {
        "kill-1-5", "kill_in_save-0-2", "kill-0-10",
    }  # fmt: skip
    same_end(result, undisturbed)


def test_sigterm_on_one_worker_saves_on_all_at_one_step_and_the_run_goes_on(undisturbed, tmp_path):
    world = World(str(tmp_path), (Fault("term", 1, 4),))
    stopped = run(world)
    assert stopped["outcome"]["step"] in (5, 6)  # the main thread hears it when it is polled next
    assert not stopped["outcome"]["finished"]
    ended = run(world)
    assert ended["outcome"]["started_at"] == stopped["outcome"]["step"]
    assert ended["hash"] == undisturbed["hash"]
    assert stopped["losses"] | ended["losses"] == undisturbed["losses"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_driver_saves_and_says_which_one_it_was(undisturbed, tmp_path, number):
    world = World(str(tmp_path), pause_s=0.2)

    def on_progress(told):
        if told["step"] == 3:
            os.kill(os.getpid(), number)

    stopped = run(world, on_progress=on_progress)
    assert stopped["stopped_by"] == number.name
    assert 3 <= stopped["outcome"]["step"] < STEPS
    same_end(stopped | run(world) | {"losses": undisturbed["losses"]}, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_stopped_worker_is_noticed_with_stacks_and_replaced(undisturbed, tmp_path, rank, caplog):
    start_s = time.monotonic()
    world = World(str(tmp_path), (Fault("stop", rank, 5),))
    same_end(run(world, hang_timeout_s=10), undisturbed)
    assert time.monotonic() - start_s < 120


@pytest.mark.slow
def test_a_worker_that_hangs_once_too_often_ends_the_run_with_its_stacks(ray, tmp_path, caplog):
    world = World(str(tmp_path), (Fault("stop", 1, 5),))
    with pytest.raises(HungError, match=r"worker 0 on .*: no progress for \d+ s in step of step 5"):
        run(world, hang_timeout_s=10, max_failures=0)
    assert "in all_reduce" in caplog.text or "in update" in caplog.text


@pytest.mark.slow
def test_a_worker_that_dies_once_too_often_ends_the_run(ray, tmp_path):
    faults = tuple(Fault("kill", 1, step) for step in (4, 5))
    with pytest.raises(WorkerDiedError, match="a training worker died"):
        run(World(str(tmp_path), faults), max_failures=1)
    assert {path.name for path in tmp_path.glob("kill*")} == {"kill-1-4", "kill-1-5"}


@pytest.mark.slow
def test_an_error_that_no_attempt_can_mend_ends_the_run_at_once(ray, tmp_path):
    world = World(str(tmp_path), bad_samples=tuple(range(20)))
    with pytest.raises(DivergedError, match=r"of 3 steps was not finite.*no good checkpoint"):
        run(world)
    assert not list(tmp_path.glob("checkpoints/step*"))


@pytest.mark.slow
def test_attempts_that_end_alike_without_a_step_end_the_run(ray, tmp_path):
    faults = tuple(Fault(kind, 0, 0) for kind in ("fail", "fail_too", "fail_again", "fail_last"))
    with pytest.raises(ClusterError, match=r"training worker \d failed:(.|\n)*something broke"):
        run(World(str(tmp_path), faults), max_failures=-1)
    assert len(list(tmp_path.glob("fail*"))) == 3


def reaching(line, *, attempts):
    """Return what workers need to reach S3 by a bad line; Ray may be older than the server."""
    mine = {name: text for name, text in os.environ.items() if name.startswith("AWS_")}
    return mine | {"AWS_ENDPOINT_URL": line.url, "AWS_MAX_ATTEMPTS": str(attempts)}


@pytest.mark.slow
def test_a_bad_line_to_s3_changes_nothing(undisturbed, s3_url, s3_server, tmp_path, monkeypatch):
    """Requests that fail, are slow, are cut short or lose their answer; and a worker dies too."""
    with FaultyS3(
        s3_server, seeded(3, {fault: 2 * share for fault, share in LINE.items()})
    ) as line:
        world = World(
            str(tmp_path), (Fault("kill", 1, 7),), checkpoints=f"{s3_url}/checkpoints",
            environment=reaching(line, attempts=8),
        )  # fmt: skip
        same_end(run(world), undisturbed)
    counts = line.counts()
    assert sum(counts.values()) - counts["ok"] > 10, counts


@pytest.mark.slow
def test_an_s3_that_is_gone_ends_the_run_with_its_reason(ray, s3_url, s3_server, tmp_path):
    with FaultyS3(s3_server) as line:
        world = World(
            str(tmp_path), checkpoints=f"{s3_url}/checkpoints", pause_s=0.5,
            environment=reaching(line, attempts=2),
        )  # fmt: skip

        def cut_off(told):
            if told["step"] == 4:
                line._schedule = lambda number: "503"

        start_s = time.monotonic()
        with pytest.raises(VdpError, match=r"SlowDown|503|could not be written"):
            run(world, on_progress=cut_off, max_failures=1)
    assert time.monotonic() - start_s < 240
