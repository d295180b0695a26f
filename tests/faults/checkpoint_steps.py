"""A run that saves twice, again and again, each time in a folder that ends with its number.

    python -m tests.faults.checkpoint_steps /tmp/checkpoints disk

With `disk` process n kills itself before its n-th change of the disk; with `s3` the proxy kills it.
The first one that lives ends the command, which prints its number.
"""

from tests.faults.dying import NAMED, REMOVED, die_at_each_step
from tests.video_platform.training.saved_network import save


def job(url: str) -> None:
    """Save twice; the second save removes what the first one left."""
    save(url, 1)
    save(url, 2, keep=1)


if __name__ == "__main__":
    die_at_each_step(job, events=(*NAMED, *REMOVED))
