"""Units of very many samples are those of `units.partition`."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest

from video_platform.latents import membership
from video_platform.latents.membership import first_bytes, hashes, hexadecimal, lexical_order, split
from video_platform.latents.units import Member, partition


def columns(members, grouped=True):
    """Split sorted members by arrays."""
    ids = pa.array([member.id for member in members], pa.large_string())
    sources = pa.array([member.source for member in members], pa.large_string())
    groups = hashes(pa.array([member.group or member.id for member in members], pa.large_string()))

    def split_them(size):
        return split(
            lambda rows: ids.take(pa.array(rows)),
            lambda rows: sources.take(pa.array(rows)),
            groups if grouped else None,
            count=len(members),
            size=size,
        )

    return split_them


def drawn(seed, *, count=300, files=20):
    """Members of which some have a file to themselves, and some share one with very many."""
    draw = np.random.default_rng(seed)
    numbers = draw.choice(10**6, count, replace=False)
    groups = ["", *(f"file {n}" for n in range(files)), *["a long one"] * files]
    return sorted(Member(f"clip-{n}", f"{n:x}", str(draw.choice(groups))) for n in numbers)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [1, 7, 64, 10**6])
def test_units_are_those_of_the_slow_way(seed, size, monkeypatch):
    monkeypatch.setattr(membership, "BATCH", 50)
    members = drawn(seed)
    made = columns(members)(size)
    slow = partition(members, size)
    assert made.units == [unit.id for unit in slow]
    for number, unit in enumerate(slow):
        assert made.names(made.of(number)).to_pylist() == [member.id for member in unit.members]


def test_samples_without_a_group_are_groups_of_their_own():
    members = [Member(f"{n:03d}", "s") for n in range(100)]
    assert columns(members, grouped=False)(8).units == [u.id for u in partition(members, 8)]


def test_keys_that_begin_alike_are_told_apart(monkeypatch):
    """As if the first bytes of SHA-256 were equal for everybody."""
    members = drawn(5, count=60)
    slow = partition(members, 4)
    first = membership.first_bytes
    monkeypatch.setattr(membership, "first_bytes", lambda d: first(d) & np.uint64(3))
    monkeypatch.setattr(membership, "lexical_order", lambda keys: np.lexsort(keys[:, ::-1].T))
    assert columns(members)(4).units == [unit.id for unit in slow]


def test_no_samples_are_no_units():
    made = columns([])(4)
    assert (len(made), made.units) == (0, [])
    assert made.find(pa.array(["a"])).tolist() == [-1]
    assert made.count(np.zeros(0, bool)).tolist() == []


def test_one_id_twice_is_an_error():
    with pytest.raises(ValueError, match="not unique"):
        columns([Member("a", "1"), Member("b", "1"), Member("b", "2", "file")])(4)


def test_samples_are_found_by_id_and_counted_by_unit():
    members = drawn(1)
    made = columns(members)(7)
    ids = [member.id for member in members]
    assert made.find(pa.array([ids[5], "nobody", ids[2]])).tolist() == [5, -1, 2]
    chosen = np.arange(len(ids)) % 3 == 0
    slow = [sum(chosen[row] for row in made.of(unit)) for unit in range(len(made.units))]
    assert made.count(chosen).tolist() == slow


def test_hashes_are_those_of_hashlib_also_of_a_slice():
    texts = ["", "a", "grün", "x" * 1000, "", "b"]
    slow = [hashlib.sha256(text.encode()).digest() for text in texts]
    for kind in (pa.string(), pa.large_string()):
        array = pa.array(texts, kind)
        assert [row.tobytes() for row in hashes(array)] == slow
        assert [row.tobytes() for row in hashes(array[2:5])] == slow[2:5]
        assert len(hashes(array[:0])) == 0
    assert hexadecimal(hashes(pa.array(texts))).to_pylist() == [d.hex() for d in slow]


def test_digests_sort_as_bytes_do():
    digests = np.random.default_rng(0).integers(0, 3, (500, 32), np.uint8)
    rows = [row.tobytes() for row in digests]
    assert [rows[i] for i in lexical_order(digests)] == sorted(rows)
    numbers = first_bytes(digests)
    assert [rows[i][:8] for i in np.argsort(numbers)] == sorted(row[:8] for row in rows)
