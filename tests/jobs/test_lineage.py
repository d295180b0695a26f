"""From a clip, a folder or a run back to the source."""

import json

import pytest

from jobs.lineage import run
from pipelines.__main__ import main as generate
from tests.tiny import make_card, make_model
from video_platform.errors import ConfigError, TrackingError
from video_platform.tracking import TrackingConfig, open_tracker

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's own


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A project with a source, a model made from it, and a clip made by the model."""
    project = tmp_path_factory.mktemp("project")
    tracker = open_tracker(TrackingConfig(), project)
    with tracker.start("source", name="shapes", params={}) as source:
        source.tag("vdp.url", "/data/shapes")
    parents = {"source": source.id}
    with tracker.start("transformer", name="base", params={}, parents=parents) as made:
        make_model(project / "model", make_card(run_id=made.id))
    clip = project / "clip.mp4"
    generate([str(project / "model"), "a red circle", "--out", str(clip), "--seed", "3"])
    return project, made.id, clip


def test_a_run_a_folder_and_a_clip_lead_to_the_same_source(chain, capsys):
    project, run_id, clip = chain
    capsys.readouterr()
    trees = []
    for target in (run_id, str(project / "model"), str(clip)):
        run(target, project=str(project), as_json=True)
        trees.append(json.loads(capsys.readouterr().out))
    by_run, by_folder, by_clip = trees
    assert by_run == by_folder
    assert by_run["parents"][0]["details"]["url"] == "/data/shapes"
    (model,) = by_clip["parents"]
    assert (by_clip["role"], by_clip["details"]["seed"], model["role"]) == ("clip", "3", "model")
    assert model["parents"] == by_run["parents"]


def test_the_tree_is_drawn(chain, capsys):
    project, run_id, clip = chain
    run(str(clip), project=str(project))
    drawn = capsys.readouterr().out
    assert drawn.index("clip.mp4") < drawn.index(run_id) < drawn.index("/data/shapes")


@pytest.mark.parametrize(
    ("target", "told"),
    [("no/such/thing", "neither a model folder"), (".", "not a model folder")],
)
def test_a_target_that_leads_nowhere_is_told(chain, target, told):
    with pytest.raises(ConfigError, match=told):
        run(target, project=str(chain[0]))


def test_an_unknown_run_is_told(chain):
    with pytest.raises(TrackingError, match="find the run 'abc'"):
        run("abc", project=str(chain[0]))


def test_looking_makes_no_database(tmp_path):
    with pytest.raises(ConfigError, match="no tracked runs"):
        run("abc", project=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_model_made_without_tracking_is_told(tmp_path):
    make_model(tmp_path / "model", make_card(run_id=None))
    with pytest.raises(ConfigError, match="made without tracking"):
        run(str(tmp_path / "model"), project=str(tmp_path))


def test_a_wrong_uri_is_told(tmp_path):
    with pytest.raises(ConfigError, match="--tracking-uri 'ftp://x'"):
        run("abc", uri="ftp://x", project=str(tmp_path))
