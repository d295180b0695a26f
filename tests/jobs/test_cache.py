"""The commands that look after a cache, on one that was filled without Ray."""

import pytest

from jobs import cache as commands
from jobs.cli import main
from tests.video_platform.latents.toy import fill, record
from video_platform.errors import CacheError, CorruptCacheError
from video_platform.latents import open_cache, snapshot
from video_platform.storage import open_store


@pytest.fixture
def url(tmp_path):
    fill(str(tmp_path / "cache"), [record(number) for number in range(7)])
    snapshot(str(tmp_path / "cache"))
    return str(tmp_path / "cache")


@pytest.mark.parametrize(
    ("format", "shard"), [("webdataset", "shard-000000.tar"), ("mds", "shard.00000.mds")]
)
def test_a_snapshot_is_exported_from_the_command_line(url, tmp_path, capsys, format, shard):
    out = str(tmp_path / "out")
    assert main(["cache", "export", url, out, "--format", format]) == 0
    assert f"{out}: 7 samples in 1 shards" in capsys.readouterr().out
    assert open_store(out).list() == ["export.json", "index.json", shard]
    assert main(["cache", "export", url, out, "--format", format, "--snapshot", "1"]) == 0
    assert "0 written now" in capsys.readouterr().out


def test_a_snapshot_that_is_not_there_is_not_exported(url, tmp_path):
    with pytest.raises(CacheError, match="no snapshot 9"):
        commands.export(url, str(tmp_path / "out"), format="mds", snapshot=9)


def test_what_is_damaged_is_listed_and_is_an_error(url, capsys):
    commands.info(url)
    commands.verify(url)
    shown = capsys.readouterr().out
    assert "7 samples in" in shown
    assert f"snapshot 1 ({open_cache(url).snapshot_id[:16]}): 7 clips" in shown
    root = open_store(url)
    root.delete(next(key for key in root.list("latent") if key.endswith(".safetensors")))
    with pytest.raises(CorruptCacheError, match="damaged"):
        commands.verify(url)
    assert "missing: latent/" in capsys.readouterr().out
