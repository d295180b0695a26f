"""Kills what fills a cache, watches what can be seen of it meanwhile, and checks what is left."""

import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import torch

from tests.faults.filling import TRACE, WRITING, is_reject, records_of
from tests.video_platform.latents.toy import embed, encode, frames_of
from video_platform.latents import open_cache, verify
from video_platform.latents.layer import read_layer
from video_platform.latents.manifest import latent_units, load_plan, text_units
from video_platform.latents.records import Commit
from video_platform.latents.snapshots import list_snapshots, load_index, load_snapshot
from video_platform.storage import open_store

ROOT = Path(__file__).parents[2]
LONGEST_S = 300.0
RASH = 0.05
"""How often something is killed while nobody writes yet: else no job would ever get that far."""


def fill_with_kills(url: str, *, clips: int, seed: int, kills: int, environment) -> Counter:
    """Run three jobs on one cache, killing at random, and return how often what was killed."""
    draw, done = random.Random(seed), Counter()
    command = [sys.executable, "-m", "tests.faults.filling", url]
    command += ["--clips", str(clips), "--jobs", "3", "--seed", str(seed)]
    deadline_s = time.monotonic() + LONGEST_S
    with (
        Witness(url) as witness,
        subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
        ) as master,
    ):
        try:
            while master.poll() is None:
                assert time.monotonic() < deadline_s, f"not done within {LONGEST_S} s"
                time.sleep(draw.uniform(0.01, 0.3))
                if done.total() < kills:
                    done.update(kill_one(psutil.Process(master.pid), draw))
        finally:
            master.kill()  # its children die with it
        assert master.returncode == 0, master.stderr.read()[-3000:]
    assert witness.error is None, witness.error
    return done


def kill_one(master: psutil.Process, draw: random.Random) -> list[str]:
    """Kill a job with its workers, or one of these: mostly one that is writing."""
    try:
        jobs = master.children()
        workers = [worker for job in jobs for worker in job.children()]
        busy = [worker for worker in workers if worker.name() == WRITING]
        kind = draw.choices(["writer", "worker", "job"], [6, 1, 2])[0]
        victims = {"writer": busy, "worker": workers, "job": jobs}[kind]
        if not victims or (not busy and draw.random() > RASH):
            return []
        draw.choice(sorted(victims, key=lambda victim: victim.pid)).kill()
    except psutil.NoSuchProcess:
        return []
    return [kind]


class Witness(threading.Thread):
    """Looks all the time, and notes the first thing that is to be seen and is not whole."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.root = open_store(url)
        self.error: str | None = None
        self.seen: set[str] = set()
        self._end = threading.Event()

    def __enter__(self) -> "Witness":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self._end.set()
        self.join()

    def run(self) -> None:
        while True:
            last = self._end.is_set()
            try:
                for key in self.root.list():
                    if key not in self.seen:
                        self.look(key)
                        self.seen.add(key)
            except Exception as error:  # it is told by the test
                self.error = f"{type(error).__name__}: {error}"
                return
            if last:
                return
            self._end.wait(0.1)

    def look(self, key: str) -> None:
        """Check that a file is whole, and that all that it names is there."""
        data = self.root.read(key)
        folder, _, name = key.rpartition("/")
        if "/data/" in key or folder == "sources":
            digest = name.split(".")[0].split("-")[-1]
            assert hashlib.sha256(data).hexdigest()[:16] == digest, f"{key} is not what it says"
        elif folder.endswith("/commits"):
            layer = self.root.child(folder.removesuffix("/commits"))
            for shard, record in Commit.from_bytes(data, key).shards.items():
                assert layer.stat(shard).size_bytes == record.size_bytes, f"{key} names {shard}"
        elif folder == "snapshots":
            header = load_snapshot(self.root, int(name.split(".")[0]))
            assert len(load_index(self.root, header)) == header.clips


def check_exactly_once(url: str, clips: int) -> int:
    """Check a cache that was filled by `filling`, and return how many files nothing names."""
    root, records = open_store(url), records_of(clips)
    expected = {item.id: item for item in records if not is_reject(item)}
    plan = load_plan(root)
    for folder, units in (
        (plan.latent, latent_units(records, plan.unit_size)),
        (*plan.text.values(), text_units(records, plan.text_unit_size)),
    ):
        assert read_layer(root, folder).committed() == {unit.id for unit in units}
    for number in list_snapshots(root):
        cache = open_cache(url, snapshot=number)
        assert sorted(cache.ids) == sorted(expected), f"snapshot {number}"
        refused = clips - len(expected)
        assert load_snapshot(root, number).rejects == ({"corrupt": refused} if refused else {})
    for sample in cache:
        mean, logvar = (part[0] for part in encode(frames_of(expected[sample.id])[None]))
        assert torch.equal(sample.mean, mean)
        traces = ((sample.logvar - logvar) / TRACE).round()
        assert traces.min() == traces.max(), "two processes made one sample"
        assert torch.equal(sample.text["toy"], embed(sample.caption))
    findings = verify(url)
    assert {finding.kind for finding in findings} <= {"orphan"}, findings
    return len(findings)
