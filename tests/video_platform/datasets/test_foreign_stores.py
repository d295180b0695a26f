"""Every layout is read from a store that fsspec knows as it is from a disk or from S3."""

import pytest

from tests.video_platform.datasets import (
    test_folder,
    test_huggingface,
    test_manifest,
    test_webdataset,
)
from video_platform.storage import BACKENDS
from video_platform.stores.foreign import FOREIGN, Foreign, ForeignBackend


class OnForeignStore:
    """Reaches S3 by the road of foreign stores."""

    @pytest.fixture
    def store_url(self, s3_url, monkeypatch):
        row = Foreign(package="s3fs", failure="botocore.exceptions:BotoCoreError")
        monkeypatch.setitem(FOREIGN, "s3", row)
        monkeypatch.setitem(BACKENDS, "s3", lambda place: ForeignBackend("s3", place))
        return s3_url


class TestFolder(OnForeignStore, test_folder.TestCaptionsFile):
    pass


class TestManifest(OnForeignStore, test_manifest.TestJsonLines):
    pass


class TestWebDataset(OnForeignStore, test_webdataset.TestShards):
    pass


class TestMetadata(OnForeignStore, test_huggingface.TestMetadataLines):
    pass


class TestParquet(OnForeignStore, test_huggingface.TestShards):
    pass
