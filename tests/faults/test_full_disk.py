"""A disk that is full while a unit is written: a clear error, and nothing of it is to be seen."""

import resource

import pytest

from tests.video_platform.latents.toy import config_for, fill, latents, record, write_clips
from video_platform.errors import StorageError
from video_platform.latents import open_cache, snapshot, verify
from video_platform.latents.layer import open_layer
from video_platform.latents.manifest import latent_units
from video_platform.latents.work import missing_work
from video_platform.storage import open_store

RECORDS = [record(number) for number in range(4)]


REJECTED = [item.id for item in RECORDS[1:]]
"""So that the shard is smaller than the commit."""


@pytest.mark.parametrize(("room", "left"), [(0, set()), (200, set()), (700, {"orphan"})])
def test_a_unit_that_does_not_fit_is_not_there_and_can_be_made_later(tmp_path, room, left):
    """With so many bytes a file the shard does not fit, or the shard does and the commit not."""
    url = str(tmp_path)
    fill(url, RECORDS, units=0)
    layer = open_layer(open_store(url), latents(config_for(url)))
    (work,) = missing_work(layer, latent_units(RECORDS, 4))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(StorageError, match="files of this size are not allowed"):
            write_clips(layer, work, {item.id: item for item in RECORDS}, REJECTED)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert layer.committed() == set()
    assert open_store(url).unfinished() == {}
    assert {finding.kind for finding in verify(url)} == left
    fill(url, RECORDS, rejected=REJECTED)
    snapshot(url)
    assert open_cache(url).ids == [RECORDS[0].id]
