"""`vdp inspect`: every video of a source on a line, readable or not."""

import json

import numpy as np
import pytest

from jobs.cli import main
from jobs.inspect_source import run
from video_platform.datasets.config import SourceConfig
from video_platform.video.encode import write_mp4
from video_platform.video.limits import MediaLimits

FIELDS = ["path", "status", "reason", "frames", "width", "height"]
FIELDS += ["fps", "duration_s", "codec", "rotation"]


@pytest.fixture
def folder(tmp_path):
    """Two videos, of which one is cut off, and an empty file."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 32, 48, 3), np.uint8)
    write_mp4(tmp_path / "good.mp4", noise, fps=12)
    (tmp_path / "bad.mp4").write_bytes((tmp_path / "good.mp4").read_bytes()[:500])
    (tmp_path / "empty.webm").touch()
    return tmp_path


def test_json_has_one_object_a_line(folder, capsys):
    run(SourceConfig(url=str(folder)), as_json=True)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(list(row) == FIELDS for row in found)
    by_path = {row["path"]: row for row in found}
    assert by_path["good.mp4"] == {
        "path": "good.mp4",
        "status": "ok",
        "reason": None,
        "frames": 6,
        "width": 48,
        "height": 32,
        "fps": 12.0,
        "duration_s": 0.5,
        "codec": "h264",
        "rotation": 0,
    }
    assert by_path["bad.mp4"]["status"] == "rejected"
    assert by_path["bad.mp4"]["reason"] == "corrupt"
    assert by_path["empty.webm"]["reason"] == "empty_file"


def test_the_table_counts_and_explains(folder, capsys):
    assert main(["inspect", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "48x32" in printed
    assert "1 ok, 2 rejected" in printed
    assert "1 empty_file: it has no bytes" in printed


def test_too_large_a_file_is_not_fetched(folder, capsys, monkeypatch):
    (folder / "empty.webm").unlink()
    monkeypatch.setattr("jobs.inspect_source.read_media", None)
    run(SourceConfig(url=str(folder)), limits=MediaLimits(max_bytes=1), as_json=True)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["reason"] for row in found} == {"too_large"}
