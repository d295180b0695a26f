"""Checkpoints that are whole or not there, hold no code, and know no ZeRO stage.

    checkpoints = Checkpoints("s3://bucket/run", run_fingerprint=fingerprint({...}))
    manifest = checkpoints.restore(engines)          # None: the run starts afresh
    checkpoints.save(engines, step=500, state={})    # training goes on while it is written
    checkpoints.mark_good(500)
    checkpoints.wait()

Every rank copies what it holds to its own memory; a thread of each writes that to a disk that all
nodes share or to S3, with the SHA-256 of every file, and tells it in a record beside the files.
When all records are there, rank 0 writes the manifest: then the checkpoint exists. Threads agree by
these files alone, and ranks talk to each other only where training calls.

Every byte is checked before anything is loaded. What is torn is set aside with its reason, and the
newest whole checkpoint is taken; each rank reads a share of the files, whatever the number of ranks
and the ZeRO stage that wrote them.

A store that is away for a minute is waited for while training goes on; a full disk is told at once.
"""

import dataclasses
import functools
import json
import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from video_platform.errors import CheckpointError, StorageError
from video_platform.storage import Store, open_store
from video_platform.training.background import Background
from video_platform.training.checkpoint_manifest import Manifest, fingerprint
from video_platform.training.checkpoint_shards import (
    MISSING,
    HostCopy,
    Pieces,
    Restorable,
    Whole,
    count_elements,
    read_pieces,
    tensors_of,
    write_pieces,
)
from video_platform.training.checkpoint_store import CheckpointStore
from video_platform.training.checkpoint_weights import read_weights
from video_platform.training.patience import Patience
from video_platform.training.ranks import from_all, from_rank_0, rank, world

__all__ = ["Checkpoints", "Manifest", "Restorable", "fingerprint"]
log = logging.getLogger(__name__)


@dataclasses.dataclass
class _Flight:
    """A save under way."""

    step: int
    written: Future[None]
    """This rank's part."""
    committed: Future[None] = dataclasses.field(default_factory=Future)
    """The whole; of rank 0."""
    cancelled: threading.Event = dataclasses.field(default_factory=threading.Event)
    """Set where there is nothing to commit."""


