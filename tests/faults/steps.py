"""A small job, run again and again, each time on a cache of its own that ends with its number.

    python -m tests.faults.steps /tmp/caches disk

With `disk` the job that fills cache n kills itself before its n-th step on the disk: a file that is
opened to be written, linked or renamed. With `s3` the proxy kills it. The first one that lives ends
the command, which prints its number.
"""

import itertools
import os
import signal
import sys

import torch

from tests.faults.filling import fill_share, fork, prepare, records_of
from video_platform.latents.snapshots import take_snapshot

CLIPS = 3


def job(url: str) -> None:
    """Do all that a job does, in one process."""
    records = records_of(CLIPS)
    root, plan = prepare(url, records)
    fill_share(url, records, share=0, shares=1, seed="0")
    take_snapshot(root, plan)


def die_at(url: str, step: int) -> None:
    """Kill this process before a step that changes the disk."""
    left = itertools.count(step, -1)

    def watch(event: str, arguments: tuple) -> None:
        path = str(arguments[0]) if arguments else ""
        changes = event in ("os.link", "os.rename") or (
            event == "open" and arguments[2] & os.O_CREAT
        )
        if changes and path.startswith(url) and next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def main() -> None:
    url, how = sys.argv[1:]
    torch.set_num_threads(1)

    def task(step: int) -> None:
        here = f"{url}/{step}"
        if how == "disk":
            die_at(here, step)
        job(here)

    for step in itertools.count():
        fork(task, step)
        _, status = os.wait()
        if not os.WIFSIGNALED(status):
            print(step)
            sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
