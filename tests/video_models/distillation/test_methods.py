"""The table of methods is true."""

import importlib

import pytest

from video_models.distillation.methods import METHODS


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_row_names_a_module_with_a_loss(name):
    module = importlib.import_module(METHODS[name].module)
    assert any(function.endswith("_loss") for function in vars(module))


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_step_kind_follows_from_what_is_trained(name):
    row = METHODS[name]
    assert row.step == ("trajectory" if row.trained == ("student",) else "two_player")


def test_rows_are_sorted_by_name():
    assert list(METHODS) == sorted(METHODS)
