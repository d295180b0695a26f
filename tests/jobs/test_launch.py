"""What stands around every training run: one driver, and all that workers note arrives there."""

import os
from pathlib import Path

import pytest

from jobs.launch import TrainingJob, launch, platform
from jobs.recipe import Recipe
from tests.jobs import launch_tasks
from video_platform.cluster_config import ClusterConfig
from video_platform.errors import EXIT_CODES, LeaseError, PreemptedError, VdpError
from video_platform.training.lease import Lease

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning"
)  # Ray's own


def job(worker, **extra):
    return TrainingJob(
        kind="transformer", title="Some training", steps=2, worker=worker, parents={}, extra=extra
    )


def test_a_run_has_one_driver_and_gets_what_its_workers_note(tmp_path):
    recipe = Recipe(name="r", project=str(tmp_path), cluster=ClusterConfig(num_cpus=1))
    (tmp_path / "read").mkdir()
    (tmp_path / "autoencoder").mkdir()
    with platform(recipe) as tracker:
        with Lease(f"{tmp_path}/checkpoints/leases/-ome-training"):
            with pytest.raises(LeaseError, match="another driver works on this run"):
                launch(recipe, tracker, job(launch_tasks.note_and_make))
            assert tracker.client.search_runs([tracker.experiment_id]) == []
        result = launch(recipe, tracker, job(launch_tasks.note_and_make, read=tmp_path / "read"))
        (record,) = tracker.client.search_runs([tracker.experiment_id])
        with pytest.raises(PreemptedError, match="Some training was told to end by SIGTERM"):
            launch(recipe, tracker, job(launch_tasks.end_when_told, driver=os.getpid()))
        points = tracker.client.get_metric_history(record.info.run_id, "loss")
    assert result["here"] == str(tmp_path / "read")
    assert result["autoencoder"] == str(tmp_path / "autoencoder")
    assert [(point.step, point.value) for point in points] == [(1, 1.0), (2, 0.5)]
    assert record.data.tags["colour"] == "red"
    assert record.data.tags["vdp.folder"] == str(tmp_path / "made")
    artifacts = Path(record.info.artifact_uri.removeprefix("file://"))
    assert (artifacts / "samples" / "one.png").read_bytes() == b"picture"
    assert (artifacts / "notes" / "text.txt").read_text() == "said"
    assert (artifacts / "more" / "a.txt").read_text() == "a"


def test_every_exit_code_is_in_the_one_table():
    def below(kind):
        return {kind, *(other for child in kind.__subclasses__() for other in below(child))}

    codes = {kind.exit_code for kind in below(VdpError)}
    assert codes <= EXIT_CODES.keys()
    assert {16, 17, 18, 19, 143} <= codes
