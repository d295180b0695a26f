"""Write the world to disk or to S3, as real mp4 files, in any layout that `datasets` reads.

    folder      captions.jsonl  videos/<id>.mp4
    manifest    <name>.jsonl or <name>.parquet  videos/<id>.mp4
    webdataset  clips-000000.tar ... with <id>.mp4, <id>.txt, <id>.json

`world.json` says beside them what they were made from. Every byte follows from the world, so a run
that was cut short is completed by the next, and one that was complete has nothing left to do.
"""

import dataclasses
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from video_platform.config import pick
from video_platform.errors import SourceError
from video_platform.shapes.captions import clip_at
from video_platform.shapes.program import Program
from video_platform.shapes.render import render
from video_platform.shapes.world import WorldConfig, origin_of
from video_platform.storage import Store, open_store
from video_platform.video.encode import encode_mp4

T = TypeVar("T")
Progress = Callable[[int, int], None]
Row = dict[str, Any]

WORLD_VERSION = 1
"""Goes up when the same configuration draws, words or encodes a clip differently."""

CRF = 8
"""H.264 quality; the usual rate would eat the edges of a 32 pixel frame."""

CLIPS_PER_SHARD = 256
"""Clips in one tar file."""

_WRITERS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
    """What `write_dataset` left behind."""

    source_url: str
    """What to open it by: `source.url` in a recipe."""
    num_clips: int
    """Clips in the dataset."""
    new_clips: int
    """Clips that were not there before."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Task:
    """One dataset in the making."""

    world: WorldConfig
    held_out: bool
    store: Store
    index_key: str
    on_progress: Progress

    def name(self, index: int) -> str:
        return f"{'withheld' if self.held_out else 'clip'}-{index:06d}"

    def draw(self, index: int) -> tuple[Program, str]:
        return clip_at(self.world, index, held_out=self.held_out)

    def encode(self, index: int) -> bytes:
        program, text = self.draw(index)
        origin = f"synthetic clip {self.name(index)} of seed {self.world.seed}"
        return encode_mp4(
            render(program), fps=program.fps, metadata={"title": text, "comment": origin}, crf=CRF
        )


def write_dataset(
    world: WorldConfig,
    url: str,
    *,
    format: str = "auto",
    held_out: bool = False,
    on_progress: Progress | None = None,
) -> Written:
    """Write a world's clips, captions and ground truth.

    Args:
        world: what to draw.
        url: a folder, on a disk or in S3; or a manifest in it, ending in `.jsonl` or `.parquet`.
        format: a key of `FORMATS`; "auto" is a manifest by its ending, otherwise a folder.
        held_out: write clips of the withheld combinations, and no others.
        on_progress: called with the clips done and the clips in all.

    Raises:
        SourceError: the place holds another world.
        ConfigError: the format is unknown, or does not go with the URL.
        StorageError: the place cannot be written.
    """
    is_manifest = url.endswith((".jsonl", ".parquet"))
    if format == "auto":
        format = "manifest" if is_manifest else "folder"
    write = pick(FORMATS, format, "dataset format")
    if is_manifest != (format == "manifest"):
        raise SourceError(
            f"{url!r} as {format!r}: a manifest, and nothing else, ends in .jsonl or .parquet"
        )
    place, _, name = url.rpartition("/") if is_manifest else (url, "", "captions.jsonl")
    store = open_store(place or ("/" if url.startswith("/") else "."))
    _claim(store, world, held_out)
    task = _Task(
        world=world,
        held_out=held_out,
        store=store,
        index_key=name,
        on_progress=on_progress or (lambda done, total: None),
    )
    return Written(source_url=url, num_clips=world.num_clips, new_clips=write(task))


def _claim(store: Store, world: WorldConfig, held_out: bool) -> None:
    """Note what the dataset is made from, or check that the note says the same."""
    origin = {
        "version": WORLD_VERSION,
        "held_out_only": held_out,
        "world": origin_of(world),
    }
    note = _json(origin, indent=2)
    if not store.put_if_absent("world.json", note) and store.read("world.json") != note:
        raise SourceError(
            f"{store.url} already holds another world (see its world.json); "
            "give another source.url, or delete it"
        )


def _write_files(task: _Task) -> int:
    """Write one file a clip, and last the index, so that a torn dataset has none."""
    there = set(task.store.list("videos"))

    def write(index: int) -> tuple[Row, bool]:
        program, text = task.draw(index)
        name = task.name(index)
        key = f"videos/{name}.mp4"
        is_new = key not in there and task.store.put_if_absent(key, task.encode(index))
        row = {"id": name, "video": key, "caption": text, "program": program.to_json()}
        return row, is_new

    written = _in_threads(write, range(task.world.num_clips), at_once=64, task=task)
    rows = [row for row, _ in written]
    table = _parquet(rows) if task.index_key.endswith(".parquet") else _json_lines(rows)
    task.store.put_if_absent(task.index_key, table)
    return sum(is_new for _, is_new in written)


def _write_shards(task: _Task) -> int:
    """Write tar files; one that is there is whole."""
    there = set(task.store.list())
    starts = range(0, task.world.num_clips, CLIPS_PER_SHARD)

    def write(start: int) -> int:
        key = f"clips-{start // CLIPS_PER_SHARD:06d}.tar"
        indexes = range(start, min(start + CLIPS_PER_SHARD, task.world.num_clips))
        is_new = key not in there and task.store.put_if_absent(key, _tar(task, indexes))
        return len(indexes) * is_new

    return sum(_in_threads(write, starts, at_once=_WRITERS, task=task))


FORMATS: dict[str, Callable[[_Task], int]] = {
    "folder": _write_files,
    "manifest": _write_files,
    "webdataset": _write_shards,
}


def _in_threads(
    write: Callable[[int], T], items: Sequence[int], *, at_once: int, task: _Task
) -> list[T]:
    """Call `write` on each item, in their order; an interrupt waits for `at_once` of them."""
    done: list[T] = []
    with ThreadPoolExecutor(_WRITERS) as pool:
        for start in range(0, len(items), at_once):
            done += pool.map(write, items[start : start + at_once])
            task.on_progress(len(done) * task.world.num_clips // len(items), task.world.num_clips)
    return done


def _tar(task: _Task, indexes: Sequence[int]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for index in indexes:
            program, text = task.draw(index)
            members = {
                "mp4": task.encode(index),
                "txt": text.encode(),
                "json": _json({"caption": text, "program": program.to_json()}),
            }
            for ending, data in members.items():
                # A TarInfo of its own has no time, user or mode of this machine.
                member = tarfile.TarInfo(f"{task.name(index)}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _json(tree: Any, *, indent: int | None = None) -> bytes:
    return json.dumps(tree, indent=indent, ensure_ascii=False).encode()


def _json_lines(rows: Sequence[Row]) -> bytes:
    return b"".join(_json(row) + b"\n" for row in rows)


def _parquet(rows: Sequence[Row]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = [{**row, "program": json.dumps(row["program"])} for row in rows]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(flat), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data
