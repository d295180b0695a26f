"""What a latent cache of very many samples costs, with synthetic commits, in one table.

    python -m tests.benchmarks.cache_scale                      # ten million samples, minutes
    python -m tests.benchmarks.cache_scale --samples 100000

Source manifest and commits are such as the job writes, of clips in four buckets that have a mean, a
log-variance, a caption of their own and its embedding; only the shards that they name are not
there. Then every figure is taken in a process of its own: freezing all of it, freezing it
again with 1% more clips, opening, rows at random places, and batches in the order of training.
Memory is the peak of what the process holds for itself; pages of mapped files, which the system
takes back when it needs them, are beside it. The last column is the first times a hundred for what
grows with the number of samples.
"""

import argparse
import base64
import dataclasses
import functools
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

FOLDER = "latent/0123456789abcdef"
TEXT = "text/t5/0123456789abcdef"
SHAPES = ("16x13x32x32", "16x13x40x24", "16x13x24x40", "16x1x64x64")
CHANNELS = 16
BATCH = 1 << 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """How large, and where."""

    folder: str
    samples: int
    unit_size: int = 256
    text_unit_size: int = 1024


def write_source(case: Case, *, grown: bool = False) -> str:
    """Store the manifest of a synthetic source, 1% larger if it has grown; return its name."""
    from video_platform.latents.manifest import SCHEMA, save_manifest_rows
    from video_platform.storage import open_store

    def batches():
        for start in range(0, case.samples, BATCH):
            numbers = np.arange(start, min(start + BATCH, case.samples))
            more = numbers[numbers % 100 == 0] if grown else numbers[:0]
            ids = [f"{n:010d}.mp4" for n in numbers] + [f"{n:010d}b.mp4" for n in more]
            yield _records(sorted(ids), SCHEMA)

    return save_manifest_rows(open_store(case.folder), batches())


def _records(ids, schema):
    """Return rows of a manifest, with captions of 30 words."""
    count = len(ids)
    words = _words()
    fixed = {
        "url": "s3://bucket/videos",
        "identity": "0123456789abcdef0123456789abcdef",
        "size_bytes": 10**6,
        "start_s": 0.0,
        "size": "[49,256,256]",
    }
    columns = {"id": ids, "key": ids, "made_from": [f"{name:0>32}" for name in ids]}
    columns["caption"] = [f"{name} {words[i % len(words)]}" for i, name in enumerate(ids)]
    return pa.record_batch(
        [
            pa.array(columns[f.name], f.type)
            if f.name in columns
            else pa.array([fixed.get(f.name)] * count, f.type)
            for f in schema
        ],
        schema=schema,
    )


@functools.cache
def _words() -> list[str]:
    draw = np.random.default_rng(0)
    vocabulary = ["a", "the", "red", "small", "quiet", "dog", "street", "walks", "slowly", "by"]
    return [" ".join(draw.choice(vocabulary, 30)) for _ in range(4096)]


def write_commits(case: Case, source: str) -> int:
    """Commit every unit of a source that is not committed; return how many."""
    from video_platform.latents.manifest import Plan
    from video_platform.latents.source import Source
    from video_platform.storage import open_store

    root = open_store(case.folder)
    columns = Source(root, source)
    made = 0
    layers = {FOLDER: columns.clips(case.unit_size), TEXT: columns.texts(case.text_unit_size)}
    with ProcessPoolExecutor() as processes:
        for folder, members in layers.items():
            target = Path(case.folder, folder, "commits")
            target.mkdir(parents=True, exist_ok=True)
            there = {path.stem for path in target.iterdir()}
            work = []
            for number, unit in enumerate(members.units):
                if unit not in there:
                    work.append((unit, members.names(members.of(number)).to_pylist()))
                if work and (len(work) == 256 or number == len(members.units) - 1):
                    processes.submit(_write_units, str(target), work, latent=folder == FOLDER)
                    made += len(work)
                    work = []
            if work:
                processes.submit(_write_units, str(target), work, latent=folder == FOLDER)
                made += len(work)
    plan = Plan(
        source=source,
        latent=FOLDER,
        text={"t5": TEXT},
        unit_size=case.unit_size,
        text_unit_size=case.text_unit_size,
    )
    plan.save(root)
    return made


def _write_units(folder, units, *, latent):
    """Write commits without waiting for the disk."""
    for unit, ids in units:
        Path(folder, f"{unit}.json").write_bytes(commit_bytes(unit, ids, latent=latent))


