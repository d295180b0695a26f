"""Which samples are worked on together, and what a change of the source moves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from video_platform.latents.units import Member, partition

ids = st.sets(st.text(max_size=8), min_size=1, max_size=60)
sizes = st.integers(min_value=1, max_value=9)


def members(names):
    return [Member(name, f"source of {name}") for name in names]


@given(ids, sizes)
def test_each_sample_is_in_one_unit_and_no_unit_is_too_large(names, size):
    units = partition(members(names), size)
    assert sorted(m.id for unit in units for m in unit.members) == sorted(names)
    assert all(1 <= len(unit.members) <= size for unit in units)
    assert len({unit.id for unit in units}) == len(units)


@given(ids, sizes, st.randoms())
def test_the_order_of_the_source_does_not_matter(names, size, random):
    shuffled = members(names)
    random.shuffle(shuffled)
    assert partition(shuffled, size) == partition(members(names), size)


@given(ids, sizes, st.text(max_size=8))
def test_one_more_file_changes_one_unit_or_splits_it(names, size, extra):
    before = partition(members(names - {extra}), size)
    after = partition(members(names | {extra}), size)
    kept = {unit.id for unit in before} & {unit.id for unit in after}
    lost = [unit for unit in before if unit.id not in kept]
    new = [unit for unit in after if unit.id not in kept]
    assert len(lost) <= 1
    assert sum(len(unit.members) for unit in new) <= size + 1
    assert len(new) == 1 or len(lost[0].members) == size


def test_a_changed_file_makes_another_unit_of_its_unit_alone():
    before = members(f"{number}.mp4" for number in range(40))
    after = [Member(m.id, "changed") if m.id == "7.mp4" else m for m in before]
    old, new = partition(before, 8), partition(after, 8)
    changed = [a for a, b in zip(old, new, strict=True) if a.id != b.id]
    assert len(changed) == 1
    assert "7.mp4" in {m.id for m in changed[0].members}


def test_the_rule_never_drifts():
    """Another rule would encode every existing cache again."""
    units = partition(members("abcdefgh"), 3)
    assert [(unit.prefix, "".join(m.id for m in unit.members), unit.id) for unit in units] == [
        ("000", "d", "4d5cd5a81e4238a1"),
        ("0010", "cf", "5b0160b6243ad09f"),
        ("0011", "be", "f67deb3cd71b55fe"),
        ("1", "agh", "ada6c673bde2aadd"),
    ]


def test_equal_ids_are_refused():
    with pytest.raises(ValueError, match="not unique"):
        partition([Member("a", "1"), Member("a", "2")], 4)
