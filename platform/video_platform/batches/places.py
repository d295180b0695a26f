"""Places of samples in a dataset, as many as there may be, in no memory to speak of.

    held_out, trained = split(range(100_000_000), 0.02, seed, "held-out")
    trained[5]

A `range`, an array, or a part of a shuffled range: all have a length and give numbers by position,
one at a time or, through `take`, many at once.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from video_platform.batches.permutation import Permutation


class Shuffled(Sequence[int]):
    """A part of some places in a random order.

    Args:
        places: all of them.
        permutation: of as many.
        part: which positions in the random order.
    """

    def __init__(self, places: "Places", permutation: Permutation, part: range) -> None:
        self._places, self._permutation, self._part = places, permutation, part

    def __len__(self) -> int:
        return len(self._part)

    def __getitem__(self, position: int | slice) -> "int | Shuffled":  # type: ignore[override]
        """Return one place, or a part of this part."""
        if isinstance(position, slice):
            return Shuffled(self._places, self._permutation, self._part[position])
        part = np.array([self._part[position]])
        return int(take(self._places, self._permutation(part))[0])

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places at some positions."""
        return take(self._places, self._permutation(take(self._part, positions)))


Places = range | Shuffled | NDArray[np.int64]


def take(places: Places, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places at some positions, each from 0 and below the length."""
    if isinstance(places, range):
        return places.start + places.step * positions
    return places.take(positions)


def split(places: Places, count: int, *key: int | str) -> tuple[Places, Places]:
    """Draw `count` of the places, and return them and the rest.

    Args:
        places: what is split.
        count: how many are drawn, from none to all.
        key: what the draw is for; equal keys draw the same.
    """
    if not len(places):
        return places, places
    permutation = Permutation(len(places), *key)
    drawn, rest = range(count), range(count, len(places))
    return Shuffled(places, permutation, drawn), Shuffled(places, permutation, rest)


def portions(sizes: Sequence[int], total: int) -> list[int]:
    """Divide `total` over groups in proportion to their sizes, each rounded but the sum exact."""
    ends = np.cumsum([0, *sizes]).tolist()
    marks = [end * total // max(ends[-1], 1) for end in ends]
    return [after - before for before, after in itertools.pairwise(marks)]
