"""Processes that kill themselves before their n-th change of the disk."""

import itertools
import os
import signal
import sys
from collections.abc import Callable

import torch

from tests.faults.filling import fork

NAMED = ("os.link", "os.rename")
"""What lets something appear, besides opening it to be written."""
REMOVED = ("os.remove", "os.rmdir")


def die_at(folder: str, change: int, *, events: tuple[str, ...] = NAMED) -> None:
    """Kill this process before a change below a folder.

    Args:
        folder: what is watched.
        change: number of the change, from 0: a file that is created, or one of the events.
        events: what counts besides, as audit hooks call it.
    """
    left = itertools.count(change, -1)

    def watch(event: str, arguments: tuple) -> None:
        path = str(arguments[0]) if arguments else ""
        changes = event in events or (event == "open" and arguments[2] & os.O_CREAT)
        if changes and path.startswith(folder) and next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def die_at_each_step(job: Callable[[str], None], *, events: tuple[str, ...] = NAMED) -> None:
    """Run a job again and again, each time below the given URL in a folder of its number.

    With `disk` job n kills itself before its n-th change; with `s3` a proxy kills it. The first one
    that lives ends this process, which prints its number.
    """
    url, how = sys.argv[1:]
    torch.set_num_threads(1)

    def task(step: int) -> None:
        here = f"{url}/{step}"
        if how == "disk":
            die_at(here, step, events=events)
        job(here)

    for step in itertools.count():
        fork(task, step)
        _, status = os.wait()
        if not os.WIFSIGNALED(status):
            print(step)
            sys.exit(os.waitstatus_to_exitcode(status))
