"""Every named mistake turns its oracle red, and every oracle is green without one."""

import pytest

from tests.video_models.distillation.mutations import all_groups, all_mutations, notice, run_oracle

ORACLES = {(group.oracle, str(group.given)): group for group in all_groups()}


@pytest.mark.parametrize("mutation", all_mutations(), ids=lambda mutation: mutation.name)
def test_a_mistake_is_noticed(mutation):
    assert notice(mutation)


@pytest.mark.parametrize("key", sorted(ORACLES), ids=lambda key: key[0].rpartition(".")[2])
def test_an_oracle_passes_where_nothing_is_wrong(key):
    run_oracle(ORACLES[key])


def test_mistakes_have_names_of_their_own():
    names = [mutation.name for mutation in all_mutations()]
    assert len(names) == len(set(names))