class Checkpoints:
    """The checkpoints of one run. All that is not said to be of one rank is called on every rank.

    Args:
        url: folder or s3:// prefix, in reach of all ranks; made when first written to.
        run_fingerprint: of this run; a checkpoint of another is refused.
        keep: how many of the newest stay, besides the newest that is good.
        keep_every: checkpoints of multiples of so many steps stay for ever; None keeps none.
        timeout_s: how long rank 0 waits for the others when a checkpoint is written.

    Attributes:
        url: where they are.
    """

    def __init__(
        self,
        url: Path | str,
        *,
        run_fingerprint: str,
        keep: int = 2,
        keep_every: int | None = None,
        timeout_s: float = 600.0,
    ) -> None:
        root = open_store(url)
        self.url = root.url
        self._store = CheckpointStore(root)
        self._fingerprint = run_fingerprint
        self._keep, self._keep_every, self._timeout_s = keep, keep_every, timeout_s
        self._copy = HostCopy()
        self._background = Background("checkpoint")
        self._flight: _Flight | None = None

    def save(
        self, engines: Mapping[str, Restorable], *, step: int, state: Mapping[str, Any]
    ) -> None:
        """Begin to write the state after `step` steps; return when it is copied. Collective.

        One save is under way at most: a second one waits for the first.

        Raises:
            CheckpointError: the one before could not be written; earlier ones are untouched.
        """
        self.wait()
        manifest = Manifest(
            step=step,
            fingerprint=self._fingerprint,
            attempt=from_rank_0(lambda: secrets.token_hex(4)),
            counters={name: engine.counters() for name, engine in engines.items()},
            state=json.loads(json.dumps(state)),  # training changes what it gave us
            tensors=tensors_of(engines),
            files={},
        )
        pieces = self._copy.take(engines)
        write = functools.partial(self._write, manifest, pieces, rank=rank())
        self._flight = flight = _Flight(step, self._background.submit(write))
        if rank() == 0:
            commit = functools.partial(self._commit, manifest, flight, ranks=world())
            flight.committed = self._background.submit(commit)

    def wait(self) -> None:
        """Return when the save under way is done on all ranks. Collective.

        Raises:
            CheckpointError: it could not be written; earlier checkpoints are untouched.
        """
        if self._flight is None:
            return
        flight, self._flight = self._flight, None
        failures = from_all(_told(flight.written.exception()))
        if any(failures):
            flight.cancelled.set()  # a rank whose disk is full could not tell in the store
        failures.append(from_rank_0(lambda: _told(flight.committed.exception())))
        failures = [failure for failure in failures if failure is not None]
        if failures:
            raise CheckpointError(
                f"the checkpoint of step {flight.step} could not be written to {self.url}: "
                f"{failures[0]} (checkpoints says where they go, keep_checkpoints how many stay)"
            )

    @property
    def saving(self) -> bool:
        """Whether a save is under way on this rank."""
        return self._flight is not None and not (
            self._flight.written.done() and (rank() != 0 or self._flight.committed.done())
        )

    @property
    def failed(self) -> bool:
        """Whether the save under way is known on this rank to have failed; `wait` tells why."""
        flight = self._flight
        return flight is not None and any(
            future.done() and future.exception() is not None
            for future in (flight.written, flight.committed)
        )

    def mark_good(self, step: int) -> None:
        """Say that a checkpoint is sound; until a later one is, it stays.

        It may still be under way.
        """
        if rank() == 0:
            self._background.submit(lambda: self._try(lambda: self._store.mark_good(step)))

    def has_good(self) -> bool:
        """Say whether `restore(at="good")` would find one. Collective."""
        self._settle()
        return from_rank_0(lambda: bool(self._store.good()))

    def restore(
        self, engines: Mapping[str, Restorable], *, at: Literal["newest", "good"] = "newest"
    ) -> Manifest | None:
        """Load a whole checkpoint into the engines. Collective.

        Args:
            engines: the networks by name.
            at: the newest, or the newest that was marked as good; those after it are set aside.

        Returns:
            Its manifest, or None where there is none and the run starts afresh.

        Raises:
            CheckpointError: it belongs to another run, or not every rank can read it.
            StorageError: the store cannot be reached.
        """
        self._settle()
        for step in from_rank_0(self._store.good if at == "good" else self._store.steps):
            manifest = from_rank_0(functools.partial(self._read, step))
            if manifest is None:
                continue
            self._check(manifest, engines)
            pieces = self._share_of(manifest)
            if pieces is not None:
                _load(engines, manifest, pieces)
                if at == "good":
                    from_rank_0(functools.partial(self._leave, step))
                return manifest
        return None

    def newest(self) -> Manifest | None:
        """Return the manifest of the newest checkpoint that is whole, on this rank alone.

        Every byte of it is read.
        """
        for step in self._store.steps():
            try:
                manifest = self._store.read(step)
                self.pieces(manifest)
            except CheckpointError as error:
                log.warning("passing over a torn checkpoint: %s", error)
            else:
                return manifest
        return None

    def weights(
        self, network: str, kind: str = "ema", *, step: int | None = None
    ) -> tuple[int, dict[str, Tensor]]:
        """Return a step and what is trained of a network after it, on this rank alone.

        See `read_weights`.
        """
        return read_weights(self._store, network, kind, step=step, fingerprint=self._fingerprint)

    def pieces(self, manifest: Manifest) -> Pieces:
        """Read all that a checkpoint holds, on this rank alone.

        Raises:
            CheckpointError: something is missing, cut off or altered.
        """
        files = self._store.files(manifest.step, manifest.attempt)
        pieces = read_pieces(files, list(manifest.files), manifest)
        reason = _lacking(manifest, sum(piece.numel() for _, piece in pieces))
        if reason is not None:
            raise CheckpointError(reason)
        return pieces

    def _write(self, manifest: Manifest, pieces: Pieces, *, rank: int) -> None:
        """Write this rank's part, in the background."""
        step, attempt = manifest.step, manifest.attempt
        files, patience = self._store.files(step, attempt), Patience(self._timeout_s)
        tell = functools.partial(self._store.tell, step, attempt, rank=rank)

        def put(name: str, data: bytes) -> None:
            doing = f"writing {name} of step {step}"
            patience.insist(functools.partial(files.put, name, data), doing=doing)

        try:
            told = write_pieces(put, pieces, rank=rank)
            patience.insist(lambda: tell(told), doing=f"telling of rank {rank} in step {step}")
        except BaseException as error:  # the edge of a thread: rank 0 must not wait in vain
            failure = {"failure": _told(error)}
            self._try(lambda: tell(failure))
            raise

    def _commit(self, manifest: Manifest, flight: _Flight, *, ranks: int) -> None:
        """Let the checkpoint exist when all ranks have written, in the background of rank 0."""
        flight.written.result()
        collect = functools.partial(
            self._store.collect,
            manifest.step,
            manifest.attempt,
            ranks=ranks,
            timeout_s=self._timeout_s,
            cancelled=flight.cancelled,
        )
        patience, doing = Patience(self._timeout_s), f"committing step {manifest.step}"
        whole = dataclasses.replace(manifest, files=patience.insist(collect, doing=doing))
        patience.insist(lambda: self._store.commit(whole), doing=doing)
        self._try(lambda: self._store.prune(keep=self._keep, keep_every=self._keep_every))

    def _settle(self) -> None:
        """Wait for everything that the background does."""
        self.wait()
        self._background.submit(lambda: None).result()

    def _try(self, action: Callable[[], None]) -> None:
        """Do what the run can do without."""
        try:
            action()
        except (StorageError, CheckpointError) as error:
            log.warning("checkpoints in %s: %s", self.url, error)

    def _read(self, step: int) -> Manifest | None:
        """Read a manifest; set it aside if it is torn."""
        try:
            return self._store.read(step)
        except CheckpointError as error:
            self._set_aside(step, str(error))
            return None

    def _share_of(self, manifest: Manifest) -> Pieces | None:
        """Read this rank's share of the files; None where any rank finds the checkpoint torn."""
        store = self._store.files(manifest.step, manifest.attempt)
        mine = sorted(manifest.files)[rank() :: world()]
        pieces: Pieces = []
        torn = unreachable = None
        try:
            pieces = read_pieces(store, mine, manifest)
        except CheckpointError as error:
            torn = str(error)
        except StorageError as error:
            unreachable = str(error)
        found = from_all((unreachable, torn, sum(piece.numel() for _, piece in pieces)))
        for text, _, _ in found:
            if text is not None:
                raise StorageError(text)
        reasons = [text for _, text, _ in found if text is not None]
        reason = reasons[0] if reasons else _lacking(manifest, sum(count for *_, count in found))
        if reason is None:
            return pieces
        self._refuse_if_hidden(store, reason)
        from_rank_0(functools.partial(self._set_aside, manifest.step, reason))
        return None

    def _refuse_if_hidden(self, store: Store, reason: str) -> None:
        """Tell a file that is gone from one that a rank's node does not see.

        Raises:
            CheckpointError: rank 0 sees it.
        """
        name = reason.removesuffix(MISSING).rsplit("/", 1)[-1]
        if reason.endswith(MISSING) and from_rank_0(functools.partial(store.exists, name)):
            raise CheckpointError(
                f"{store.url} is not visible on every node; "
                "put checkpoints in S3, or on a file system that all nodes share"
            )

    def _set_aside(self, step: int, reason: str) -> None:
        log.warning("setting a torn checkpoint aside: %s", reason)
        self._try(lambda: self._store.quarantine(step, reason))

    def _leave(self, step: int) -> None:
        """Set aside what came after a step, which the run goes on from."""
        for later in self._store.steps():
            if later > step:
                self._store.quarantine(later, f"the run went back to step {step}")

    def _check(self, manifest: Manifest, engines: Mapping[str, Restorable]) -> None:
        """Refuse what is of another run or network, before anything is loaded."""
        place = f"the checkpoint of step {manifest.step} in {self.url}"
        if manifest.fingerprint != self._fingerprint:
            raise CheckpointError(
                f"{place} is of another run (model, data, seed or batch size differ); "
                "name a fresh folder for this run's checkpoints, or use that run's recipe"
            )
        if manifest.counters.keys() != engines.keys():
            raise CheckpointError(
                f"{place} holds the networks {sorted(manifest.counters)}, "
                f"this run trains {sorted(engines)}"
            )
        for name, kinds in tensors_of(engines).items():
            for kind, mine in kinds.items():
                given = manifest.tensors[name].get(kind)
                if given is not None and given != mine:
                    raise CheckpointError(f"{place} is of another network: {_unlike(mine, given)}")


