"""Tables that say what videos show: captions files and manifests, as JSON lines, CSV or Parquet.

Columns: `video` (a path), `caption` (or `text`, or `prompt`), and optionally `id` and `program` (an
object, or JSON text). Others are ignored.
"""

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

from video_platform.datasets.listing import suffix
from video_platform.errors import SourceError
from video_platform.storage import Store


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table."""

    where: str
    """File and line, for messages."""
    video: str
    caption: str | None
    id: str | None = None
    program: dict[str, Any] | None = None

    @classmethod
    def named(cls, where: str, video: Any, *, caption: str | None) -> Self:
        """Return a row with a video of which only the caption is known.

        Raises:
            SourceError: it names no video.
        """
        if not isinstance(video, str) or not video:
            raise SourceError(f"{where}: it holds no media, and its path is {video!r}")
        return cls(where=where, video=video, caption=caption)


def read_rows(
    store: Store, key: str, *, video: str = "video", caption: str | None = None
) -> list[Row]:
    """Read a table, by its ending.

    Args:
        store: where it is.
        key: its file.
        video: the column that names the videos.
        caption: the column with the captions; None takes the first of `CAPTIONS` that is there.

    Raises:
        SourceError: it is not what its name says, or a row has no video or a wrong type.
    """
    if suffix(key) not in READERS:
        raise SourceError(f"cannot read {key!r} in {store.url!r}: a table ends in {_KNOWN}")
    name = f"{store.url}/{key}"
    try:
        columns = (video, *((caption,) if caption else CAPTIONS), "id", "program")
        numbered = list(enumerate(READERS[suffix(key)](store.read(key), columns), 1))
    except (ValueError, csv.Error, RecursionError) as error:
        raise SourceError(f"{name} is not {suffix(key)[1:]}: {error}") from None
    rows = [
        _row(fields, where=f"{name}, row {number}", video=video, caption=caption)
        for number, fields in numbered
    ]
    if not rows:
        raise SourceError(f"{name} is empty")
    return rows


def refuse_missing(rows: list[Row]) -> None:
    """Raise if there are rows whose video is not there, and name some."""
    if rows:
        names = ", ".join(repr(row.video) for row in rows[:5]) + (", ..." if rows[5:] else "")
        raise SourceError(
            f"{rows[0].where}: {len(rows)} of the named videos are not there: {names}; "
            "put them there or take their rows out"
        )


def parse_program(value: Any, where: str) -> dict[str, Any] | None:
    """Take a ground-truth program as an object or as JSON text; nothing is None."""
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{where}: program is not JSON: {error}") from None
    if value is None or value == "":
        return None
    if not isinstance(value, dict):
        raise SourceError(f"{where}: program is {value!r}; it must be a JSON object")
    return value


def clean_caption(value: Any, where: str) -> str | None:
    """Strip a caption; nothing but blanks is None."""
    if value is not None and not isinstance(value, str):
        raise SourceError(f"{where}: caption is {value!r}; it must be text")
    return (value or "").strip() or None


def _row(fields: Any, *, where: str, video: str, caption: str | None) -> Row:
    if not isinstance(fields, dict):
        raise SourceError(f"{where} holds {fields!r}; it must be an object with {video!r}")
    path, name = fields.get(video), fields.get("id")
    if not isinstance(path, str) or not path:
        raise SourceError(
            f"{where}: {video!r} is {path!r}; it must be a path. Keys: {list(fields)}"
        )
    if name is not None and not isinstance(name, str):
        raise SourceError(f"{where}: id is {name!r}; it must be text")
    if caption is not None and caption not in fields:
        raise SourceError(
            f"{where} has no {caption!r}; set source.caption_column to one of {list(fields)}"
        )
    words = caption or next((column for column in CAPTIONS if column in fields), CAPTIONS[0])
    return Row(
        where=where,
        video=path,
        caption=clean_caption(fields.get(words), where),
        id=name or None,
        program=parse_program(fields.get("program"), where),
    )


def _read_jsonl(data: bytes, columns: Sequence[str]) -> Iterator[Any]:
    for number, line in enumerate(data.decode("utf-8-sig").split("\n"), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None


def _read_csv(data: bytes, columns: Sequence[str]) -> Iterator[Any]:
    text = io.StringIO(data.decode("utf-8-sig"), newline="")
    yield from csv.DictReader(text, strict=True)


def _read_parquet(data: bytes, columns: Sequence[str]) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(data))
        known = [name for name in file.schema_arrow.names if name in columns]
        for batch in file.iter_batches(columns=known):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(str(error)) from None


READERS: dict[str, Callable[[bytes, Sequence[str]], Iterator[Any]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
CAPTIONS = ("caption", "text", "prompt")
"""Columns that hold captions, unless another is named."""
_KNOWN = ", ".join(READERS)
