"""Where the checkpoints of a run lie, on a disk or in S3, and which of them stay.

    step-00000500/manifest.json              it exists, since this was written last
    step-00000500/good.json                  what it holds is known to be sound
    step-00000500/quarantined.json           it is set aside: why, and its manifest
    step-00000500/3fa9c1d2/rank-00000-00000.safetensors ...
    step-00000500/3fa9c1d2/rank-00000.json   what rank 0 wrote, or why it could not

Each attempt to save has a folder of its own, so nothing that an attempt left behind when it was
killed is ever taken for a part of another.
"""

import json
import logging
import re
import threading
import time
from collections.abc import Mapping
from typing import Any

from video_platform.errors import CheckpointError
from video_platform.storage import MissingKeyError, Store
from video_platform.training.checkpoint_manifest import Manifest, decode

MANIFEST, GOOD, QUARANTINED = "manifest.json", "good.json", "quarantined.json"
POLL_S = (0.01, 1.0)
"""First and longest pause between two looks for the records of other ranks."""
log = logging.getLogger(__name__)


class CheckpointStore:
    """The files of a run's checkpoints; knows no tensors and no ranks but by number.

    Args:
        root: folder or prefix of the run.
    """

    def __init__(self, root: Store) -> None:
        self.root = root

    def files(self, step: int, attempt: str) -> Store:
        """Return where an attempt to save writes."""
        return self.root.child(f"{_folder(step)}/{attempt}")

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, the newest first."""
        return self._with(MANIFEST)

    def read(self, step: int) -> Manifest:
        """Read a manifest.

        Raises:
            CheckpointError: there is none, or it is torn.
        """
        key = f"{_folder(step)}/{MANIFEST}"
        place = f"{self.root.url}/{key}"
        try:
            manifest = decode(self.root.read(key), place)
        except MissingKeyError:
            raise CheckpointError(f"{place} is missing") from None
        if manifest.step != step:
            raise CheckpointError(f"{place} is of step {manifest.step}")
        return manifest

    def good(self) -> list[int]:
        """Return the steps whose checkpoint is marked as good, the newest first."""
        marked = set(self._with(GOOD))
        return [step for step in self.steps() if step in marked and self._is_good(step)]

    def mark_good(self, step: int) -> None:
        """Mark a checkpoint as good."""
        mark = json.dumps({"attempt": self.read(step).attempt}).encode()
        self.root.put(f"{_folder(step)}/{GOOD}", mark)

    def commit(self, manifest: Manifest) -> None:
        """Let a checkpoint exist whose files are there, in place of an earlier one of its step."""
        found = self.files(manifest.step, manifest.attempt).scan()
        for name, expected in manifest.files.items():
            if name not in found or found[name].size_bytes != expected["size_bytes"]:
                raise CheckpointError(f"{name} is not in {self.root.url} as it was written")
        self.root.put(f"{_folder(manifest.step)}/{MANIFEST}", manifest.encode())

    def quarantine(self, step: int, reason: str) -> None:
        """Set a checkpoint aside; its files stay until it is older than all that are kept."""
        key = f"{_folder(step)}/{MANIFEST}"
        text = self.root.read(key).decode(errors="replace")
        record = json.dumps({"reason": reason, "manifest": text}, indent=1)
        self.root.put(f"{_folder(step)}/{QUARANTINED}", record.encode())
        self.root.delete(key)

    def quarantined(self) -> dict[int, str]:
        """Return why checkpoints were set aside, by step."""
        return {
            step: json.loads(self.root.read(f"{_folder(step)}/{QUARANTINED}"))["reason"]
            for step in self._with(QUARANTINED)
        }

    def collect(
        self, step: int, attempt: str, *, ranks: int, timeout_s: float, cancelled: threading.Event
    ) -> dict[str, dict[str, Any]]:
        """Wait until every rank has told what it wrote; return all files.

        Raises:
            CheckpointError: a rank failed, or did not tell in time.
        """
        store, told = self.files(step, attempt), dict[int, Mapping[str, Any]]()
        deadline_s, pause_s = time.monotonic() + timeout_s, POLL_S[0]
        while True:
            listed = store.scan()
            for rank in range(ranks):
                if rank not in told and _record(rank) in listed:
                    told[rank] = json.loads(store.read(_record(rank)))
                    if "failure" in told[rank]:
                        raise CheckpointError(f"rank {rank}: {told[rank]['failure']}")
            if len(told) == ranks:
                return {name: file for each in told.values() for name, file in each.items()}
            if time.monotonic() > deadline_s:
                silent = sorted(set(range(ranks)) - told.keys())
                raise CheckpointError(
                    f"ranks {silent} did not write in {timeout_s:.0f} s, as far as rank 0 sees; "
                    "checkpoints must be in S3, or on a file system that all nodes share"
                )
            if cancelled.wait(pause_s):
                raise CheckpointError("a rank could not write")
            pause_s = min(2 * pause_s, POLL_S[1])

    def tell(self, step: int, attempt: str, record: Mapping[str, Any], *, rank: int) -> None:
        """Tell what a rank wrote, or `failure`."""
        self.files(step, attempt).put(_record(rank), json.dumps(record).encode())

    def prune(self, *, keep: int, keep_every: int | None) -> None:
        """Remove what is not kept, and what killed attempts left behind. No save may be under way.

        The newest `keep` stay, so does the newest that is good, and each of every `keep_every`th
        step; what is set aside stays while it is newer than the oldest of the newest.
        """
        steps = self.steps()
        kept = set(steps[:keep]) | set(self.good()[:1])
        kept |= {step for step in steps if keep_every and step % keep_every == 0}
        aside = {step for step in self._with(QUARANTINED) if step > min(steps[:keep], default=0)}
        attempts = {step: self._attempt(step) for step in kept}
        doomed = []
        for key in self.root.list():
            step, rest = _split(key)
            if step is None or (step in aside and step not in kept):
                continue
            attempt = attempts.get(step)
            stale = "/" in rest and attempt is not None and not rest.startswith(f"{attempt}/")
            if step not in kept or stale:
                doomed.append(key)
        # A manifest goes first: what has lost a file must not look whole.
        for key in sorted(doomed, key=lambda key: not key.endswith(f"/{MANIFEST}")):
            self.root.delete(key)
        for name in self.root.unfinished():
            self.root.discard(name)
        self._remove_empty_folders()

    def _is_good(self, step: int) -> bool:
        mark = json.loads(self.root.read(f"{_folder(step)}/{GOOD}"))
        return bool(mark["attempt"] == self._attempt(step))

    def _attempt(self, step: int) -> str | None:
        """Return the folder of a checkpoint's files; None if its manifest is torn."""
        try:
            return self.read(step).attempt
        except CheckpointError:
            return None

    def _with(self, name: str) -> list[int]:
        """Return the steps whose folder has a file, the newest first."""
        found = [_split(key) for key in self.root.list()]
        return sorted({step for step, rest in found if step is not None and rest == name})[::-1]

    def _remove_empty_folders(self) -> None:
        """Remove folders that hold nothing any more; in S3 there are none."""
        root = self.root.local_path("")
        if root is None:
            return
        for folder in sorted(root.glob("step-*/*/"), reverse=True) + sorted(root.glob("step-*/")):
            if not any(folder.iterdir()):
                folder.rmdir()


def _folder(step: int) -> str:
    return f"step-{step:08d}"


def _record(rank: int) -> str:
    return f"rank-{rank:05d}.json"


def _split(key: str) -> tuple[int | None, str]:
    """Return the step that a key is of, and the rest of the key."""
    match = re.fullmatch(r"step-(\d{8,})/(.+)", key)
    return (int(match[1]), match[2]) if match else (None, key)
