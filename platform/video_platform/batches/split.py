"""How a global batch is shared out: micro-batches of about the same work, equally many a rank.

    parts = split(batch, world=8)                      # each micro-batch of one shape
    parts = split(batch, world=8, pack_tokens=32_768)  # of any shapes, one behind the other
    parts[rank]                                        # slots of the batch, a tuple a micro-batch

Ranks wait for each other at every update, and under ZeRO 3 at every block: what one has more to do,
all others lose. So the heaviest goes first, each to the place that has least so far (Graham 1969,
"Bounds on multiprocessing timing anomalies"), first samples to micro-batches, then micro-batches to
ranks. It follows from the batch and the number of ranks alone, so every rank knows all parts.
"""

import dataclasses
import heapq
import itertools
from collections.abc import Iterable, Sequence

from video_platform.batches.order import Batch, Bucket

Slots = tuple[int, ...]
"""Slots of a global batch that go through the network at once; none where there are too few."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Load:
    """How much a step is, and how well it is shared out."""

    tokens: int
    """Positions of all samples, over all ranks."""
    fill: float
    """Tokens in a micro-batch over the most that one may hold, on average; what goes along with
    weight 0 counts as empty."""
    balance: float
    """Work of an average micro-batch over that of the largest that is done at the same time: the
    share of the time in which no rank waits, where time goes with the work."""


def split(batch: Batch, *, world: int, pack_tokens: int | None = None) -> list[list[Slots]]:
    """Return the micro-batches of every rank.

    Args:
        batch: the samples of a step.
        world: how many ranks share it.
        pack_tokens: None keeps shapes apart and gives a micro-batch at most as many samples as its
            bucket says; a number lets a micro-batch have samples of any shapes up to so many
            tokens, or one sample that has more.

    Returns:
        A list a rank, all of one length; each slot of the batch stands in exactly one place.
    """
    costs = [bucket.cost for bucket in batch.buckets]
    if pack_tokens is None:
        parts = _chunks(batch.buckets, world)
    else:
        parts = _packed(batch.buckets, world, pack_tokens)
    return _deal(parts, [sum(costs[slot] for slot in part) for part in parts], world)


def measure(batch: Batch, parts: Sequence[Sequence[Slots]], *, pack_tokens: int | None) -> Load:
    """Say how much a step is and how well it is shared out as `parts`."""
    buckets = batch.buckets
    rows = [*zip(*parts, strict=True)]  # what the ranks do at the same time
    works = [[sum(buckets[slot].cost for slot in part) for part in row] for row in rows]
    fills = [_fill([buckets[slot] for slot in part], pack_tokens) for row in rows for part in row]
    return Load(
        tokens=sum(bucket.tokens for bucket in buckets),
        fill=sum(fills) / len(fills),
        balance=sum(map(sum, works)) / (len(parts) * sum(map(max, works))),
    )


def _fill(buckets: Sequence[Bucket], pack_tokens: int | None) -> float:
    if not buckets:
        return 0.0
    if pack_tokens is None:
        return len(buckets) / buckets[0].micro_batch_size
    return min(sum(bucket.tokens for bucket in buckets) / pack_tokens, 1.0)


def _chunks(buckets: Sequence[Bucket], world: int) -> list[Slots]:
    """Cut the samples of each bucket into micro-batches, a multiple of `world` of them in all.

    Where samples are too few for that, empty ones come on top.
    """
    groups: dict[Bucket, list[int]] = {}
    for slot, bucket in enumerate(buckets):
        groups.setdefault(bucket, []).append(slot)
    slots = [*groups.values()]
    counts = [-(-len(group) // buckets[group[0]].micro_batch_size) for group in slots]

    def largest(number: int) -> float:
        """Return the work of a group's largest chunk, which it would be good to cut."""
        group, count = slots[number], counts[number]
        return -(-len(group) // count) * buckets[group[0]].cost if count < len(group) else 0.0

    while sum(counts) % world and any(largest(number) for number in range(len(slots))):
        counts[max(range(len(slots)), key=largest)] += 1
    chunks = [c for group, count in zip(slots, counts, strict=True) for c in _cut(group, count)]
    return [*chunks, *((),) * (-len(chunks) % world)]


def _packed(buckets: Sequence[Bucket], world: int, room: int) -> list[Slots]:
    """Put samples into as few micro-batches as they fit in, a multiple of `world`."""
    total = sum(min(bucket.tokens, room) for bucket in buckets)
    for count in itertools.count(max(-(-total // (world * room)), 1)):
        parts = _spread(buckets, count * world, room)
        if parts is not None:
            return parts
    raise AssertionError("one sample a micro-batch always fits")


def _spread(buckets: Sequence[Bucket], count: int, room: int) -> list[Slots] | None:
    """Put each sample into the micro-batch with the least work that has room, or give up."""
    parts: list[list[int]] = [[] for _ in range(count)]
    left = [room] * count
    lightest = [(0.0, number) for number in range(count)]
    heaviest_first = sorted(range(len(buckets)), key=lambda slot: (-buckets[slot].cost, slot))
    for slot in heaviest_first:
        tokens, full = min(buckets[slot].tokens, room), []
        while lightest and left[lightest[0][1]] < tokens:
            full.append(heapq.heappop(lightest))
        if not lightest:
            return None
        work, number = lightest[0]
        heapq.heapreplace(lightest, (work + buckets[slot].cost, number))
        parts[number].append(slot)
        left[number] -= tokens
        for each in full:
            heapq.heappush(lightest, each)
    return [tuple(sorted(part)) for part in parts]


def _deal(parts: Sequence[Slots], works: Sequence[float], world: int) -> list[list[Slots]]:
    """Give every rank one of the heaviest parts, then one of the next heaviest, and so on.

    What is done at the same time is then alike; the rank that has least takes the most of it.
    """
    heaviest_first = sorted(range(len(parts)), key=lambda number: (-works[number], parts[number]))
    dealt: list[list[Slots]] = [[] for _ in range(world)]
    done = [0.0] * world
    for start in range(0, len(parts), world):
        least_first = sorted(range(world), key=lambda rank: (done[rank], rank))
        for number, rank in zip(heaviest_first[start : start + world], least_first, strict=True):
            dealt[rank].append(parts[number])
            done[rank] += works[number]
    return dealt


def _cut(slots: Sequence[int], parts: int) -> Iterable[Slots]:
    """Cut slots into parts that differ by one at most."""
    marks = [len(slots) * part // parts for part in range(parts + 1)]
    return (tuple(slots[before:after]) for before, after in itertools.pairwise(marks))
