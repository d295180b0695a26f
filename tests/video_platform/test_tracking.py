"""Runs, metrics, failures and lineage, on a real sqlite store."""

import json
import logging
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from video_platform.errors import TrackingError
from video_platform.tracking import TrackingConfig, as_rich_tree, lineage, open_tracker
from video_platform.tracking.lineage import MISSING

REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's own


@pytest.fixture(scope="session")
def empty_project(tmp_path_factory):
    """A project whose database exists; making one takes MLflow two seconds."""
    project = tmp_path_factory.mktemp("project")
    open_tracker(TrackingConfig(), project)
    return project


@pytest.fixture
def project(empty_project, tmp_path):
    shutil.copy(empty_project / "mlflow.db", tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture
def tracker(project):
    # The copied database still names the artifact folder of its origin.
    return open_tracker(TrackingConfig(experiment="test"), project)


def test_importing_the_room_loads_no_mlflow():
    code = "import sys, video_platform.tracking; print('mlflow' in sys.modules)"
    path = f"{REPOSITORY}/platform"
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": path, "PATH": ""},
    )
    assert result.stdout.strip() == "False"


def test_everything_lives_in_the_project_folder(tracker, project):
    with tracker.start("source", name="clips", params={}) as run:
        run.text("hello", "notes/a.txt")
    assert (project / "mlflow.db").is_file()
    stored = [path for path in (project / "artifacts").rglob("*") if path.is_file()]
    assert sorted(path.name for path in stored) == ["a.txt", "config.json"]


def test_params_arrive_flat_and_whole(tracker):
    tree = {"model": {"dim": 8, "names": ["a", "b"]}, "long": "x" * 7000}
    with tracker.start("cache", name="c", params=tree) as run:
        pass
    params = tracker.get(run.id).data.params
    assert params["model.dim"] == "8"
    assert params["model.names"] == "['a', 'b']"
    assert params["long"] == "x" * 6000


def test_more_params_than_one_request_takes_all_arrive(tracker):
    with tracker.start("cache", name="c", params={f"p{i}": i for i in range(230)}) as run:
        pass
    assert len(tracker.get(run.id).data.params) == 230


def test_canary_secrets_reach_neither_database_nor_artifacts(tracker, project):
    canaries = ["c4nary-pass", "c4nary-token", "c4nary-query", "c4nary-user"]
    params = {
        "source": {"url": "s3://c4nary-user:c4nary-pass@host/bucket?sig=c4nary-query"},
        "hub_token": "c4nary-token",
    }
    try:
        with tracker.start(
            "source", name="s", params=params, tags={"vdp.url": "s3://c4nary-user@b"}
        ):
            raise OSError("https://c4nary-user:c4nary-pass@host failed with token=... ")
    except OSError:
        pass
    stored = b"".join(path.read_bytes() for path in project.rglob("*") if path.is_file())
    assert b"hub_token" in stored
    assert [canary for canary in canaries if canary.encode() in stored] == []


def test_metrics_are_buffered_and_all_arrive_in_order(tracker):
    with tracker.start("transformer", name="t", params={}) as run:
        start = time.perf_counter()
        for step in range(1500):
            run.metrics({"loss": 1 / (step + 1), "lr": 1e-4}, step=step)
        assert time.perf_counter() - start < 0.5  # a loop at 10 steps/s does not notice
    history = tracker.client.get_metric_history(run.id, "loss")
    assert [point.step for point in history] == list(range(1500))
    assert history[4].value == 1 / 5


def test_metrics_show_up_while_the_run_goes_on(tracker):
    with tracker.start("transformer", name="t", params={}) as run:
        run.metrics({"loss": 1.0}, step=0)
        deadline = time.monotonic() + 30
        while not tracker.get(run.id).data.metrics and time.monotonic() < deadline:
            time.sleep(0.05)
        assert tracker.get(run.id).data.metrics == {"loss": 1.0}


def test_metrics_that_cannot_be_sent_are_kept_and_sent_later(tracker, caplog):
    class Flaky:
        def __init__(self, client):
            self.client, self.broken = client, True

        def log_batch(self, *args, **kwargs):
            if self.broken:
                raise OSError("connection reset")
            self.client.log_batch(*args, **kwargs)

    run = tracker.start("transformer", name="t", params={})
    flaky = Flaky(tracker.client)
    run._client = flaky
    run.metrics({"loss": 2.0}, step=0)
    with caplog.at_level(logging.WARNING), pytest.raises(TrackingError, match=r"1 metrics .*reset"):
        run.flush()
    assert "connection reset" in caplog.text
    flaky.broken = False
    run.flush()
    run._client = tracker.client
    run.close()
    assert tracker.get(run.id).data.metrics == {"loss": 2.0}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("boom"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(143), "KILLED"),
    ],
)
def test_the_way_out_decides_the_status(tracker, error, status):
    with pytest.raises(type(error)), tracker.start("cache", name="c", params={}) as run:
        raise error
    assert tracker.get(run.id).info.status == status
    assert type(error).__name__ in tracker.get(run.id).data.tags["vdp.error"]


def test_attaching_logs_without_ending_the_run(tracker, project):
    owner = tracker.start("transformer", name="t", params={})
    other = open_tracker(TrackingConfig(experiment="test"), project)
    with other.attach(owner.id) as run:
        run.metrics({"loss": 3.0}, step=7)
    assert tracker.get(owner.id).info.status == "RUNNING"
    assert tracker.get(owner.id).data.metrics == {"loss": 3.0}
    owner.close()
    assert tracker.get(owner.id).info.status == "FINISHED"


