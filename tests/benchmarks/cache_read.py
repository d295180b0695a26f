"""Reading samples at random: local disk beside others, S3 by requests and bytes, and data wait.

    python -m tests.benchmarks.cache_read --quick
    python -m venv /tmp/streaming
    /tmp/streaming/bin/pip install torch==2.13.0 mosaicml-streaming==0.13.0
    python -m tests.benchmarks.cache_read --streaming-python /tmp/streaming/bin/python

MosaicML Streaming needs older libraries than ours, so it runs in an environment of its own.

The same samples, of 0.8 MB, are read in the same random orders, one thread, pages in memory, the
contenders in turns; the best round counts, by the clock (the median sample) and by the processor
(which other work on the machine disturbs less). Ratios above 1 say how much longer the other takes.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from tests.benchmarks import cache_contenders
from tests.benchmarks.counted_s3 import BUCKET, CountedS3
from tests.benchmarks.random_cache import fill
from video_platform.batches.config import LoaderConfig
from video_platform.batches.loader import Loader, Place
from video_platform.batches.order import Bucket, Order
from video_platform.latents import open_cache
from video_platform.latents.disk import DiskCache
from video_platform.storage import open_store

SHARD = 100
"""Samples in a tar shard."""
LABELS = {
    "ours": "ours, each tensor checked",
    "tar": "WebDataset tar + offset index, unchecked",
    "tar + crc": "WebDataset tar + offset index + zlib.crc32",
    "mds": "MosaicML Streaming (MDS), unchecked",
}
PARTS = ["local", "s3", "wait"]
LATENCY_S = 0.1
STEP_S = 0.25
BATCH = 4


def write_tars(url: str, folder: Path) -> None:
    """Write the samples of a cache as WebDataset shards, tensors in bfloat16."""
    cache = open_cache(url)
    folder.mkdir()
    for start in range(0, len(cache), SHARD):
        with tarfile.open(folder / f"{start:06d}.tar", "w") as archive:
            for index in range(start, min(start + SHARD, len(cache))):
                sample = cache[index]
                told = json.dumps({"id": sample.id, "caption": sample.caption}).encode()
                parts = {"mean": sample.mean, "logvar": sample.logvar, "text": sample.text["toy"]}
                tensors = save({name: part.bfloat16() for name, part in parts.items()})
                for kind, data in (("json", told), ("safetensors", tensors)):
                    member = tarfile.TarInfo(f"{index:06d}.{kind}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))


class Contender:
    """A process that reads all samples when it is asked to."""

    def __init__(self, python: str, name: str, folder: Path) -> None:
        command = [python, cache_contenders.__file__, name, str(folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if python == sys.executable:
            environment["PYTHONPATH"] = os.pathsep.join(sys.path)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.content = json.loads(self._process.stdout.readline())
        self.best = {"wall": float("inf"), "cpu": float("inf")}

    def round(self, seed: int) -> None:
        """Read all samples once."""
        self._process.stdin.write(f"{seed}\n")
        self._process.stdin.flush()
        figures = json.loads(self._process.stdout.readline())
        self.best = {name: min(value, figures[name]) for name, value in self.best.items()}

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


def local(options: argparse.Namespace, scratch: Path) -> None:
    """Compare random reads from a local disk."""
    url = str(scratch / "cache")
    write_tars(url, scratch / "tar")
    sides = {name: (sys.executable, scratch / "tar") for name in ("tar", "tar + crc")}
    sides["ours"] = (sys.executable, Path(url))
    if options.streaming_python:
        python = options.streaming_python
        command = [python, cache_contenders.__file__, "write-mds"]
        subprocess.run([*command, str(scratch / "tar"), str(scratch / "mds")], check=True)
        sides["mds"] = (python, scratch / "mds")
    contenders = {name: Contender(*side[:1], name, side[1]) for name, side in sides.items()}
    digests = {c.content["digest"] for c in contenders.values()}
    spread = (max(digests) - min(digests)) / max(abs(max(digests)), 1)
    assert spread < 1e-9, f"the contenders do not read the same: {digests}"
    for seed in range(options.rounds):
        for contender in contenders.values():
            contender.round(seed)
    for contender in contenders.values():
        contender.close()
    print(f"{'random read from a local disk, ms a sample':48}{'wall':>7}{'cpu':>8}{'ratios':>14}")
    mine = contenders["ours"].best
    for name, label in LABELS.items():
        if name in contenders:
            best = contenders[name].best
            ratios = f"{best['wall'] / mine['wall']:8.2f}{best['cpu'] / mine['cpu']:7.2f}"
            print(f"{label:48}{best['wall']:7.3f}{best['cpu']:8.3f}{ratios}")
        else:
            print(f"{label:48}  not run: give --streaming-python")


def over_s3(s3: CountedS3, url: str) -> None:
    """Count requests and bytes of reading every sample once."""
    cache = open_cache(url)
    _ = cache[0]  # the index, once
    index = s3.counts().get("snapshots", (0, 0))
    order = torch.randperm(len(cache), generator=torch.Generator().manual_seed(0)).tolist()
    raw = {"latent": 0, "text": 0}
    for place in order:
        sample = cache[place]
        raw["latent"] += 2 * (sample.mean.numel() + sample.logvar.numel())
        raw["text"] += 2 * sample.text["toy"].numel()
    counts = s3.counts()
    print(f"\n{'random read over S3, a sample':32}{'GETs':>8}{'bytes':>10}{'raw':>10}{'ratio':>8}")
    for layer, size in raw.items():
        gets, sent = counts[layer]
        row = f"{gets / len(order):8.2f}{sent / len(order):10.0f}{size / len(order):10.0f}"
        print(f"{layer:32}{row}{sent / size:8.4f}")
    others = {name: pair for name, pair in counts.items() if name not in raw}
    print(
        f"the index, once a process: {index[0]} GETs, {index[1]} bytes; others: {others or 'none'}"
    )


def data_wait(s3: CountedS3, url: str, scratch: Path, steps: int) -> None:
    """Train in front of a slow store, in steps that only wait."""
    s3.delay(LATENCY_S)
    print(
        f"\ndata wait of {steps} steps of {STEP_S * 1e3:.0f} ms, batches of {BATCH}, "
        f"{LATENCY_S * 1e3:.0f} ms to every answer of the store"
    )
    disk = DiskCache(str(scratch / "disk"), limit_bytes=8 << 30)
    first = LoaderConfig(memory_bytes=0)
    for label, kept, config in (
        ("one reader", None, LoaderConfig(memory_bytes=0, readers=1)),
        (f"{first.readers} readers", None, first),
        (f"{first.readers} readers, filling the disk cache", disk, first),
        (f"{first.readers} readers, from the disk cache", disk, first),
    ):
        cache = open_cache(url, disk=kept)
        buckets = [Bucket(bucket.places, BATCH, BATCH) for bucket in cache.buckets]
        loader = Loader(cache, Order(buckets, seed=0), _stack, place=Place(), config=config)
        waits = []
        for step, micro_batches in zip(range(steps), _timed(loader, waits), strict=False):
            assert micro_batches, step
            time.sleep(STEP_S)
        share, late = np.mean(waits[1:]) / STEP_S, sum(wait > 0.005 for wait in waits[1:])
        print(
            f"{label:40}{share:8.2%} of a step; {late} steps waited more than 5 ms, "
            f"the first {waits[0]:.2f} s",
            flush=True,
        )
    s3.delay(0)


def _timed(loader, waits):
    source = loader.steps()
    try:
        while True:
            start = time.perf_counter()
            micro_batches = next(source)
            waits.append(time.perf_counter() - start)
            yield micro_batches
    finally:
        source.close()


def _stack(samples):
    return torch.stack([s.mean for s in samples]), torch.stack([s.logvar for s in samples])


def main() -> None:
    """Print the three tables."""
    options = _options()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        scratch = Path(folder)
        fill(str(scratch / "cache"), options.samples)
        if "local" in options.parts:
            local(options, scratch)
        if options.parts == ["local"]:
            return
        with CountedS3() as s3:
            here, there = open_store(scratch / "cache"), open_store(f"s3://{BUCKET}/cache")
            for key in here.list():
                there.put(key, here.read(key))
            s3.counts()
            if "s3" in options.parts:
                over_s3(s3, there.url)
            if "wait" in options.parts:
                data_wait(s3, there.url, scratch, options.steps)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples, few rounds")
    parser.add_argument("--samples", type=int, default=480)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--scratch", help="folder for the files; on a disk, not in memory")
    parser.add_argument("--streaming-python", help="python of an environment with Streaming")
    options = parser.parse_args()
    if options.quick:
        options.samples, options.rounds, options.steps = 96, 3, 20
    return options


if __name__ == "__main__":
    main()
