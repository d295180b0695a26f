"""A folder of video files, each with a caption from a captions file or from a `.txt` beside it.

clips/captions.jsonl     {"video": "walks/dog.mp4", "caption": "a dog walks"}
clips/walks/dog.mp4
clips/walks/cat.mp4
clips/walks/cat.txt      a cat sleeps

A captions file may lie in each folder, and names files from there on.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

from video_platform.datasets.config import SourceConfig
from video_platform.datasets.listing import IMAGES, TABLES, VIDEOS, Listing
from video_platform.datasets.record import Record
from video_platform.datasets.tables import Row, clean_caption, read_rows, refuse_missing
from video_platform.errors import SourceError, StorageError
from video_platform.storage import join_key


def list_folder(listing: Listing, config: SourceConfig) -> list[Record]:
    """List every file that is called like a video, however deep."""
    videos = listing.media(config)
    if not videos:
        images = len(listing.ending(IMAGES))
        hint = f"; for the {images} images set source.images to true" if images else ""
        raise SourceError(
            f"there is no video in {listing.store.url!r}; looked for {' '.join(VIDEOS)}{hint}"
        )
    return describe(listing, videos, _captions(listing, config, videos))


def describe(listing: Listing, videos: Sequence[str], rows: Mapping[str, Row]) -> list[Record]:
    """Return the records of some files: with what a table says of them, or the text beside."""
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


def key_of(row: Row, folder: str = "") -> str:
    """Return the key of the file that a row names, which lies in the folder of its table.

    Raises:
        SourceError: it leads out of it.
    """
    try:
        return join_key(folder, join_key(row.video))
    except StorageError as error:
        raise SourceError(f"{row.where}: {error}") from None


def _captions(listing: Listing, config: SourceConfig, videos: list[str]) -> dict[str, Row]:
    """Read the captions files, if there are any: what they say of each video."""
    rows: dict[str, Row] = {}
    for name in _captions_files(listing, config):
        folder = PurePosixPath(name).parent.as_posix()
        for row in read_rows(listing.store, name, caption=config.caption_column):
            key = key_of(row, folder)
            if key in rows:
                raise SourceError(f"{row.where}: {row.video!r} has a caption already")
            rows[key] = row
    known = {*videos, *listing.ending(IMAGES)}
    refuse_missing([row for key, row in rows.items() if key not in known])
    return rows


def _captions_files(listing: Listing, config: SourceConfig) -> list[str]:
    """Return the captions file that is named, else one of each folder that has some."""
    if config.captions is None:
        tables = map(PurePosixPath, listing.ending(TABLES))
        found = {path.parent: path for path in tables if path.stem == "captions"}
        for ending in reversed(TABLES):  # the first kind has the last say
            found |= {
                folder: path.with_suffix(ending)
                for folder, path in found.items()
                if path.with_suffix(ending).as_posix() in listing.files
            }
        return sorted(path.as_posix() for path in found.values())
    if config.captions not in listing.files:
        there = ", ".join(listing.ending(TABLES)) or "none"
        raise SourceError(
            f"there is no captions file {config.captions!r} in {listing.store.url!r}; "
            f"set source.captions to one of: {there}"
        )
    return [config.captions]


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
