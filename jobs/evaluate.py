"""Judge models side by side: `vdp evaluate RECIPE`.

Reads `model`, `distill`, `world` or `evaluate.prompt_file`, and `evaluate`; writes tables, clips,
contact sheets and a report that needs nothing but a browser to `<project>/evaluation`. With
`evaluate.autoencoders` it judges those instead: `jobs/evaluate_autoencoder.py`.

    questions x seeds -> clips (mp4) -> judge -> rates, differences -> results.json, report.html
"""

import dataclasses
import functools
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jobs import evaluate_autoencoder
from jobs.clip_scores import Scores
from jobs.evaluation_autoencoder_results import AutoencoderEvaluation
from jobs.evaluation_bench import Bench, file_bench, shapes_bench
from jobs.evaluation_config import EvaluationConfig
from jobs.evaluation_measure import compete, reconstruct
from jobs.evaluation_references import held_out_clips
from jobs.evaluation_results import (
    Contender,
    EvaluationResult,
    JudgedClip,
    as_metrics,
    differences,
    looks,
    rates,
    verdicts,
    write_results,
)
from jobs.progress import OnProgress, progress
from jobs.recipe import Recipe, needed
from jobs.report import show, write_report
from pipelines.model_folder import ModelFolder
from pipelines.text_to_video import TextToVideo
from video_platform.config import as_tree
from video_platform.errors import ConfigError
from video_platform.tracking import open_tracker


def run(recipe: Recipe) -> EvaluationResult | AutoencoderEvaluation:
    """Judge the models, or the autoencoders, that the recipe names."""
    config = needed(recipe.evaluate, "evaluate", "evaluate")
    if config.autoencoders is not None:
        return evaluate_autoencoder.run(recipe)
    return run_models(recipe, config)


def run_models(recipe: Recipe, config: EvaluationConfig) -> EvaluationResult:
    """Judge the recipe's model, and its student if there is one, and track what came of it."""
    models = {"teacher": recipe.model_folder, "student": recipe.student_folder}
    if not recipe.student_folder.exists():
        models = {"model": recipe.model_folder}
    bench, folder = bench_of(recipe, config), recipe.folder / "evaluation"
    runs = {name: ModelFolder.open(path).card.run_id for name, path in models.items()}
    tracker = open_tracker(recipe.tracking, recipe.folder)
    with tracker.start(
        "evaluation",
        name=f"{recipe.name} evaluate",
        params=as_tree(recipe),
        parents={name: run_id for name, run_id in runs.items() if run_id},
        tags={"vdp.folder": str(folder.absolute())},
    ) as tracked:
        result = evaluate(models, bench, config=config, folder=folder, title=recipe.name)
        tracked.metrics(as_metrics(result), step=0)
        tracked.artifact(folder)
    show(result)
    return result


def bench_of(recipe: Recipe, config: EvaluationConfig) -> Bench:
    """Return what the recipe's models are judged on.

    Raises:
        ConfigError: the recipe has neither a world nor a prompt file.
    """
    if config.prompt_file is not None:
        references = held_out_clips(recipe, config.reconstructions)
        return file_bench(config.prompt_file, config, references=references)
    if recipe.world is None:
        raise ConfigError(
            "evaluate needs prompts: give evaluate.prompt_file, a JSONL file with a prompt a "
            "line, or a world"
        )
    return shapes_bench(recipe.world, config)


def evaluate(
    models: Mapping[str, Path],
    bench: Bench,
    *,
    config: EvaluationConfig,
    folder: Path,
    title: str = "evaluation",
) -> EvaluationResult:
    """Generate, judge and write everything to `folder`.

    Args:
        models: model folders by the name that tables call them; each student is compared with the
            first that is none.
        bench: what they are asked, and who judges.
        config: how many clips, and how they are measured.
        folder: where clips, tables, contact sheets and `report.html` go.
        title: heads the report.

    Raises:
        ConfigError: a folder is no model folder.
    """
    contenders, pairs = lineup(models, same_steps=config.same_steps)
    for part in ("clips", "sheets"):
        shutil.rmtree(folder / part, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    judged: list[JudgedClip] = []
    scores: dict[str, Scores] = {}
    timed: list[Contender] = []
    with progress("evaluate", len(contenders) * len(bench.questions) * config.seeds) as told:
        for contender, model in opened(contenders):
            clips, scores[contender.name], seconds = compete(
                contender,
                model,
                bench,
                config=config,
                folder=folder,
                on_clips=functools.partial(_tell, told, len(judged), contender.name),
            )
            judged += clips
            timed.append(dataclasses.replace(contender, seconds_per_clip=seconds))
    result = EvaluationResult(
        title=title,
        folder=folder,
        contenders=tuple(timed),
        clips=tuple(judged),
        rates=rates(judged, level=config.level),
        differences=differences(judged, pairs, level=config.level, resamples=config.resamples),
        reconstructions=tuple(reconstruct(models, bench, config)),
        measured_on=config.measure,
        level=config.level,
        looks=looks(scores, level=config.level, resamples=config.resamples),
        verdicts=verdicts(scores, pairs, timed),
    )
    write_results(result)
    write_report(result, shown=config.shown)
    return result


def _tell(told: OnProgress, before: int, name: str, done: int) -> None:
    told(before + done, {"model": name})


def lineup(
    models: Mapping[str, Path], *, same_steps: bool
) -> tuple[list[Contender], list[tuple[str, str]]]:
    """Return who is judged and which (student, teacher) pairs are compared.

    With `same_steps` the teacher also runs at each student's number of steps, which is what the
    student has to beat.
    """
    cards = {name: ModelFolder.open(path) for name, path in models.items()}
    contenders = {name: _contender(name, folder) for name, folder in cards.items()}
    teacher = next((c for c in contenders.values() if c.kind == "base"), None)
    if teacher is None:
        return list(contenders.values()), []
    hurried: dict[str, Contender] = {}
    pairs = []
    for student in contenders.values():
        if student.kind != "student":
            continue
        pairs.append((student.name, teacher.name))
        if same_steps and student.steps != teacher.steps:
            steps = "1 step" if student.steps == 1 else f"{student.steps} steps"
            name = f"{teacher.name} in {steps}"
            hurried[name] = dataclasses.replace(teacher, name=name, steps=student.steps)
            pairs.append((student.name, name))
    others = [contender for contender in contenders.values() if contender != teacher]
    return [teacher, *hurried.values(), *others], pairs


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


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["evaluate", *sys.argv[1:]]))
