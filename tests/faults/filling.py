"""Jobs that fill one cache, in processes that may be killed at any moment.

    python -m tests.faults.filling s3://bucket/cache --clips 60 --jobs 3 --seed 7

A job is a process that forks workers, starts a new one for each that dies, and takes a snapshot
when they are through, as `precompute` does with Ray's actors; this command starts a job again that
dies, with another number of workers. What a worker makes of a unit, it stores through `Layer.write`
like the real ones. Latents carry the process that made them, as those of a GPU are not the same to
the last bit either: the shards of two writers differ.
"""

import argparse
import ctypes
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence

import torch

from tests.video_platform.latents.toy import (
    config_for,
    embed,
    encode,
    frames_of,
    latents,
    plan_for,
    record,
)
from video_platform.datasets.record import Record
from video_platform.latents.config import CacheConfig
from video_platform.latents.layer import Encoded, Layer, open_layer
from video_platform.latents.manifest import Plan, captions, latent_units, text_units
from video_platform.latents.records import Reject
from video_platform.latents.snapshots import take_snapshot
from video_platform.latents.spec import text_spec
from video_platform.latents.work import Work, missing_work
from video_platform.storage import Store, open_store

TRACE = 2.0**-12
"""By so little the latents of two processes differ, times a number below 1000."""

WRITING = "writing"
"""Name of a process that writes its units, and does not prepare to."""

Task = Callable[[int], object]
"""What a child does, given how often it was killed at it."""


def settings(url: str) -> CacheConfig:
    return config_for(url, stored="float32", text_unit_size=4)


def records_of(clips: int) -> list[Record]:
    return [record(number, caption=f"caption {number % (clips // 3)}") for number in range(clips)]


def is_reject(item: Record) -> bool:
    return item.id.endswith("7.mp4")


def fill_share(url: str, records: Sequence[Record], *, share: int, shares: int, seed: str) -> None:
    """Commit the units of one worker of a job."""
    root = open_store(url)
    config = settings(url)
    latent = open_layer(root, latents(config))
    text = open_layer(root, text_spec("toy", identity={"name": "toy"}, stored=config.stored))
    by_id, texts = {item.id: item for item in records}, captions(records)
    todo = [(text, work) for work in missing_work(text, text_units(records, config.text_unit_size))]
    todo += [
        (latent, work) for work in missing_work(latent, latent_units(records, config.unit_size))
    ]
    mine = [item for item in todo if int(item[1].unit.id, 16) % shares == share]
    random.Random(seed).shuffle(mine)
    ctypes.CDLL(None).prctl(15, WRITING.encode())  # PR_SET_NAME
    for layer, work in mine:
        if layer is latent:
            write_clips(layer, work, [by_id[name] for name in work.wanted])
        else:
            write_captions(layer, work, {name: texts[name] for name in work.wanted})


def write_clips(layer: Layer, work: Work, records: Sequence[Record]) -> None:
    members = {member.id: member for member in work.unit.members}
    encoded, rejects = [], []
    for item in records:
        if is_reject(item):
            rejects.append(
                Reject(id=item.id, source=members[item.id].source, reason="corrupt", error="bad")
            )
            continue
        mean, logvar = (part[0] for part in encode(frames_of(item)[None]))
        logvar = logvar + TRACE * (os.getpid() % 1000)
        bucket = "x".join(map(str, mean.shape)) + f"-{len(item.id) % 2}"
        encoded.append(
            Encoded(
                member=members[item.id], tensors={"mean": mean, "logvar": logvar}, bucket=bucket
            )
        )
    time.sleep(0.01)  # as long as an encoder would take for tiny clips
    layer.write(work.unit, encoded, rejects=rejects, known=work.known)


def write_captions(layer: Layer, work: Work, texts: dict[str, str]) -> None:
    encoded = [
        Encoded(member=member, tensors={"embedding": embed(texts[member.id])}, bucket="2")
        for member in work.unit.members
        if member.id in texts
    ]
    layer.write(work.unit, encoded, known=work.known)


def prepare(url: str, records: Sequence[Record]) -> tuple[Store, Plan]:
    """Store manifest and plan, as every job does."""
    root = open_store(url)
    return root, plan_for(root, records, settings(url))


def run_job(url: str, clips: int, *, seed: str) -> None:
    """Fill the cache with workers that are started again, then take a snapshot."""
    records = records_of(clips)
    shares = random.Random(seed).randint(1, 4)

    def work(share: int) -> Task:
        return lambda attempt: fill_share(
            url, records, share=share, shares=shares, seed=f"{seed} {share} {attempt}"
        )

    fork_until_done([lambda _: prepare(url, records)])
    fork_until_done([work(share) for share in range(shares)])
    fork_until_done([lambda _: take_snapshot(*prepare(url, records))])


def fork_until_done(tasks: Sequence[Task]) -> None:
    """Run each task in a child; one that is killed is started again, one that fails ends us."""
    running = {fork(task, 0): (task, 0) for task in tasks}
    while running:
        pid, status = os.wait()
        task, attempt = running.pop(pid)
        if os.WIFSIGNALED(status):
            running[fork(task, attempt + 1)] = task, attempt + 1
        elif status:
            sys.exit(f"a task failed with {os.waitstatus_to_exitcode(status)}")


def fork(task: Task, attempt: int) -> int:
    """Run a task in a child that dies with us."""
    assert threading.active_count() == 1, "a fork with threads would hang"
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)
    code = 1
    try:
        task(attempt)
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--clips", type=int, required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)

    def job(number: int) -> Task:
        return lambda attempt: run_job(
            options.url, options.clips, seed=f"{options.seed} {number} {attempt}"
        )

    fork_until_done([job(number) for number in range(options.jobs)])


if __name__ == "__main__":
    main()