def commit_bytes(unit: str, ids: list[str], *, latent: bool) -> bytes:
    """Return what `Commit.to_bytes` would; what all units of a size share is spelled once."""
    from video_platform.latents.sealed import canonical_json

    shared, keys = _shared(len(ids), latent)
    names = [f"data/{key}/{unit}-{unit}.safetensors" for key in range(keys)]
    own = {
        "id": ids,
        "keys": names,
        "shards": {name: {"sha256": unit * 4, "size_bytes": 1} for name in names},
        "source": [f"{name:0>32}" for name in ids],
        "unit": unit,
    }
    parts = shared | {name: canonical_json(value) for name, value in own.items()}
    body = b",".join(b'"%s":%s' % (name.encode(), parts[name]) for name in sorted(parts))
    parts["sha256"] = b'"%s"' % hashlib.sha256(b"{%s}" % body).hexdigest().encode()
    body = b",".join(b'"%s":%s' % (name.encode(), parts[name]) for name in sorted(parts))
    return b"{%s}\n" % body


@functools.cache
def _shared(count: int, latent: bool) -> tuple[dict[str, bytes], int]:
    """Spell what all commits of so many samples have in common; also how many shards they have."""
    from video_platform.latents.sealed import canonical_json

    draw = np.random.default_rng(count)
    if latent:
        shapes = [[*map(int, shape.split("x"))] for shape in SHAPES]
        kind = np.sort(draw.integers(0, len(SHAPES), count))
        tensors, key, sums = {"mean": 0, "logvar": 1}, kind, draw.normal(size=(2, count * CHANNELS))
        sums[1] = np.abs(sums[1]) * 10**6
    else:
        shapes = [[tokens, 1024] for tokens in range(20, 256)]
        kind = draw.integers(0, len(shapes), count)
        tensors, key, sums = {"embedding": 0}, np.zeros(count, np.int64), np.zeros((2, 0))
    length = 2 * np.array([int(np.prod(shape)) for shape in shapes])[kind]
    offset = 4096 + np.cumsum(length * len(tensors)) - length * len(tensors)
    places = {
        name: {
            "sample": [*range(count)],
            "key": key.tolist(),
            "kind": kind.tolist(),
            "offset": (offset + rank * length).tolist(),
            "length": length.tolist(),
            "crc32": draw.integers(0, 1 << 32, count).tolist(),
        }
        for name, rank in tensors.items()
    }
    shared = {
        "channel_square_sum": base64.b64encode(sums[1].tobytes()).decode(),
        "channel_sum": base64.b64encode(sums[0].tobytes()).decode(),
        "channels": [CHANNELS if latent else 0] * count,
        "decoder": [0] * count,
        "decoders": ["decord" if latent else ""],
        "kinds": [[shape, "bfloat16"] for shape in shapes],
        "rejects": [],
        "tensors": places,
    }
    spelled = {name: canonical_json(value) for name, value in shared.items()}
    return spelled, int(key.max()) + 1


def freeze(case: Case) -> dict[str, float]:
    """Take a snapshot of the newest plan."""
    from video_platform.latents.manifest import load_plan
    from video_platform.latents.snapshots import take_snapshot
    from video_platform.storage import open_store

    root = open_store(case.folder)
    start, processor = time.perf_counter(), time.process_time()
    header = take_snapshot(root, load_plan(root))
    return {
        "seconds": time.perf_counter() - start,
        "processor_s": time.process_time() - processor,
        "clips": header.clips,
        "bytes": sum(file.size_bytes for file in header.index.all),
    }


