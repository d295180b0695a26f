"""What every dataset format must do. To check one, inherit and say how a dataset is written:

class TestMyFormat(SourceConformance):
    format = "mine"

    def write(self, url, clips):
        ...
        return url_to_open
"""

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest

from video_platform.datasets.config import SourceConfig
from video_platform.datasets.source import open_source, read_media, source_fingerprint
from video_platform.errors import SourceError
from video_platform.storage import open_store


@dataclasses.dataclass(frozen=True)
class Clip:
    """A clip to be written; the bytes need not be a video, since nothing decodes them here."""

    name: str
    data: bytes
    caption: str | None = None
    program: dict[str, Any] | None = None


CLIPS = (
    Clip("c", b"third clip", "a blue ring", {"objects": [{"colour": "blue"}], "size": 32}),
    Clip("a", b"the first clip", 'ein Kreis, "rot"; \' 日本'),
    Clip("b", b"second", None),
)


class SourceConformance:
    """Inherited by the tests of each format; runs on a local disk and on S3."""

    format: str
    keeps_program = True
    keeps_size = True
    """Whether the exact size of each clip is known without reading it."""

    def write(self, url: str, clips: tuple[Clip, ...]) -> str:
        """Write a dataset at `url`; return what to open."""
        raise NotImplementedError

    def open(self, url, clips=CLIPS, **options):
        return open_source(SourceConfig(url=self.write(url, clips), **options))

    def test_every_clip_is_listed_with_what_it_shows(self, store_url):
        records = self.open(store_url)
        clips = sorted(CLIPS, key=lambda clip: clip.name)
        assert [record.caption for record in records] == [clip.caption for clip in clips]
        if self.keeps_size:
            assert [record.size_bytes for record in records] == [len(clip.data) for clip in clips]
        assert all(
            record.size_bytes >= len(clip.data) for record, clip in zip(records, clips, strict=True)
        )
        if self.keeps_program:
            assert [record.program for record in records] == [clip.program for clip in clips]

    def test_media_is_what_was_written(self, store_url):
        for record, clip in zip(
            self.open(store_url), sorted(CLIPS, key=lambda clip: clip.name), strict=True
        ):
            media = read_media(record)
            assert (media.read_bytes() if isinstance(media, Path) else media) == clip.data

    def test_the_layout_is_recognised(self, store_url):
        url = self.write(store_url, CLIPS)
        found = open_source(SourceConfig(url=url))
        assert found == open_source(SourceConfig(url=url, format=self.format))

    def test_ids_are_sorted_unique_and_stay_when_a_clip_is_added(self, store_url):
        before = [record.id for record in self.open(store_url + "/one")]
        more = (*CLIPS, Clip("aa", b"new", "new"))
        after = [record.id for record in self.open(store_url + "/two", more)]
        assert after == sorted(set(after))
        assert set(before) < set(after)
        assert len(after) == 4

    def test_records_can_be_sent_elsewhere(self, store_url):
        records = self.open(store_url)
        assert pickle.loads(pickle.dumps(records)) == records

    def test_the_fingerprint_follows_caption_content_and_membership(self, store_url):
        records = self.open(store_url)
        first = source_fingerprint(records)
        assert source_fingerprint(reversed(records)) == first
        for changed in (
            records[1:],
            [dataclasses.replace(records[0], caption="other"), *records[1:]],
            [dataclasses.replace(records[0], caption=None), *records[1:]],
            [dataclasses.replace(records[0], identity="other"), *records[1:]],
        ):
            assert source_fingerprint(changed) != first

    def test_identities_differ_between_clips_of_equal_length(self, store_url):
        clips = (Clip("a", b"12345", "same"), Clip("b", b"54321", "same"))
        one, two = self.open(store_url, clips)
        assert (one.identity, one.id) != (two.identity, two.id)

    def test_media_that_changed_or_vanished_is_refused(self, store_url):
        record = self.open(store_url)[0]
        store = open_store(record.url)
        data = store.read(record.key)
        store.put(record.key, data + b"more")
        with pytest.raises(SourceError, match="has changed since it was listed"):
            read_media(record)
        store.delete(record.key)
        with pytest.raises(SourceError, match="is gone since it was listed"):
            read_media(record)

    def test_an_empty_place_says_what_to_set(self, store_url):
        with pytest.raises(SourceError, match=r"there is no .* set source.url") as caught:
            open_source(SourceConfig(url=store_url, format=self.format))
        assert store_url in str(caught.value)

    def test_a_place_without_videos_says_what_was_looked_for(self, store_url):
        open_store(store_url).put("readme.md", b"")
        with pytest.raises(SourceError, match=r"there is no (video|\.tar file|manifest|metadata)"):
            open_source(SourceConfig(url=store_url, format=self.format))
