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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from jobs import evaluate_autoencoder
from jobs.benchmark_bench import benchmark_bench
from jobs.bias import biases
from jobs.clip_scores import Scores
from jobs.evaluation_autoencoder_results import AutoencoderEvaluation
from jobs.evaluation_bench import Bench, Frames, Pool, file_bench, shapes_bench
from jobs.evaluation_ceiling import ceilings, video_of
from jobs.evaluation_config import EvaluationConfig
from jobs.evaluation_gap import gaps
from jobs.evaluation_lineup import Pairs, lineup, models_of, opened
from jobs.evaluation_measure import compete
from jobs.evaluation_records import Contender, JudgedClip
from jobs.evaluation_references import held_out_clips
from jobs.evaluation_results import EvaluationResult, as_metrics, write_results
from jobs.evaluation_statistics import differences, looks, means, rates, verdicts
from jobs.frechet import Cloud, Features, distance_of, open_features
from jobs.memorisation import memorisations, with_nearest
from jobs.null_control_results import null_controls
from jobs.progress import OnProgress, progress
from jobs.recipe import Recipe, needed
from jobs.report import show, write_report
from pipelines.model_folder import ModelFolder
from pipelines.pixels import to_video
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
    """Judge the recipe's model and its students, if there are any, and track what came of it."""
    models = models_of(recipe, config)
    bench, folder = bench_of(recipe, config), recipe.folder / "evaluation"
    runs = {name: ModelFolder.open(path).card.run_id for name, path in models.items()}
    tracker = open_tracker(recipe.tracking, recipe.folder)
    with tracker.start(
        "evaluation",
        name=f"{recipe.name} evaluate",
        params=as_tree(recipe) | ({"benchmark": dict(bench.about)} if bench.about else {}),
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
    if config.benchmark is not None:
        return benchmark_bench(recipe.world, config)
    return shapes_bench(recipe.world, config)


class _Spread(TypedDict):
    """How intervals are drawn."""

    level: float
    resamples: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Competition:
    """What came of all contenders' clips."""

    contenders: list[Contender]
    clips: list[JudgedClip]
    scores: dict[str, Scores]
    clouds: dict[str, Cloud]


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
        ConfigError: a folder is no model folder, or what was asked for cannot be measured.
    """
    contenders, pairs = lineup(models, same_steps=config.same_steps, at_steps=config.at_steps)
    features = open_features(config)
    if features is not None and not bench.references:
        raise ConfigError(
            "evaluate.feature_network needs unseen clips to compare with; give "
            "evaluate.reconstructions of at least 1, and with a prompt file source and pixels"
        )
    for part in ("clips", "sheets"):
        shutil.rmtree(folder / part, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    found = _compete(contenders, bench, config=config, folder=folder, features=features)
    truth, reconstructions = ceilings(models, bench, config)
    result = EvaluationResult(
        title=title,
        folder=folder,
        contenders=tuple(found.contenders),
        clips=tuple(found.clips),
        reconstructions=tuple(reconstructions),
        measured_on=config.measure,
        level=config.level,
        distances=_distances(found.clouds, bench, config),
        benchmark=bench.about,
    )
    result = _with_numbers(result, found.scores, pairs, config)
    result = _with_looks_inside(result, truth, bench, config)
    result = _with_copies(result, found.scores, bench.pools, config)
    write_results(result)
    write_report(result, shown=config.shown)
    return result


def _with_numbers(
    result: EvaluationResult, scores: Mapping[str, Scores], pairs: Pairs, config: EvaluationConfig
) -> EvaluationResult:
    """Count what is right, and compare students with teachers."""
    clips, spread = result.clips, _spread(config)
    return dataclasses.replace(
        result,
        rates=rates(clips, level=config.level),
        measures=means(clips, **spread),
        differences=differences(clips, pairs, **spread),
        looks=looks(scores, **spread),
        verdicts=verdicts(scores, pairs),
        gaps=gaps(clips, pairs, **spread),
    )


def _with_looks_inside(
    result: EvaluationResult, truth: Sequence[JudgedClip], bench: Bench, config: EvaluationConfig
) -> EvaluationResult:
    """Ask whether the numbers mean anything, and what is shown where nothing was asked."""
    spread = _spread(config)
    return dataclasses.replace(
        result,
        controls=null_controls([*truth, *result.clips], **spread),
        biases=biases(result.clips, bench.laws, **spread),
    )


def _spread(config: EvaluationConfig) -> _Spread:
    return {"level": config.level, "resamples": config.resamples}


def _compete(
    contenders: Sequence[Contender],
    bench: Bench,
    *,
    config: EvaluationConfig,
    folder: Path,
    features: Features | None,
) -> _Competition:
    found = _Competition(contenders=[], clips=[], scores={}, clouds={})
    with progress("evaluate", len(contenders) * len(bench.questions) * config.seeds) as told:
        for contender, model in opened(contenders):
            cloud = Cloud(features=features) if features else None
            clips, scores, seconds = compete(
                contender,
                model,
                bench,
                config=config,
                folder=folder,
                on_clips=functools.partial(_tell, told, len(found.clips), contender.name, cloud),
            )
            found.clips.extend(clips)
            found.scores[contender.name] = scores
            found.contenders.append(dataclasses.replace(contender, seconds_per_clip=seconds))
            if cloud is not None:
                found.clouds[contender.name] = cloud
    return found


def _tell(
    told: OnProgress,
    before: int,
    name: str,
    cloud: Cloud | None,
    done: int,
    frames: Sequence[Frames],
) -> None:
    told(before + done, {"model": name})
    if cloud is not None:
        cloud.add(to_video(torch.from_numpy(np.stack(frames))))


def _distances(
    clouds: Mapping[str, Cloud], bench: Bench, config: EvaluationConfig
) -> dict[str, dict[str, float]]:
    """Return each contender's Fréchet distance from the references."""
    found: dict[str, dict[str, float]] = {}
    reference: Cloud | None = None
    for name, cloud in clouds.items():
        if reference is None:
            reference = Cloud(features=cloud.features)
            for start in range(0, len(bench.references), config.batch_size):
                reference.add(video_of(bench.references[start : start + config.batch_size]))
        found[name] = dict([distance_of(cloud, reference)])
    return found


def _with_copies(
    result: EvaluationResult,
    scores: Mapping[str, Scores],
    pools: tuple[Pool, Pool] | None,
    config: EvaluationConfig,
) -> EvaluationResult:
    """Look for the training clip that each clip is most like, where training clips are known."""
    if pools is None:
        return result
    clips, threshold = with_nearest(result.clips, scores, pools)
    copies = memorisations(clips, threshold, pools, folder=result.folder, **_spread(config))
    return dataclasses.replace(result, clips=tuple(clips), copies=tuple(copies))


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["evaluate", *sys.argv[1:]]))
