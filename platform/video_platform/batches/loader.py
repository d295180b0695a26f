"""Brings the samples of each step to a rank in time.

    order = Order(bucket_by_shape(cache.shapes), batch_size=64, seed=0)
    place = Place(rank=rank, world=world, micro_batch_size=8)
    loader = Loader(cache, order, collate, place=place)
    for micro_batches in loader.steps(start=100): ...

The only state is the number of the step: `steps(start)` goes on exactly where an earlier run
stopped.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, Protocol, TypeVar

from video_platform.batches.config import LoaderConfig
from video_platform.batches.order import Order, rank_slots

S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)
B = TypeVar("B")


class Dataset(Protocol[S_co]):
    """Anything with a length and samples by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> S_co: ...


@dataclasses.dataclass(frozen=True)
class MicroBatch(Generic[B]):
    """What one rank sends through a network at once."""

    data: B
    """The collated samples."""
    indices: tuple[int, ...]
    """Their indices in the dataset."""
    positions: tuple[int, ...]
    """Their places in the sequence of all samples ever trained on, step x batch_size + slot. Noise
    and timesteps are drawn from (seed, position), so they depend on no rank."""
    share: float
    """Part of the global batch that this is."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Which part of every global batch a loader brings."""

    rank: int = 0
    """Number of this worker."""
    world: int = 1
    """How many workers share a batch."""
    micro_batch_size: int
    """Samples in a micro-batch."""


class Loader(Generic[S, B]):
    """One rank's micro-batches, step by step.

    Args:
        dataset: samples by index; read by one background thread.
        order: which samples make up which step.
        collate: turns the samples of a micro-batch into what the network is given.
        place: this rank's part.
        config: how far to read ahead and what to keep in memory.
    """

    def __init__(
        self,
        dataset: Dataset[S],
        order: Order,
        collate: Callable[[Sequence[S]], B],
        *,
        place: Place,
        config: LoaderConfig | None = None,
    ) -> None:
        self._config = config or LoaderConfig()
        self._dataset = Remembered(dataset, memory_bytes=self._config.memory_bytes)
        self._order = order
        self._collate = collate
        self._slots = rank_slots(
            batch_size=order.batch_size,
            micro_batch_size=place.micro_batch_size,
            rank=place.rank,
            world=place.world,
        )

    def load(self, step: int) -> list[MicroBatch[B]]:
        """Read this rank's micro-batches of one step."""
        indices = self._order.batch(step)
        size = self._order.batch_size
        return [
            MicroBatch(
                data=self._collate([self._dataset[indices[slot]] for slot in slots]),
                indices=tuple(indices[slot] for slot in slots),
                positions=tuple(step * size + slot for slot in slots),
                share=len(slots) / size,
            )
            for slots in self._slots
        ]

    def steps(self, start: int = 0) -> Generator[list[MicroBatch[B]]]:
        """Yield the micro-batches of step `start`, the next, and so on without end.

        A failure to read is raised where its step is asked for.
        """
        ahead = self._config.prefetch_steps
        if ahead == 0:
            while True:
                yield self.load(start)
                start += 1
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader") as reader:
            queue: deque[Future[list[MicroBatch[B]]]] = deque()
            try:
                while True:
                    while len(queue) < ahead:
                        queue.append(reader.submit(self.load, start))
                        start += 1
                    yield queue.popleft().result()
            finally:
                for future in queue:
                    future.cancel()


class Remembered(Generic[S]):
    """A dataset whose samples stay in memory once read, as far as they fit.

    Args:
        dataset: where samples come from.
        memory_bytes: how much the kept samples may take together.
    """

    def __init__(self, dataset: Dataset[S], *, memory_bytes: int) -> None:
        self._dataset = dataset
        self._kept: dict[int, S] = {}
        self._room = memory_bytes

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> S:
        if index in self._kept:
            return self._kept[index]
        sample = self._dataset[index]
        size = size_bytes(sample)
        if size <= self._room:
            self._kept[index] = sample
            self._room -= size
        return sample


def size_bytes(value: Any) -> int:
    """Estimate the memory of a sample: its tensors and arrays exactly, the rest roughly."""
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    if dataclasses.is_dataclass(value):
        return sum(size_bytes(getattr(value, f.name)) for f in dataclasses.fields(value))
    if isinstance(value, Mapping):
        return sum(size_bytes(k) + size_bytes(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return sum(size_bytes(item) for item in value)
    return len(value) if isinstance(value, str | bytes) else 64
