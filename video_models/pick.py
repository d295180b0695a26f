"""Choose by name out of a plain table."""

from collections.abc import Mapping
from typing import TypeVar

V = TypeVar("V")


def pick(table: Mapping[str, V], name: str, what: str) -> V:
    """Return `table[name]`.

    Args:
        table: rows by name.
        name: the row that is asked for.
        what: the kind of thing in a row, for the error.

    Raises:
        ValueError: there is no such row; the message lists those that exist.
    """
    if name not in table:
        raise ValueError(f"unknown {what} {name!r}; known: {', '.join(sorted(table))}")
    return table[name]
