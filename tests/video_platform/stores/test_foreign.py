"""Stores that fsspec knows: the promises are those of the file system, and the probe tells."""

import pytest

from tests.conformance.storage import StoreConformance
from video_platform.errors import StorageError
from video_platform.storage import BACKENDS, Store, open_store
from video_platform.stores import foreign
from video_platform.stores.foreign import FOREIGN, Foreign, ForeignBackend


@pytest.fixture(autouse=True)
def rows(monkeypatch):
    """Reach stores that are at hand here as if they were foreign ones."""
    for protocol in ("s3", "local", "memory"):
        row = Foreign(package="fsspec", failure="botocore.exceptions:BotoCoreError")
        monkeypatch.setitem(FOREIGN, protocol, row)
    monkeypatch.setitem(BACKENDS, "s3", lambda place: ForeignBackend("s3", place))


class TestForeign(StoreConformance):
    @pytest.fixture
    def url(self, s3_url):
        return s3_url


def test_a_store_whose_exclusive_mode_is_none_is_refused_as_a_cache(tmp_path):
    """It looks first and then writes; whoever comes between is overwritten."""
    store = Store(ForeignBackend("local", str(tmp_path / "store")))
    (tmp_path / "store").mkdir()
    store.put("a", b"12345")
    assert store.read("a", start=1) == b"2345"
    assert store.list() == ["a"]
    with pytest.raises(StorageError, match=r"conditional writes are missing or broken|probe"):
        for _ in range(5):
            store.probe()


def test_a_package_that_is_missing_is_named_with_what_installs_it(monkeypatch):
    with pytest.raises(StorageError, match=r"gs:// needs gcsfs, .*pip install .*platform\[gs\]"):
        open_store("gs://bucket/videos").list()


def test_a_time_is_a_number_or_a_date():
    for time in (1.5, "1970-01-01T00:00:01.5Z", "1970-01-01T00:00:01.500000+00:00"):
        assert foreign._stat({"size": 3, "mtime": time}).modified_s == 1.5
    assert foreign._stat({"size": 3, "generation": "7"}).identity == "7"


@pytest.mark.parametrize("url", ["gs://", "gs:///a", "gs://key:secret@bucket/a", "az://b/../c"])
def test_a_malformed_url_is_refused(url):
    with pytest.raises(StorageError) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)
