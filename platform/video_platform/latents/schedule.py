"""What is decoded, encoded and written next: the plan of a run over many units, without Ray.

    unit -> batches of clips of one size -> decoded, one by one -> encoded -> the unit is written

A batch is let in as a whole when there is room for all its frames, so every batch that was begun
can be finished. Which clips share a batch follows from the source and the knobs alone: neither the
order in which decoders answer nor a refused clip changes a neighbour's latents. A decoder stays
with the file it has, and takes another's only when nothing else is left to do.

`F` stands for what the frames of a clip are held by, `L` for the latents of a batch.
"""

import dataclasses
import itertools
from collections import Counter, deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from video_platform.datasets.record import Record
from video_platform.latents.config import CacheConfig
from video_platform.latents.records import Reject
from video_platform.latents.work import Work

F = TypeVar("F")
L = TypeVar("L")

RETRIES = 3
"""How often a piece of work is repeated whose actor died."""

LOOK_AHEAD = 4
"""Batches among which an encoder may choose the one whose frames lie on its own machine."""

FINISHED_UNITS = 4
"""Units for each encoder that may wait to be written before more are begun."""


@dataclasses.dataclass(eq=False, kw_only=True)
class Job(Generic[L]):
    """A unit that was begun."""

    work: Work
    """The unit."""
    batches: int
    """How many of its batches are not encoded yet."""
    latents: list[tuple[tuple[str, ...], L]] = dataclasses.field(default_factory=list)
    """Of each encoded batch, the clips and their latents."""
    rejects: list[Reject] = dataclasses.field(default_factory=list)
    """What was refused."""
    lost: int = 0
    """How often its writing was lost."""
    failed: bool = False
    """Whether it is left to the next run."""

    def reject(self, name: str, reason: str, error: str) -> None:
        """Note that a clip is refused for good."""
        source = next(m.source for m in self.work.unit.members if m.id == name)
        self.rejects.append(Reject(id=name, source=source, reason=reason, error=error))


@dataclasses.dataclass(eq=False, kw_only=True)
class Batch(Generic[F, L]):
    """Clips of one size that are encoded together."""

    job: Job[L]
    """The unit they belong to."""
    names: tuple[str, ...]
    """Their ids."""
    size_bytes: int
    """Bytes of all their frames."""
    waiting: set[str]
    """Those that are not decoded yet."""
    node: str = ""
    """The machine on which the first of them is decoded; the others had best be, too."""
    frames: dict[str, tuple[F, str]] = dataclasses.field(default_factory=dict)
    """Those that are, in no order: their frames, and the machine on which these lie."""
    lost: int = 0
    """How often its encoding was lost."""

    def decoded(self) -> list[tuple[str, F]]:
        """Return what can be encoded, in order."""
        return [(name, self.frames[name][0]) for name in self.names if name in self.frames]


