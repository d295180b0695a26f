"""A folder of video files, each with a caption from a captions file or from a `.txt` beside it.

clips/captions.jsonl     {"video": "walks/dog.mp4", "caption": "a dog walks"}
clips/walks/dog.mp4
clips/walks/cat.mp4
clips/walks/cat.txt      a cat sleeps
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

from video_platform.datasets.config import SourceConfig
from video_platform.datasets.listing import TABLES, VIDEOS, Listing
from video_platform.datasets.record import Record
from video_platform.datasets.tables import Row, clean_caption, read_rows, refuse_missing
from video_platform.errors import SourceError, StorageError
from video_platform.storage import join_key


def list_folder(listing: Listing, config: SourceConfig) -> list[Record]:
    """List every file that is called like a video, however deep."""
    videos = listing.ending(VIDEOS)
    if not videos:
        raise SourceError(
            f"there is no video in {listing.store.url!r}; looked for {' '.join(VIDEOS)}"
        )
    rows = _captions(listing, config, videos)
    texts = _texts_beside(listing, [key for key in videos if key not in rows])
    return [
        Record(
            id=key,
            url=listing.store.url,
            key=key,
            size_bytes=listing.files[key].size_bytes,
            identity=listing.files[key].identity,
            caption=rows[key].caption if key in rows else texts.get(key),
            program=rows[key].program if key in rows else None,
        )
        for key in videos
    ]


def _captions(listing: Listing, config: SourceConfig, videos: list[str]) -> dict[str, Row]:
    """Read the captions file, if there is one: what it says of each video."""
    names = [config.captions] if config.captions else [f"captions{ending}" for ending in TABLES]
    name = next((name for name in names if name in listing.files), None)
    if name is None:
        if config.captions is None:
            return {}
        there = ", ".join(listing.ending(TABLES)) or "none"
        raise SourceError(
            f"there is no captions file {config.captions!r} in {listing.store.url!r}; "
            f"set source.captions to one of: {there}"
        )
    rows: dict[str, Row] = {}
    for row in read_rows(listing.store, name):
        try:
            key = join_key(row.video)
        except StorageError as error:
            raise SourceError(f"{row.where}: {error}") from None
        if key in rows:
            raise SourceError(f"{row.where}: {row.video!r} has a caption already")
        rows[key] = row
    known = set(videos)
    refuse_missing([row for key, row in rows.items() if key not in known])
    return rows


def _texts_beside(listing: Listing, videos: list[str]) -> dict[str, str | None]:
    """Read the text file of each video that has one."""
    beside = {key: PurePosixPath(key).with_suffix(".txt").as_posix() for key in videos}
    beside = {key: text for key, text in beside.items() if text in listing.files}

    def read(key: str) -> str | None:
        where = f"{listing.store.url}/{key}"
        try:
            return clean_caption(listing.store.read(key).decode("utf-8-sig"), where)
        except UnicodeDecodeError as error:
            raise SourceError(f"{where} is not UTF-8 text: {error}") from None

    with ThreadPoolExecutor(16) as threads:
        return dict(zip(beside, threads.map(read, beside.values()), strict=True))