def _load(engines: Mapping[str, Restorable], manifest: Manifest, pieces: Pieces) -> None:
    for name, engine in engines.items():
        held = manifest.tensors[name]
        for kind in engine.kinds:
            if kind in held:  # an average may be newly switched on
                engine.restore(kind, Whole(pieces, f"{name}/{kind}", held[kind]))
        engine.restore_counters(manifest.counters[name])


def _lacking(manifest: Manifest, elements: int) -> str | None:
    """Say that the files hold more or less than they must; None if they do not."""
    expected = count_elements(manifest.tensors)
    if elements == expected:
        return None
    return f"the files of step {manifest.step} hold {elements} numbers, expected {expected}"


def _unlike(mine: Mapping[str, list[Any]], given: Mapping[str, list[Any]]) -> str:
    if mine.keys() != given.keys():
        return (
            f"it lacks {sorted(mine.keys() - given.keys())[:3]} and has "
            f"{sorted(given.keys() - mine.keys())[:3]} besides"
        )
    name = next(name for name in mine if mine[name] != given[name])
    return f"{name} is {given[name]}, expected {mine[name]}"


def _told(error: BaseException | None) -> str | None:
    """Say what went wrong; what nobody foresaw with its type."""
    if error is None or isinstance(error, StorageError | CheckpointError):
        return None if error is None else str(error)
    return f"{type(error).__name__}: {error}"
