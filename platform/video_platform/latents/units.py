"""Which samples are worked on and committed together.

The samples are the leaves of a binary tree over the bits of SHA-256(group) and then SHA-256(id):
the root holds all of them, and a node with more than `size` samples is split by its next bit. So
where a sample lands depends on its own id and on how crowded its corner is, never on a position in
a list: adding or changing one file changes the one unit it falls in (or splits it in two) and
leaves every other unit, with its id and its commit, as it was. Clips of one file are a group, and
so stay together.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Sequence

from video_platform.latents.sealed import digest


@dataclasses.dataclass(frozen=True, order=True)
class Member:
    """One sample of a layer, before it is made."""

    id: str
    """Unique in the layer: the clip's id, or the SHA-256 of the caption."""
    source: str
    """Hash of what it is made from."""
    group: str = ""
    """Samples of one group are best made together; empty is a group of its own."""


@dataclasses.dataclass(frozen=True)
class Unit:
    """A piece of work that is committed as one."""

    prefix: str
    """The first bits that all members share."""
    members: tuple[Member, ...]
    """Sorted by id."""

    @functools.cached_property
    def id(self) -> str:
        """Hash of prefix and contents; a changed source file makes another unit."""
        members = [[member.id, member.source] for member in self.members]
        return digest([self.prefix, members])[:16]


def partition(members: Iterable[Member], size: int) -> list[Unit]:
    """Split samples into units of at most `size`, in the order of their prefixes."""
    pairs = [
        (_bits(member.group or member.id) + _bits(member.id), member) for member in sorted(members)
    ]
    if len({member.id for _, member in pairs}) < len(pairs):
        raise ValueError("the ids of the members are not unique")
    return list(_split(pairs, "", size)) if pairs else []


def _split(pairs: Sequence[tuple[str, Member]], prefix: str, size: int) -> Iterable[Unit]:
    if len(pairs) <= size:
        yield Unit(prefix, tuple(member for _, member in pairs))
        return
    for bit in "01":
        side = [pair for pair in pairs if pair[0][len(prefix)] == bit]
        if side:
            yield from _split(side, prefix + bit, size)


def _bits(name: str) -> str:
    return f"{int.from_bytes(hashlib.sha256(name.encode()).digest()):0256b}"
