"""Ray for real: workers train, report, stop and fail; jobs run on a head; the unsafe is refused."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.video_platform import cluster_tasks
from video_platform import cluster
from video_platform.cluster_config import ClusterConfig
from video_platform.errors import ClusterError, TrainingError

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning"
)  # Ray's own


@pytest.fixture(scope="module")
def ray():
    """Two workers on a Ray of our own."""
    config = ClusterConfig(workers=2, num_cpus=2)
    with cluster.start(config):
        yield config


def test_workers_train_report_and_stop_when_asked(ray):
    told = []

    def on_progress(progress):
        told.append(progress)
        os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C

    result = cluster.run_workers(
        cluster_tasks.train_a_step, {"a": 1}, config=ray, on_progress=on_progress
    )
    assert told == [{"step": 1, "applied": True}]
    assert result == {
        "payload": {"a": 1}, "world": 2, "threads": 1, "device": "cpu", "rank": 0,
    }  # fmt: skip


def test_an_error_of_ours_arrives_as_it_was_raised(ray):
    with pytest.raises(TrainingError, match=r"^no gradient in the data; turn a knob$"):
        cluster.run_workers(cluster_tasks.fail, "the data", config=ClusterConfig(workers=1))


@pytest.mark.slow
def test_a_dead_worker_is_called_dead(ray):
    with pytest.raises(ClusterError, match="a training worker died"):
        cluster.run_workers(cluster_tasks.fail, "die", config=ray)


@pytest.mark.slow
def test_workers_start_again_after_one_died(ray, tmp_path):
    config = ClusterConfig(workers=1, max_failures=1)
    assert cluster.run_workers(cluster_tasks.die_once, str(tmp_path), config=config) == "came back"


def test_workers_that_do_not_fit_are_refused_at_once(ray):
    with pytest.raises(ClusterError, match=r"9 workers x 1 CPU do not fit into a cluster of 2"):
        cluster.run_workers(cluster_tasks.fail, "x", config=ClusterConfig(workers=9))


def test_a_started_ray_asks_for_our_private_token(ray):
    path = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    assert path.is_relative_to(os.environ["XDG_STATE_HOME"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert cluster.token_file().read_text() == path.read_text() != ""


def test_what_is_shipped_leaves_secrets_and_junk_behind():
    environment = cluster.runtime_env()
    assert environment["working_dir"] == str(ROOT)
    assert environment["py_modules"] == [str(ROOT / "platform" / "video_platform")]
    assert {".git", ".venv", ".env", "*.db"} <= set(environment["excludes"])


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://10.1.2.3:8265", "not on this machine and not encrypted; use https, a tunnel"),
        ("10.1.2.3:8265", "is no dashboard address; give one such as"),
        ("file:///etc/passwd", "is no dashboard address"),
    ],
)
def test_an_unsafe_address_is_refused(monkeypatch, address, words):
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    with pytest.raises(ClusterError, match=words):
        cluster.submit_job(["true"], address=address)


def test_an_address_without_a_head_is_one_clear_line():
    with pytest.raises(
        ClusterError, match=r"cannot submit to http://127.0.0.1:9: .*RAY_AUTH_TOKEN"
    ):
        cluster.submit_job(["true"], address="http://127.0.0.1:9")


def test_a_head_on_this_machine_runs_this_interpreter():
    assert cluster.interpreter("http://localhost:8265") == sys.executable
    assert cluster.interpreter("https://ray.example:8265") == "python"


@pytest.mark.parametrize(
    "knobs",
    [
        {"workers": 0},
        {"num_cpus": 0},
        {"cpus_per_worker": 0},
        {"max_failures": -2},
        {"min_workers": 2},
        {"hang_timeout_s": 0},
    ],
)
def test_bad_knobs_are_refused(knobs):
    with pytest.raises(ValueError, match=next(iter(knobs))):
        ClusterConfig(**knobs)


@pytest.fixture
def head(tmp_path):
    """A head as a user starts one, ended with the test."""
    ports = [free_port() for _ in range(3)]
    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block",
        f"--port={ports[0]}", f"--dashboard-port={ports[1]}", "--dashboard-host=127.0.0.1",
        "--num-cpus=2", f"--ray-client-server-port={ports[2]}", "--disable-usage-stats",
    ]  # fmt: skip
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(cluster.token_file())}
    with (tmp_path / "head.log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | token, start_new_session=True
        )
        yield f"http://127.0.0.1:{ports[1]}"
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its own group: nobody else's Ray
            process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_a_job_trains_on_a_head_and_its_exit_code_comes_back(head):
    code = "from tests.video_platform import cluster_tasks; cluster_tasks.train_in_a_job()"
    output = []
    deadline = time.monotonic() + 120  # a head takes a while to open its dashboard
    while True:
        try:
            argv = [cluster.interpreter(head), "-c", code]
            result = cluster.submit_job(argv, address=head, on_log=output.append)
            break
        except ClusterError as error:
            assert time.monotonic() < deadline, error
            time.sleep(1)
    said = "".join(output)
    assert result == 7
    assert "submitted" in said
    assert "trained in" in said and str(ROOT) not in said.split("trained in")[-1]
