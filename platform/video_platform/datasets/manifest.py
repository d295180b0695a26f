"""A table of videos, `manifest.jsonl`, `.csv` or `.parquet`, which may lie anywhere.

{"video": "videos/000.mp4", "caption": "a red circle moves right"}
{"video": "s3://bucket/dog.mp4", "caption": "a dog walks", "id": "dog"}

A relative path counts from the folder of the manifest. A manifest in S3 cannot name files of the
machine that reads it.
"""

from concurrent.futures import ThreadPoolExecutor

from video_platform.datasets.config import SourceConfig
from video_platform.datasets.listing import TABLES, Listing
from video_platform.datasets.record import Record
from video_platform.datasets.tables import Row, read_rows, refuse_missing
from video_platform.errors import SourceError, StorageError
from video_platform.storage import MissingKeyError, Store, join_key, open_store

NAMES = tuple(f"manifest{ending}" for ending in TABLES)


def list_manifest(listing: Listing, config: SourceConfig) -> list[Record]:
    """List what the manifest names, with size and identity as they are now."""
    names = listing.ending(TABLES) if listing.single else NAMES
    name = next((name for name in names if name in listing.files), None)
    if name is None:
        raise SourceError(
            f"there is no manifest in {listing.store.url!r}; "
            f"name it {' or '.join(NAMES)}, or set source.url to the file"
        )

    def record(row: Row) -> Record | Row:
        return find_video(row, listing)

    with ThreadPoolExecutor(16) as threads:
        rows = read_rows(listing.store, name, caption=config.caption_column)
        found = list(threads.map(record, rows))
    refuse_missing([row for row in found if isinstance(row, Row)])
    return [record for record in found if isinstance(record, Record)]


def find_video(row: Row, listing: Listing) -> Record | Row:
    """Return the record of a row, or the row itself when its video is not there.

    Raises:
        SourceError: it names a place that it may not name.
    """
    try:
        store, key = _place(row.video, listing.store)
        known = listing.files if store is listing.store else {}
        stat = known[key] if key in known else store.stat(key)
    except MissingKeyError:
        return row
    except StorageError as error:
        raise SourceError(f"{row.where}: {error}") from None
    return Record(
        id=row.id or (key if store is listing.store else f"{store.url}/{key}"),
        url=store.url,
        key=key,
        size_bytes=stat.size_bytes,
        identity=stat.identity,
        caption=row.caption,
        program=row.program,
    )


def _place(video: str, home: Store) -> tuple[Store, str]:
    """Find the store and the key that a manifest in the store `home` means by a video."""
    if "://" not in video and not video.startswith("/"):
        return home, join_key(video)
    folder, _, key = open_store(video).url.rpartition("/")
    store = open_store(folder or "/")
    if home.local_path("") is None and store.local_path("") is not None:
        raise StorageError(
            f"{video!r} is refused: a manifest at {home.url!r} cannot name files of this machine"
        )
    return store, join_key(key)
