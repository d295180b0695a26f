"""A run that saves twice, again and again, each time in a folder that ends with its number.

    python -m tests.faults.checkpoint_steps /tmp/checkpoints disk

With `disk` process n kills itself before its n-th change of the disk; with `s3` the proxy kills it.
The first one that lives ends the command, which prints its number.
"""

import itertools
import os
import signal
import sys

import torch

from tests.faults.filling import fork
from tests.video_platform.training.saved_network import save

CHANGES = ("os.link", "os.rename", "os.remove", "os.rmdir")


def die_at(url: str, step: int) -> None:
    """Kill this process before a change of the disk."""
    left = itertools.count(step, -1)

    def watch(event: str, arguments: tuple) -> None:
        path = str(arguments[0]) if arguments else ""
        changes = event in CHANGES or (event == "open" and arguments[2] & os.O_CREAT)
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
        save(here, 1)
        save(here, 2, keep=1)

    for step in itertools.count():
        fork(task, step)
        _, status = os.wait()
        if not os.WIFSIGNALED(status):
            print(step)
            sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
