"""A folder of one machine is opened on another, and left as it is on its own."""

import dataclasses
import os
from pathlib import Path

import pytest

from video_platform import cluster
from video_platform.cluster_config import ClusterConfig
from video_platform.cluster_folder import Folder, folder_here

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model" / "vae").mkdir(parents=True)
    (tmp_path / "model" / "model.json").write_text("{}")
    (tmp_path / "model" / "vae" / "weights").write_bytes(os.urandom(3_000_000))
    (tmp_path / "model" / "vae" / "empty").touch()
    return tmp_path / "model"


def content(path):
    top = Path(path)
    return {str(p.relative_to(top)): p.read_bytes() for p in top.rglob("*") if p.is_file()}


def test_where_no_ray_runs_a_folder_is_itself(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    with folder_here("model").opened() as path:
        assert path == str(folder)


@pytest.mark.parametrize("path", [None, "google/umt5-xxl"])
def test_what_is_no_folder_stays_what_it_is(path):
    with dataclasses.replace(folder_here(path), node=None).opened() as opened:
        assert opened == path


def test_an_actor_elsewhere_gets_a_copy_for_as_long_as_it_needs_it(folder, monkeypatch):
    with cluster.start(ClusterConfig(num_cpus=1)):
        here = folder_here(str(folder))
        with here.opened() as path:
            assert path == str(folder)
        monkeypatch.setattr("video_platform.cluster_folder._this_node", lambda: "another")
        with here.opened() as path:
            assert path != str(folder)
            assert content(path) == content(folder)
        assert not Path(path).exists()
        here.copy_to(folder.parent / "copy")
        assert content(folder.parent / "copy") == content(folder)
        lost = Folder(str(folder), "ab" * 28)
        with pytest.raises(Exception, match=r"(?i)node|schedul"), lost.opened():
            pass