def test_writers_of_one_machine_wait_for_each_other(tracker, project):
    def log(number):
        with open_tracker(TrackingConfig(experiment="shared"), project).start(
            "cache", name=f"{number}", params={}
        ) as run:
            for step in range(20):
                run.metrics({f"m{i}": step for i in range(50)}, step=step)
                run.flush()
        return run.id

    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(log, range(4)))
    assert all(len(tracker.get(id).data.metrics) == 50 for id in ids)


def test_artifacts_are_files_and_folders(tracker, project, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    (folder / "report.html").write_text("<p>")
    with tracker.start("evaluation", name="e", params={}) as run:
        run.artifact(folder, "report")
        run.artifact(folder / "report.html")
        run.image(b"PNG", "sheets/a.png")
        with pytest.raises(TrackingError, match="no file"):
            run.artifact(folder / "missing.html")
    paths = {file.path for file in tracker.client.list_artifacts(run.id)}
    assert paths == {"config.json", "report", "report.html", "sheets"}


def test_lineage_leads_from_a_student_to_the_source(tracker):
    with tracker.start("source", name="shapes", params={}) as source:
        source.tag("vdp.url", "/data/shapes")
    with tracker.start("autoencoder", name="vae", params={}, parents={"source": source.id}) as vae:
        pass
    parents = {"source": source.id, "autoencoder": vae.id}
    with tracker.start("cache", name="latents", params={}, parents=parents) as cache:
        pass
    with tracker.start("transformer", name="base", params={}, parents={"cache": cache.id}) as base:
        pass
    parents = {"teacher": base.id, "lost": "f" * 32}
    with tracker.start("student", name="fast", params={}, parents=parents) as student:
        pass
    tree = lineage(tracker, student.id)
    lost, teacher = tree.parents
    assert (tree.kind, teacher.role, teacher.kind) == ("student", "teacher", "transformer")
    assert lost.status == MISSING
    (latents,) = teacher.parents
    assert [parent.role for parent in latents.parents] == ["autoencoder", "source"]
    assert latents.parents[0].parents[0].details == {"url": "/data/shapes"}
    assert json.loads(json.dumps(tree.as_dict()))["parents"][1]["name"] == "base"
    assert as_rich_tree(tree) is not None


def test_a_run_that_does_not_exist_is_named(tracker):
    with pytest.raises(TrackingError, match="find the run 'abc'"):
        lineage(tracker, "abc")


def test_a_run_that_is_its_own_ancestor_is_an_error(tracker):
    with tracker.start("cache", name="c", params={}) as run:
        run.tag("vdp.parent.cache", run.id)
    with pytest.raises(TrackingError, match="its own ancestor"):
        lineage(tracker, run.id)


def test_runs_are_found_by_fingerprint(tracker):
    with tracker.start("cache", name="c", params={}, tags={"vdp.fingerprint": "ab12" * 16}) as run:
        pass
    assert tracker.find("ab12" * 16) == run.id
    assert tracker.find("00" * 32) is None
    with pytest.raises(TrackingError, match="not a fingerprint"):
        tracker.find("' OR 1=1")


def test_an_unreachable_server_is_told_at_once():
    start = time.perf_counter()
    with pytest.raises(TrackingError, match=r"127\.0\.0\.1:9.*tracking\.uri"):
        open_tracker(TrackingConfig(uri="http://user:hush@127.0.0.1:9"), Path("unused"))
    assert time.perf_counter() - start < 10


def test_an_error_about_a_server_hides_its_password():
    with pytest.raises(TrackingError) as error:
        open_tracker(TrackingConfig(uri="http://user:hush@127.0.0.1:9"), Path("unused"))
    assert "hush" not in str(error.value)


def test_a_server_that_is_no_mlflow_is_told():
    class NotFound(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        do_POST = do_GET

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), NotFound) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(TrackingError, match="open the experiment"):
                uri = f"http://127.0.0.1:{server.server_port}"
                open_tracker(TrackingConfig(uri=uri), Path("unused"))
        finally:
            server.shutdown()
            thread.join()


def test_a_sqlite_file_is_refused_for_workers_on_other_nodes(tracker):
    with pytest.raises(TrackingError, match=r"tracking\.uri=http"):
        tracker.check_shared()


@pytest.mark.parametrize(
    "uri", ["/some/folder", "file:///x", "ftp://host", "sqlite://", "sqlite:mlflow.db"]
)
def test_a_uri_that_no_store_understands_is_refused(uri):
    with pytest.raises(ValueError, match="sqlite:"):
        TrackingConfig(uri=uri)


def test_a_local_database_is_the_same_from_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert TrackingConfig().resolve(Path("out")) == f"sqlite:///{tmp_path}/out/mlflow.db"
    uri = TrackingConfig(uri="sqlite:///runs.db?timeout=5").resolve(Path("unused"))
    assert uri == f"sqlite:///{tmp_path}/runs.db?timeout=5"
    assert TrackingConfig(uri="http://host:5000").resolve(Path("out")) == "http://host:5000"


def test_a_database_in_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackingError, match=r"tracking\.uri"):
        open_tracker(TrackingConfig(uri=f"sqlite:///{tmp_path}/file/x/mlflow.db"), tmp_path)
