"""Model folders for these tests."""

import pytest

from tests.tiny import make_model, make_student_card


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The folder of a base model; not to be changed."""
    return make_model(tmp_path_factory.mktemp("models") / "base").path


@pytest.fixture(scope="session")
def student(tmp_path_factory):
    """The folder of a student with guidance baked in; not to be changed."""
    return make_model(tmp_path_factory.mktemp("models") / "student", make_student_card()).path
