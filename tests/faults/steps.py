"""A small job, run again and again, each time on a cache of its own that ends with its number.

    python -m tests.faults.steps /tmp/caches disk

With `disk` the job that fills cache n kills itself before its n-th step on the disk: a file that is
opened to be written, linked or renamed. With `s3` the proxy kills it. The first one that lives ends
the command, which prints its number.
"""

from tests.faults.dying import die_at_each_step
from tests.faults.filling import fill_share, prepare, records_of
from video_platform.latents.snapshots import take_snapshot

CLIPS = 3


def job(url: str) -> None:
    """Do all that a job does, in one process."""
    records = records_of(CLIPS)
    root, plan = prepare(url, records)
    fill_share(url, records, share=0, shares=1, seed="0")
    take_snapshot(root, plan)


if __name__ == "__main__":
    die_at_each_step(job)
