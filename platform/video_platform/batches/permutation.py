"""Shuffle any number of places without a list of them.

    permutation = Permutation(100_000_000, seed, "epoch", 3)
    permutation(np.arange(64))   # where the first 64 places go

A Feistel network over a grid of just more cells than there are places (Black and Rogaway 2002,
"Ciphers with arbitrary finite domains", method 3): each round turns every row, then every column,
by an amount that is a hash of its number, so each round can be undone and no two places meet. What
lands on a cell too many goes through again. A short one is shuffled outright: a grid of a few cells
would mix badly.
"""

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

SHORT = 1 << 12
"""Up to so many places are shuffled as a list."""
ROUNDS = 6
"""Turns of all rows and all columns."""

Numbers = NDArray[np.uint64]


class Permutation:
    """A one-to-one map of 0 .. size - 1 onto itself, which follows from its key alone.

    Args:
        size: how many places there are, from 1 to 2^60.
        key: what the shuffling is for; equal keys give equal maps.
    """

    def __init__(self, size: int, *key: int | str) -> None:
        if not 1 <= size <= 1 << 60:
            raise ValueError(f"size = {size!r}; a permutation is of 1 to 2^60 places")
        self.size = size
        digest = hashlib.shake_256(repr(key).encode()).digest(16 * ROUNDS)
        self._list: NDArray[np.int64] | None = None
        if size <= SHORT:
            random = np.random.Generator(np.random.Philox(int.from_bytes(digest[:16])))
            self._list = random.permutation(size)
        self._keys = np.frombuffer(digest, np.uint64).reshape(ROUNDS, 2)
        rows = math.isqrt(size - 1) + 1
        self._rows, self._columns = np.uint64(rows), np.uint64(-(-size // rows))

    def __call__(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where places go; an array of the same shape."""
        if self._list is not None:
            return self._list[places]
        cells = self._turn(places.astype(np.uint64))
        while (outside := cells >= self.size).any():
            cells[outside] = self._turn(cells[outside])
        return cells.astype(np.int64)

    def _turn(self, cells: Numbers) -> Numbers:
        rows, columns = self._rows, self._columns
        row, column = cells // columns, cells % columns
        for of_column, of_row in self._keys:
            row = (row + _draw(column + of_column, rows)) % rows
            column = (column + _draw(row + of_row, columns)) % columns
        return row * columns + column


def _draw(numbers: Numbers, limit: np.uint64) -> Numbers:
    """Hash numbers to numbers below a limit of at most 2^32 (the finaliser of SplitMix64)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    numbers ^= numbers >> np.uint64(31)
    return ((numbers >> np.uint64(32)) * limit) >> np.uint64(32)
