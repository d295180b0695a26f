"""What ranks tell each other: plain values, on the thread that trains.

Without a process group there is one rank.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

from video_platform.errors import StorageError

T = TypeVar("T")


def rank() -> int:
    """Return the number of this process."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Return how many there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def from_rank_0(action: Callable[[], T]) -> T:
    """Do something on rank 0; return on every rank what it gave. Collective.

    Raises:
        StorageError: on every rank, where rank 0 met one.
    """
    answer: list[Any] = [None, None]
    if rank() == 0:
        try:
            answer[0] = action()
        except StorageError as error:
            answer[1] = str(error)
    if world() > 1:
        dist.broadcast_object_list(answer, src=0)
    if answer[1] is not None:
        raise StorageError(answer[1])
    value: T = answer[0]
    return value


def from_all(value: T) -> list[T]:
    """Return the values of all ranks. Collective."""
    values: list[Any] = [value] * world()
    if world() > 1:
        dist.all_gather_object(values, value)
    return values
