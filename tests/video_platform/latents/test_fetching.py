"""A file is brought near once, however many clips are cut from it."""

import pytest

from video_platform.datasets.record import Record, identify
from video_platform.errors import SourceError
from video_platform.latents import fetching
from video_platform.latents.fetching import Fetcher
from video_platform.storage import open_store

FILM = bytes(range(256)) * 40


def record_of(store, key="film.mp4", *, offset=None, **changes):
    identity = identify(store.stat(key), offset, len(FILM))
    return Record(
        id=key,
        url=store.url,
        key=key,
        offset=offset,
        size_bytes=len(FILM),
        identity=identity,
        **changes,
    )


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(fetching, "PIECE_BYTES", 1000)


@pytest.fixture
def far(s3_url):
    store = open_store(s3_url)
    store.put("film.mp4", FILM)
    return store


def test_a_local_file_is_used_where_it_lies(tmp_path):
    store = open_store(str(tmp_path))
    store.put("film.mp4", FILM)
    fetcher = Fetcher()
    assert fetcher.media(record_of(store, file="film.mp4")) == tmp_path / "film.mp4"
    assert fetcher.fetched_bytes == 0


def test_a_small_video_that_is_one_clip_is_bytes(far):
    assert Fetcher().media(record_of(far)) == FILM


def test_a_file_that_is_cut_is_fetched_once_for_all_its_clips(far):
    fetcher = Fetcher()
    for start_s in range(3):
        path = fetcher.media(record_of(far, file="film.mp4", start_s=float(start_s)))
        assert path.read_bytes() == FILM
    assert fetcher.fetched_bytes == len(FILM)


def test_the_copy_is_gone_with_the_next_file(far, small_pieces):
    far.put("other.mp4", FILM[::-1])
    fetcher = Fetcher()
    path = fetcher.media(record_of(far, file="film.mp4"))
    assert fetcher.media(record_of(far, "other.mp4", file="other.mp4")).read_bytes() == FILM[::-1]
    assert not path.exists() or path.read_bytes() != FILM


def test_a_large_file_comes_in_pieces(far, small_pieces):
    fetcher = Fetcher()
    assert fetcher.media(record_of(far)).read_bytes() == FILM


def test_a_large_video_in_a_local_shard_is_cut_out_of_it(tmp_path, small_pieces):
    store = open_store(str(tmp_path))
    store.put("clips.tar", b"head" + FILM + b"tail")
    fetcher = Fetcher()
    assert fetcher.media(record_of(store, "clips.tar", offset=4)).read_bytes() == FILM


def test_a_file_that_changed_since_it_was_listed_is_refused(far, small_pieces):
    record = record_of(far, file="film.mp4")
    far.put("film.mp4", FILM[::-1])
    with pytest.raises(SourceError, match=r"'film\.mp4'.*has changed since it was listed"):
        Fetcher().media(record)
