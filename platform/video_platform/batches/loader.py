"""Brings the samples of each step to a rank in time.

    buckets = [Bucket(b.places, batch_size=64, micro_batch_size=8) for b in cache.buckets]
    loader = Loader(cache, Order(buckets, seed=0), collate, place=Place(rank=rank, world=world))
    for micro_batches in loader.steps(): ...

The only state is the number of the step, so a run goes on exactly where an earlier one stopped, on
any number of ranks and with micro-batches of any size:

    loader.load_state_dict(state)   # of `state_dict()`; refuses another order or other samples
"""

import contextlib
import dataclasses
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from video_platform.batches.config import LoaderConfig
from video_platform.batches.dataset import Dataset, Remembered
from video_platform.batches.order import Ordered
from video_platform.batches.split import Load, measure, split
from video_platform.errors import CheckpointError
from video_platform.latents.spec import differences

S = TypeVar("S")
B = TypeVar("B")


@dataclasses.dataclass(frozen=True)
class MicroBatch(Generic[B]):
    """What one rank sends through a network at once."""

    data: B
    """The collated samples."""
    indices: tuple[int, ...]
    """Their indices in the dataset."""
    positions: tuple[int, ...]
    """Their places in the sequence of all samples ever trained on: step x the most slots that a
    step has + slot. Noise and timesteps are drawn from (seed, position), so they depend on no rank.
    """
    share: float
    """Part of the global batch that this is: over all ranks the shares of a step add up to 1, and
    each sample of it weighs the same. 0 where a rank has no sample left and goes along with one
    that is another's, since all ranks must take equally many micro-batches."""
    load: Load | None = None
    """How much its step is, and how well that is shared out over the ranks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Which part of every global batch a loader brings."""

    rank: int = 0
    """Number of this worker."""
    world: int = 1
    """How many workers share a batch."""
    copies: int = 1
    """How many workers are given the same samples, to compute each of them together."""


class Loader(Generic[S, B]):
    """One rank's micro-batches, step by step.

    Args:
        dataset: samples by index; read by `config.readers` threads.
        order: which samples make up which step.
        collate: turns the samples of a micro-batch into what the network is given.
        place: this rank's part.
        config: how far to read ahead and what to keep in memory.
        pack_tokens: most tokens of a micro-batch of samples of any shapes; None keeps shapes apart.
        content: what the dataset is, as JSON; a run goes on with the same only.
    """

    def __init__(
        self,
        dataset: Dataset[S],
        order: Ordered,
        collate: Callable[[Sequence[S]], B],
        *,
        place: Place,
        config: LoaderConfig | None = None,
        pack_tokens: int | None = None,
        content: Mapping[str, Any] | None = None,
    ) -> None:
        self._config = config or LoaderConfig()
        self._dataset = Remembered(dataset, memory_bytes=self._config.memory_bytes)
        self._order = order
        self._collate = collate
        self._place = place
        self._pack_tokens = pack_tokens
        self._content = dict(content or {})
        self._next = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the number of the next step, and what the sequence of samples follows from."""
        return {"step": self._next, "content": self._content, "order": self._order.describe()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the step after the last one that was taken.

        Raises:
            CheckpointError: other samples would follow than in the run that `state` is of.
        """
        unlike = differences(self._content, state["content"])
        unlike = unlike or differences(self._order.describe(), state["order"])
        if unlike:
            raise CheckpointError(
                "the run cannot go on with other samples than it began with: "
                f"{'; '.join(unlike)}; use its recipe and snapshot, or name a fresh folder for "
                "this run's checkpoints"
            )
        self._next = int(state["step"])

    def name(self, index: int) -> str:
        """Return what the sample of an index is called, for people."""
        return self._dataset.name(index)

    def load(self, step: int, readers: Executor | None = None) -> list[MicroBatch[B]]:
        """Read this rank's micro-batches of one step, by the threads of `readers` if given."""
        batch, first = self._order.batch(step), step * self._order.stride
        indices, buckets = batch.indices, batch.buckets
        parts = split(batch, world=self._place.world, pack_tokens=self._pack_tokens)
        load = measure(batch, parts, pack_tokens=self._pack_tokens)
        mine = parts[self._place.rank]
        cheapest = min(range(len(indices)), key=lambda slot: buckets[slot].cost)
        shown = [part or (cheapest,) for part in mine]
        wanted = [indices[slot] for slots in shown for slot in slots]
        read = self._dataset.__getitem__
        samples = iter([*(readers.map(read, wanted) if readers else map(read, wanted))])
        return [
            MicroBatch(
                data=self._collate([next(samples) for _ in slots]),
                indices=tuple(indices[slot] for slot in slots),
                positions=tuple(first + slot for slot in slots),
                share=len(part) / len(indices) / self._place.copies,
                load=load,
            )
            for part, slots in zip(mine, shown, strict=True)
        ]

    def steps(self, start: int | None = None) -> Generator[list[MicroBatch[B]]]:
        """Yield the micro-batches of step `start`, the next, and so on without end.

        None goes on where the loader stands. A failure to read is raised where its step is asked
        for.
        """
        self._next = self._next if start is None else start
        source = self._ahead(self._next) if self._config.prefetch_steps else self._plain(self._next)
        with contextlib.closing(source):
            for micro_batches in source:
                self._next += 1
                yield micro_batches

    def _plain(self, step: int) -> Generator[list[MicroBatch[B]]]:
        while True:
            yield self.load(step)
            step += 1

    def _ahead(self, step: int) -> Generator[list[MicroBatch[B]]]:
        """Read steps while earlier ones compute: all samples of all steps ahead at once."""
        ahead, width = self._config.prefetch_steps, self._config.readers
        readers = ThreadPoolExecutor(width, thread_name_prefix="reader")
        stages = ThreadPoolExecutor(ahead, thread_name_prefix="loader")
        queue: deque[Future[list[MicroBatch[B]]]] = deque()
        try:
            while True:
                while len(queue) < ahead:
                    queue.append(stages.submit(self.load, step, readers))
                    step += 1
                yield queue.popleft().result()
        finally:
            readers.shutdown(wait=False, cancel_futures=True)
            stages.shutdown(wait=True, cancel_futures=True)
            readers.shutdown()