class Schedule(Generic[F, L]):
    """Decides what each decoder and each encoder does next.

    Attributes:
        failures: of each unit that cannot be finished now, the reason.
        failed_in_a_row: how many of them there were since a unit was last written.
        bytes_in_flight: bytes of the frames of all batches that are in work.
    """

    def __init__(
        self, work: Sequence[Work], records: Mapping[str, Record], config: CacheConfig
    ) -> None:
        self.failures: list[Exception] = []
        self.failed_in_a_row = 0
        self.bytes_in_flight = 0
        self._records = records
        self._config = config
        self._encoders = config.encoders
        self._coming = itertools.chain.from_iterable(map(self._begin, work))
        self._next: Batch[F, L] | None = next(self._coming, None)
        self._begun: set[Job[L]] = set()
        self._batch_of: dict[str, Batch[F, L]] = {}
        self._open: set[Batch[F, L]] = set()
        self._open_clips = 0
        self._ready: list[Batch[F, L]] = []
        self._finished: deque[Job[L]] = deque()
        self._undecoded: dict[str, deque[str]] = {}
        self._file_of: dict[Hashable, str] = {}
        self._poisoned: dict[str, str] = {}
        self._lost: Counter[str] = Counter()

    @property
    def left(self) -> bool:
        """Whether anything is still to be done."""
        return self._next is not None or bool(self._begun)

    def staff(self, decoders: Iterable[Hashable], encoders: int) -> None:
        """Take note of who is there: each encoder has room of its own, each decoder its file."""
        self._encoders = max(encoders, 1)
        self._file_of = {who: self._file_of[who] for who in decoders if who in self._file_of}

    def take_clip(self, decoder: Hashable, node: str) -> Record | None:
        """Return the clip that a decoder on a machine is to decode next; None if there is none."""
        file = self._choose_file(decoder, node)
        while file is None and self._let_in():
            file = self._choose_file(decoder, node)
        if file is None and self._undecoded:  # all others are in work: help with the longest
            file = max(self._undecoded, key=lambda name: len(self._undecoded[name]))
        if file is None:
            return None
        self._file_of[decoder] = file
        names = self._undecoded[file]
        name = names.popleft()
        if not names:
            del self._undecoded[file]
        batch = self._batch_of[name]
        batch.node = batch.node or node
        return self._records[name]

    def put_frames(self, name: str, frames: F, node: str) -> None:
        """Take the frames of a clip, which lie on a machine."""
        batch = self._batch_of.get(name)
        if batch is not None:
            batch.frames[name] = (frames, node)
            self._settle(name)

    def put_reject(self, name: str, reason: str, error: str) -> None:
        """Refuse a clip. A file that crashed its decoder is given to none again."""
        batch = self._batch_of.get(name)
        if batch is None:
            return
        batch.job.reject(name, reason, error)
        self._settle(name)
        if reason == "crash":
            file = _file(self._records[name])
            self._poisoned[file] = name
            for other in self._undecoded.pop(file, ()):
                self._refuse_poisoned(other)

    def lose_clip(self, name: str, error: Exception) -> None:
        """Put a clip back whose decoder died."""
        batch = self._batch_of.get(name)
        if batch is None:
            return
        self._lost[name] += 1
        if self._lost[name] > RETRIES:
            self.give_up(batch.job, error)
        else:
            self._offer(name, first=True)

    def fail_clip(self, name: str, error: Exception) -> None:
        """Give up the unit of a clip for this run."""
        batch = self._batch_of.get(name)
        if batch is not None:
            self.give_up(batch.job, error)

    def take_batch(self, node: str) -> Batch[F, L] | None:
        """Return the batch that an encoder on a machine is to encode next; None if none is ready.

        It is one of the oldest; among these the one that has most of its frames there.
        """
        if not self._ready:
            return None
        near = [
            sum(place == node for _, place in batch.frames.values()) / len(batch.frames)
            for batch in self._ready[:LOOK_AHEAD]
        ]
        return self._ready.pop(near.index(max(near)))

    def put_latents(self, batch: Batch[F, L], names: Sequence[str], latents: L) -> None:
        """Take the latents of some of a batch's clips; the others were refused."""
        if batch.job not in self._begun:
            return
        if names:
            batch.job.latents.append((tuple(names), latents))
        self._close(batch)

    def lose_batch(self, batch: Batch[F, L], error: Exception, *, frames_too: bool) -> None:
        """Put a batch back whose encoder died, or whose frames went with their machine."""
        if batch.job not in self._begun:
            return
        batch.lost += 1
        if batch.lost > RETRIES:
            self.give_up(batch.job, error)
        elif frames_too:
            names = [name for name in batch.names if name in batch.frames]
            batch.frames.clear()
            batch.waiting.update(names)
            for name in reversed(names):
                self._batch_of[name] = batch
                self._offer(name, first=True)
        else:
            self._ready.insert(0, batch)

    def take_job(self) -> Job[L] | None:
        """Return a unit that is to be written; None if none is finished."""
        return self._finished.popleft() if self._finished else None

    def put_job(self, job: Job[L]) -> None:
        """Take note that a unit is written."""
        self._begun.discard(job)
        self.failed_in_a_row = 0

    def lose_job(self, job: Job[L], error: Exception, *, latents_too: bool) -> None:
        """Put a unit back whose writer died; without its latents it is begun anew."""
        job.lost += 1
        if job.lost > RETRIES:
            self.give_up(job, error)
        elif latents_too:
            self._begun.discard(job)
            again = self._begin(job.work, lost=job.lost)
            if self._next is not None:
                again = itertools.chain(again, [self._next])
            self._coming = itertools.chain(again, self._coming)
            self._advance()
        else:
            self._finished.appendleft(job)

    def give_up(self, job: Job[L], error: Exception) -> None:
        """Leave a unit to the next run."""
        if job not in self._begun:
            return
        job.failed = True
        self.failures.append(error)
        self.failed_in_a_row += 1
        self._begun.discard(job)
        for batch in [batch for batch in self._open if batch.job is job]:
            self._shut(batch)
            for name in batch.waiting:
                self._batch_of.pop(name, None)
        gone = {name for name in job.work.wanted if name not in self._batch_of}
        for file, names in list(self._undecoded.items()):
            kept = deque(name for name in names if name not in gone)
            if kept:
                self._undecoded[file] = kept
            else:
                del self._undecoded[file]
        self._ready = [batch for batch in self._ready if batch.job is not job]
        if self._next is not None and self._next.job.failed:
            self._advance()

    def _begin(self, work: Work, lost: int = 0) -> Iterator[Batch[F, L]]:
        """Cut a unit into batches."""
        cuts = list(_cut([self._records[name] for name in work.wanted], self._config))
        job: Job[L] = Job(work=work, batches=len(cuts), lost=lost)
        for cut in cuts:
            names = tuple(record.id for record in cut)
            size_bytes = sum(map(frame_bytes, cut))
            yield Batch(job=job, names=names, size_bytes=size_bytes, waiting=set(names))

    def _advance(self) -> None:
        """Find the batch that is to be let in next."""
        self._next = next((batch for batch in self._coming if not batch.job.failed), None)

    def _let_in(self) -> bool:
        """Begin the next batch if there is room for it."""
        batch = self._next
        if batch is None or not self._has_room(batch):
            return False
        self._advance()
        self._begun.add(batch.job)
        self._open.add(batch)
        self._open_clips += len(batch.names)
        self.bytes_in_flight += batch.size_bytes
        for name in batch.names:
            self._batch_of[name] = batch
            if _file(self._records[name]) in self._poisoned:
                self._refuse_poisoned(name)
            else:
                self._offer(name)
        return True

    def _has_room(self, batch: Batch[F, L]) -> bool:
        if len(self._finished) >= FINISHED_UNITS * self._encoders:
            return False
        used_bytes = self.bytes_in_flight + batch.size_bytes
        clips = self._open_clips + len(batch.names)
        return not self._open or (
            used_bytes <= self._config.bytes_in_flight * self._encoders
            and clips <= self._config.clips_in_flight * self._encoders
        )

    def _choose_file(self, decoder: Hashable, node: str) -> str | None:
        """Return the decoder's own file if it has clips left, else one that no decoder has.

        A file whose next clip belongs to a batch of another machine is left to decoders there.
        """
        own = self._file_of.get(decoder)
        if own in self._undecoded:
            return own
        taken = set(self._file_of.values())
        for file, names in self._undecoded.items():
            if file not in taken and self._batch_of[names[0]].node in ("", node):
                return file
        return None

    def _offer(self, name: str, *, first: bool = False) -> None:
        """Let a clip be decoded."""
        names = self._undecoded.setdefault(_file(self._records[name]), deque())
        if first:
            names.appendleft(name)
        else:
            names.append(name)

    def _refuse_poisoned(self, name: str) -> None:
        culprit = self._poisoned[_file(self._records[name])]
        error = f"crash: its file crashed the decoder twice at {culprit!r} and is not tried again"
        self._batch_of[name].job.reject(name, "crash", error)
        self._settle(name)

    def _settle(self, name: str) -> None:
        """Take note that a clip is decoded or refused."""
        batch = self._batch_of.pop(name)
        batch.waiting.discard(name)
        if batch.waiting:
            return
        if batch.frames:
            self._ready.append(batch)
        else:
            self._close(batch)

    def _close(self, batch: Batch[F, L]) -> None:
        """Take note that a batch is encoded."""
        self._shut(batch)
        batch.job.batches -= 1
        if not batch.job.batches:
            self._finished.append(batch.job)

    def _shut(self, batch: Batch[F, L]) -> None:
        """Drop the frames of a batch, which makes room for another."""
        batch.frames.clear()
        self._open.discard(batch)
        self._open_clips -= len(batch.names)
        self.bytes_in_flight -= batch.size_bytes


def frame_bytes(record: Record) -> int:
    """Return how many bytes the frames of a clip take."""
    assert record.size is not None, "precompute gives every clip its size"  # noqa: S101
    return record.size.frames * record.size.height * record.size.width * 3


def _cut(records: Sequence[Record], config: CacheConfig) -> Iterator[list[Record]]:
    """Cut clips into batches of one size, so small that two fit into an encoder's room."""
    ordered = sorted(records, key=lambda record: (record.size, _file(record), record.id))
    for _, group in itertools.groupby(ordered, key=lambda record: record.size):
        clips = list(group)
        fits = config.bytes_in_flight // 2 // frame_bytes(clips[0])
        count = max(1, min(config.batch_size, config.clips_in_flight // 2, fits))
        for start in range(0, len(clips), count):
            yield clips[start : start + count]


def _file(record: Record) -> str:
    """Return the file that a clip is cut from."""
    return record.file or record.id
