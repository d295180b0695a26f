"""The simulation of very large caches, in small: its commits are real ones, its figures too."""

import dataclasses
import json

from tests.benchmarks import cache_scale
from tests.benchmarks.cache_scale import (
    Case,
    commit_bytes,
    freeze,
    read,
    write_commits,
    write_source,
)
from video_platform.latents.records import Commit
from video_platform.latents.snapshots import load_index, load_snapshot
from video_platform.storage import open_store

IDS = [f"{number}.mp4" for number in range(100)]


def test_synthetic_commits_are_such_as_the_job_writes():
    data = commit_bytes("0123456789abcdef", IDS, latent=True)
    assert Commit.from_bytes(data, "unit").to_bytes() == data
    data = commit_bytes("0123456789abcdef", IDS, latent=False)
    text, again = Commit.from_bytes(data, "unit"), json.loads(data)
    assert [entry.id for entry in text.entries] == IDS
    written = json.loads(text.to_bytes())
    assert written.keys() == again.keys(), "kinds that no embedding has are all that differs"


def test_a_large_cache_is_frozen_grown_and_read(tmp_path):
    case = Case(folder=str(tmp_path), samples=20_000)
    units = write_commits(case, write_source(case))
    whole = freeze(case)
    assert whole["clips"] == 20_000
    assert whole["bytes"] < 400 * 20_000
    again = write_commits(case, write_source(case, grown=True))
    assert 0 < again < units
    assert freeze(case)["clips"] == 20_200
    root = open_store(case.folder)
    rows = load_index(root, load_snapshot(root))
    ids = rows.column("id")
    assert len({*ids}) == 20_200
    assert [rows[place].id for place in range(0, 20_200, 997)] == ids[::997]
    figures = read(dataclasses.replace(case), rows=640)
    assert figures["open_bytes"] < 4 << 20, "opening reads no rows"
    assert figures["rows_per_s"] > 0
    assert cache_scale.SHAPES[0] in load_snapshot(root).buckets
