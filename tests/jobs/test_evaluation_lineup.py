"""Students meet their teacher at all its steps, and undistilled at equal steps."""

import dataclasses
import itertools

import pytest

from jobs.evaluate import evaluate
from jobs.evaluation_bench import shapes_bench
from jobs.evaluation_config import EvaluationConfig
from jobs.evaluation_lineup import lineup, models_of
from jobs.recipe import Recipe
from tests.tiny import make_model, make_student_card
from video_models.diffusion.config import SamplingConfig
from video_platform.errors import ConfigError
from video_platform.shapes.world import WorldConfig


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    four = make_student_card(sampling=SamplingConfig(steps=4, guidance=1.0))
    return {
        "teacher": make_model(folder / "model").path,
        "one": make_model(folder / "one", make_student_card()).path,
        "four": make_model(folder / "four", four).path,
    }


def test_students_and_the_undistilled_teacher_run_at_the_asked_steps(models):
    contenders, pairs = lineup(models, same_steps=True, at_steps=(1, 3))
    assert {each.name: each.steps for each in contenders} == {
        "teacher": 2,
        "teacher in 4 steps": 4,
        "teacher in 3 steps": 3,
        "teacher in 1 step": 1,
        "one": 1,
        "one in 3 steps": 3,
        "four": 4,
        "four in 3 steps": 3,
        "four in 1 step": 1,
    }
    steps = {each.name: each.steps for each in contenders}
    equal = [(a, b) for a, b in pairs if b != "teacher"]
    assert len(equal) == 5
    assert all(steps[student] == steps[teacher] for student, teacher in equal)
    assert [a for a, b in pairs if b == "teacher"] == [a for a, _ in equal]


def test_each_model_is_opened_once(models):
    contenders, _ = lineup(models, same_steps=True, at_steps=(1, 3))
    folders = [each.folder for each in contenders]
    changes = sum(a != b for a, b in itertools.pairwise(folders))
    assert changes == len(models) - 1


def test_a_teacher_that_already_takes_as_many_steps_is_asked_once(models):
    contenders, pairs = lineup(models, same_steps=False, at_steps=(2,))
    names = [each.name for each in contenders]
    assert names == ["teacher", "one", "one in 2 steps", "four", "four in 2 steps"]
    assert [teacher for _, teacher in pairs] == ["teacher"] * 4


def test_a_model_alone_runs_at_the_asked_steps_too(models):
    contenders, pairs = lineup({"model": models["teacher"]}, same_steps=True, at_steps=(1,))
    assert [each.name for each in contenders] == ["model", "model in 1 step"]
    assert pairs == []


def test_models_that_would_share_their_files_are_refused(models):
    with pytest.raises(ConfigError, match="both write clips/one"):
        lineup({"one": models["one"], "One": models["four"]}, same_steps=False)
    with pytest.raises(ConfigError, match=r"'one in 3 steps' and 'one in 3.steps'"):
        lineup(
            {"one": models["one"], "one in 3.steps": models["four"]}, same_steps=True, at_steps=(3,)
        )


def test_a_recipe_names_several_students(models, tmp_path):
    base = EvaluationConfig()
    several = {name: str(models[name]) for name in ("one", "four")}
    recipe = Recipe(name="x", project=str(tmp_path))
    found = models_of(recipe, dataclasses.replace(base, students=several))
    assert list(found) == ["teacher", "one", "four"]
    assert list(models_of(recipe, base)) == ["model"]
    recipe.student_folder.mkdir()
    assert list(models_of(recipe, base)) == ["teacher", "student"]
    wrong = dataclasses.replace(base, students={"base": str(models["teacher"])})
    with pytest.raises(ConfigError, match=r"evaluate\.students has 'base', but .* a base model"):
        models_of(recipe, wrong)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"students": {}}, "students names none"),
        ({"students": {"a/b": "x"}}, "students holds the name 'a/b'"),
        ({"students": {"teacher": "x"}}, "students calls one 'teacher'"),
        ({"at_steps": (2, 0)}, r"at_steps = \[2, 0\]"),
    ],
)
def test_students_and_steps_that_cannot_be_are_told(wrong, told):
    with pytest.raises(ValueError, match=told):
        EvaluationConfig(**wrong)


def test_several_students_at_several_steps_make_one_report(models, tmp_path):
    config = EvaluationConfig(
        prompts=2, seeds=1, held_out_share=0, reconstructions=0, resamples=20, at_steps=(1, 3)
    )
    bench = shapes_bench(WorldConfig(num_clips=10), config)
    result = evaluate(models, bench, config=config, folder=tmp_path)
    judged = {each.student: (each.teacher, each.hurried) for each in result.verdicts}
    assert judged["four in 1 step"] == ("teacher", "teacher in 1 step")
    assert judged["four"] == ("teacher", "teacher in 4 steps")
    assert len(judged) == 5
    clips = sorted(path.name for path in (tmp_path / "clips").iterdir())
    assert clips == sorted(each.slug for each in result.contenders)
    html = (tmp_path / "report.html").read_text()
    assert all(each.name in html for each in result.contenders)
