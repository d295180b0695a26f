"""What a loader reads: samples by index, of several datasets as one, and remembered once read."""

import bisect
import dataclasses
import itertools
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)


class Dataset(Protocol[S_co]):
    """Anything with a length and samples by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> S_co: ...


def name_of(dataset: Dataset[Any], index: int) -> str:
    """Return what a dataset calls a sample, by its method `name`; its index if it has none."""
    return str(getattr(dataset, "name", str)(index))


class Joined(Generic[S]):
    """Several datasets as one: the samples of the first, then those of the second, and so on."""

    def __init__(self, datasets: Sequence[Dataset[S]]) -> None:
        self._datasets = list(datasets)
        self._ends = [*itertools.accumulate(len(dataset) for dataset in datasets)]

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> S:
        dataset, place = self._find(index)
        return dataset[place]

    def name(self, index: int) -> str:
        """Return what the sample's own dataset calls it."""
        return name_of(*self._find(index))

    def _find(self, index: int) -> tuple[Dataset[S], int]:
        number = bisect.bisect_right(self._ends, index)
        dataset = self._datasets[number]
        return dataset, index - self._ends[number] + len(dataset)


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
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._dataset)

    def name(self, index: int) -> str:
        """Return what the dataset calls a sample."""
        return name_of(self._dataset, index)

    def __getitem__(self, index: int) -> S:
        if index in self._kept:
            return self._kept[index]
        sample = self._dataset[index]
        size = size_bytes(sample)
        with self._lock:
            if size <= self._room and index not in self._kept:
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
