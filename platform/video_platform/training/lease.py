"""One driver a run: a lease on the run's folder, on a disk or in S3.

    with Lease("s3://bucket/run/leases/pretrain") as lease:
        ...
        lease.check()          # raises if another driver has taken over

Two drivers with the same run would write the same checkpoints. A lease is a small file that one of
any number of drivers creates, writes again every few seconds, and marks as given up at its end. A
driver that comes later takes over where the holder is dead: its process is gone from this machine,
or the file has not been written for a while, by the store's own clock. Each holder writes a file of
the next number, so that of several that take over at once exactly one succeeds, and a holder that
was asleep notices that it was replaced.
"""

import contextlib
import dataclasses
import json
import logging
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any, Self

import psutil

from video_platform.errors import LeaseError, StorageError
from video_platform.storage import MissingKeyError, Store, open_store

BEAT_S = 10.0
"""Seconds between two signs of life."""
STALE_BEATS = 6
"""So many missed signs of life, and the holder counts as dead."""
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a lease."""

    host: str
    """Name of the machine, for people."""
    machine: str
    """Identity of its boot and of the process's namespace, within which `pid` means something."""
    pid: int
    started_s: float
    """When the process was started."""
    ended: bool = False
    """Whether it gave the lease up."""

    @classmethod
    def this_process(cls) -> Self:
        """Describe this process."""
        process = psutil.Process()
        return cls(
            host=socket.gethostname(),
            machine=_machine(),
            pid=process.pid,
            started_s=process.create_time(),
        )

    def is_gone(self) -> bool:
        """Say whether it is known to be dead; a process of another machine never is."""
        if self.ended:
            return True
        if self.machine != _machine():
            return False
        try:
            return bool(psutil.Process(self.pid).create_time() != self.started_s)
        except psutil.NoSuchProcess:
            return True


class Lease:
    """The right to drive one run; a context manager that takes it and gives it back.

    Args:
        url: folder or prefix of its own.
        beat_s: seconds between two signs of life.

    Raises:
        LeaseError: another driver holds it and is alive.
    """

    def __init__(self, url: str, *, beat_s: float = BEAT_S) -> None:
        self._store = open_store(url)
        self._beat_s, self._stale_s = beat_s, STALE_BEATS * beat_s
        self._me = Holder.this_process()
        self._number = 0
        self._lost: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> Self:
        """Take the lease; wait a little for a sign of life of its holder, if there is one."""
        while not self._number:
            with contextlib.suppress(MissingKeyError):  # another driver was replaced meanwhile
                self._number = self._take(_newest(self._store))
        for key in self._store.list():
            if key < _key(self._number):
                self._store.delete(key)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back, if it is still ours."""
        self._stop.set()
        self._thread.join()
        if self._lost is None:
            with contextlib.suppress(StorageError):  # it will be stale soon
                ended = dataclasses.replace(self._me, ended=True)
                self._store.put(_key(self._number), _bytes(ended))

    def check(self) -> None:
        """Make sure that the lease is still ours.

        Raises:
            LeaseError: another driver has taken over.
        """
        if self._lost is not None:
            raise LeaseError(self._lost)

    def _take(self, newest: int) -> int:
        """Follow the newest holder; return our number."""
        if newest and not self._is_free(newest):
            raise self._refusal(newest)
        if not self._store.put_if_absent(_key(newest + 1), _bytes(self._me)):
            raise self._refusal(newest + 1)
        return newest + 1

    def _is_free(self, number: int) -> bool:
        """Say whether the holder is dead, watching it for as long as that takes."""
        if _holder(self._store, number).is_gone():
            return True
        seen = self._store.stat(_key(number))
        while self._store.clock() - seen.modified_s < self._stale_s:
            log.warning("%s is held; waiting for a sign of life of its holder", self._store.url)
            time.sleep(self._beat_s / 2)
            now = self._store.stat(_key(number))
            if now.modified_s > seen.modified_s:
                return _holder(self._store, number).is_gone()
        return True

    def _refusal(self, number: int) -> LeaseError:
        holder = _holder(self._store, number)
        return LeaseError(
            f"another driver works on this run: process {holder.pid} on {holder.host} holds "
            f"{self._store.url}; end it, or give this run a name or project folder of its own"
        )

    def _beat(self) -> None:
        """Give signs of life; a store that fails now and then is no matter."""
        while not self._stop.wait(self._beat_s):
            try:
                if _newest(self._store) > self._number:
                    self._lost = f"{self._store.url} was taken over by another driver"
                    return
                self._store.put(_key(self._number), _bytes(self._me))
            except StorageError as error:
                log.warning("no sign of life could be given: %s", error)


def _machine() -> str:
    """Return what tells this machine, since it was booted, and this container from any other."""
    parts = ["/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"]
    with contextlib.suppress(OSError):
        return f"{Path(parts[0]).read_text().strip()} {os.readlink(parts[1])}"
    return socket.gethostname()


def _key(number: int) -> str:
    return f"{number:08d}.json"


def _newest(store: Store) -> int:
    numbers = [int(key.removesuffix(".json")) for key in store.list() if key[:8].isdigit()]
    return max(numbers, default=0)


def _bytes(holder: Holder) -> bytes:
    return json.dumps(dataclasses.asdict(holder)).encode()


def _holder(store: Store, number: int) -> Holder:
    tree: dict[str, Any] = json.loads(store.read(_key(number)))
    return Holder(**tree)