def read(case: Case, *, rows: int = 20_000) -> dict[str, float]:
    """Open the newest snapshot and read rows at random places, then the rows of batches."""
    from video_platform.batches.order import Bucket, Order
    from video_platform.latents import open_cache

    before, start = _memory(), time.perf_counter()
    cache = open_cache(case.folder)
    opened_s, opened = time.perf_counter() - start, _memory()
    places = np.random.default_rng(0).integers(0, len(cache), rows).tolist()
    start = time.perf_counter()
    for place in places[:64]:
        _ = cache._index[place]
    first_s = time.perf_counter() - start
    start = time.perf_counter()
    for place in places:
        _ = cache._index[place]
    warm_s, warm = time.perf_counter() - start, _memory()
    start = time.perf_counter()
    order = Order([Bucket(b.places, 64, 64) for b in cache.buckets], seed=0)
    for step in range(rows // 64):
        for place in order.batch(step).indices:
            _ = cache._index[place]
    return {
        "open_s": opened_s,
        "open_bytes": opened[0] - before[0],
        "first_batch_s": first_s,
        "rows_per_s": rows / warm_s,
        "row_bytes": warm[0] - opened[0],
        "batches_per_s": (rows // 64) / (time.perf_counter() - start),
    }


def _memory() -> tuple[int, int]:
    """Return what this process holds for itself and of mapped files, in bytes."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    own, mapped = (int(fields[name].split()[0]) << 10 for name in ("RssAnon", "RssFile"))
    return own, mapped


class Peak:
    """The most memory that was seen while the block ran."""

    def __enter__(self):
        self.own = self.mapped = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._stop.set()
        self._thread.join()

    def _watch(self):
        while not self._stop.wait(0.05):
            own, mapped = _memory()
            self.own, self.mapped = max(self.own, own), max(self.mapped, mapped)


PHASES = {"freeze": freeze, "read": read}


def measure(phase: str, case: Case) -> dict[str, float]:
    """Run one phase in a process of its own."""
    command = [sys.executable, "-m", __spec__.name if __spec__ else __name__, "--phase", phase]
    done = subprocess.run(
        [*command, "--case", json.dumps(dataclasses.asdict(case))],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    return json.loads(done.stdout.splitlines()[-1])


def run(case: Case) -> dict[str, dict[str, float]]:
    """Write a cache and take all figures of it."""
    start = time.perf_counter()
    units = write_commits(case, write_source(case))
    print(f"{units} units written in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    figures = {"size": {"units": units}, "whole": measure("freeze", case)}
    figures["read"] = measure("read", case)
    again = write_commits(case, write_source(case, grown=True))
    figures["grown"] = measure("freeze", case) | {"units": again}
    figures["same"] = measure("freeze", case)
    return figures


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--folder", help="where to write; None is a temporary folder")
    parser.add_argument("--phase", choices=sorted(PHASES))
    parser.add_argument("--case", help="JSON of a case, for a phase")
    options = parser.parse_args()
    if options.phase:
        with Peak() as peak:
            figures = PHASES[options.phase](Case(**json.loads(options.case)))
        print(json.dumps(figures | {"peak": peak.own, "mapped": peak.mapped}))
        return
    folder = Path(options.folder or tempfile.mkdtemp(prefix="cache-scale-"))
    try:
        case = Case(folder=str(folder), samples=options.samples)
        show(case, run(case))
    finally:
        if not options.folder:
            shutil.rmtree(folder)


def show(case: Case, figures: dict[str, dict[str, float]]) -> None:
    """Print the table."""
    whole, grown, same, reading = (figures[name] for name in ("whole", "grown", "same", "read"))
    count = whole["clips"]

    def line(name, value, unit, *, grows=True, digits=1):
        more = f"{value * 1e9 / count:,.{digits}f}" if grows else f"{value:,.{digits}f}"
        print(f"| {name} | {value:,.{digits}f} {unit} | {more} {unit} |")

    print(f"| | {count:,} samples | 1 billion, by proportion |\n|---|---|---|")
    line("commits", figures["size"]["units"], "", digits=0)
    line("freeze", whole["seconds"], "s")
    line("its processor time", whole["processor_s"], "s")
    line("its memory", whole["peak"] / 1e9, "GB")
    line("index", whole["bytes"] / 1e9, "GB", digits=2)
    line(f"freeze with 1% more clips, {grown['units']} new commits", grown["seconds"], "s")
    line("its processor time", grown["processor_s"], "s")
    line("its memory", grown["peak"] / 1e9, "GB")
    line("freeze again, nothing new", same["seconds"], "s")
    line("its processor time", same["processor_s"], "s")
    line("open", reading["open_s"], "s", grows=False, digits=3)
    line("memory of an open cache", reading["open_bytes"] / 1e6, "MB", grows=False)
    line("first 64 rows", reading["first_batch_s"], "s")
    line("more memory after 20,000 rows", reading["row_bytes"] / 1e6, "MB", grows=False)
    line("rows at random", reading["rows_per_s"], "/s", grows=False, digits=0)
    line("batches of 64 in order", reading["batches_per_s"], "/s", grows=False, digits=0)


if __name__ == "__main__":
    main()
