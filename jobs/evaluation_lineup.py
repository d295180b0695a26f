"""Who is judged, at how many steps, and who is compared with whom.

Each student, at each number of steps, is compared with the teacher at all its steps, and with the
undistilled teacher at the student's number of steps.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jobs.evaluation_config import TEACHER, EvaluationConfig
from jobs.evaluation_records import Contender
from jobs.recipe import Recipe
from pipelines.model_folder import ModelFolder
from pipelines.text_to_video import TextToVideo
from video_platform.errors import ConfigError

Pairs = list[tuple[str, str]]
"""(student, teacher) by name; a student's first pair is with the teacher at all its steps, a second
one with the teacher at the student's."""


def models_of(recipe: Recipe, config: EvaluationConfig) -> dict[str, Path]:
    """Return the model folders that a recipe judges, by the name that tables call them.

    Raises:
        ConfigError: a folder of `evaluate.students` holds no student.
    """
    students = config.student_folders
    for name, path in students.items():
        kind = ModelFolder.open(path).card.kind
        if kind != "student":
            raise ConfigError(
                f"evaluate.students has {name!r}, but {str(path)!r} holds a {kind} model; name "
                "folders that `vdp distill` wrote"
            )
    if not students and recipe.student_folder.exists():
        students = {"student": recipe.student_folder}
    return {TEACHER if students else "model": recipe.model_folder, **students}


def lineup(
    models: Mapping[str, Path], *, same_steps: bool, at_steps: Sequence[int] = ()
) -> tuple[list[Contender], Pairs]:
    """Return who is judged and who is compared.

    Args:
        models: model folders by name; the first that is no student is the teacher.
        same_steps: judge the undistilled teacher at each student's own number of steps too, which
            is what the student has to beat.
        at_steps: numbers of steps at which teacher and students are judged besides their own.

    Raises:
        ConfigError: a folder is no model folder, or two contenders would share their files.
    """
    alone = [_contender(name, ModelFolder.open(path)) for name, path in models.items()]
    teacher = next((each for each in alone if each.kind == "base"), None)
    others = [
        one
        for each in alone
        if each is not teacher
        for one in (each, *(_hurried(each, at_steps) if each.kind == "student" else ()))
    ]
    if teacher is None:
        return _distinct(others), []
    hurried = {each.steps: each for each in _hurried(teacher, at_steps)}
    pairs: Pairs = []
    for student in (each for each in others if each.kind == "student"):
        pairs.append((student.name, teacher.name))
        if same_steps and student.steps != teacher.steps:
            hurried.setdefault(student.steps, _in_steps(teacher, student.steps))
        if student.steps in hurried:
            pairs.append((student.name, hurried[student.steps].name))
    # A teacher's fewer steps come before the other models, so that each model is opened once.
    ordered = sorted(hurried.values(), key=lambda each: -each.steps)
    return _distinct([teacher, *ordered, *others]), pairs


def _hurried(contender: Contender, at_steps: Sequence[int]) -> list[Contender]:
    """Return a contender at other numbers of steps than its own, many first."""
    return [
        _in_steps(contender, steps)
        for steps in sorted(set(at_steps), reverse=True)
        if steps != contender.steps
    ]


def _in_steps(contender: Contender, steps: int) -> Contender:
    told = "1 step" if steps == 1 else f"{steps} steps"
    return dataclasses.replace(contender, name=f"{contender.name} in {told}", steps=steps)


def _distinct(contenders: list[Contender]) -> list[Contender]:
    """Refuse contenders whose files would overwrite each other's."""
    known: dict[str, Contender] = {}
    for each in contenders:
        other = known.setdefault(each.slug, each)
        if other is not each:
            raise ConfigError(
                f"{other.name!r} and {each.name!r} would both write clips/{each.slug}; "
                "give one another name in evaluate.students"
            )
    return contenders


def _contender(name: str, folder: ModelFolder) -> Contender:
    sampling = folder.card.sampling
    return Contender(
        name=name,
        folder=str(folder.path),
        kind=folder.card.kind,
        identity=folder.identity,
        run_id=folder.card.run_id,
        sampler=sampling.sampler,
        steps=sampling.steps,
        guidance=sampling.guidance,
    )


def opened(contenders: Sequence[Contender]) -> Iterator[tuple[Contender, TextToVideo]]:
    """Yield each contender with its model, one model in memory at a time."""
    folder, model = "", None
    for contender in contenders:
        if model is None or contender.folder != folder:
            folder, model = contender.folder, None
            model = TextToVideo.open(folder)
        yield contender, model
