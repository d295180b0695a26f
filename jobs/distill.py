"""Distil a guided model into a student of a few unguided steps: `vdp distill RECIPE`.

First the student learns the guided velocity, so that one network call does the work of two; then it
halves its steps, stage by stage, or takes few by another method. Every stage is a run and a model
folder of its own, named by what went into it, so that a run that was stopped goes on where it was.

Reads `cache`, `autoencoder`, `text`, `pixels` and `distill`; writes the model folder at
`distill.out`, and what each stage drew below `<project>/distill/pictures`.

Legend: B clips, C latent channels, T H W latent frames, rows, columns.
"""

import dataclasses
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from jobs import curves, distill_samples
from jobs.distill_config import DistillSection
from jobs.distill_game import TwoPlayerStep
from jobs.distill_opening import open_setting, open_step, open_watch
from jobs.distill_samples import StudentSamples
from jobs.distill_setting import Setting
from jobs.distill_stage import StageConfig, lineage
from jobs.distill_trajectory import TrajectoryStep
from jobs.distill_watch import panels
from jobs.latent_order import Part
from jobs.latents import LatentSource
from jobs.launch import Payload, TrainingJob, launch, made_by, platform, reporter, scribe
from jobs.meter import memory
from jobs.recipe import Recipe, needed
from jobs.trained_model import averaged, model_tags, save_model
from pipelines.model_folder import ModelCard, ModelFolder
from video_models.diffusion.config import SamplingConfig
from video_models.image.features import vision_kind
from video_platform.cluster import WorkerContext
from video_platform.config import as_tree
from video_platform.errors import ConfigError
from video_platform.tracking import Run, Tracker
from video_platform.training import checkpoint
from video_platform.training.loop import Hook, train


def run(recipe: Recipe) -> None:
    """Distil the recipe's teacher, stage by stage, and write the student's folder."""
    section = needed(recipe.distill, "distill", "distill")
    needed(recipe.cache, "cache", "distill")
    models = [ModelFolder.open(section.teacher or recipe.model_folder)]
    check_text_only(models[0].card)
    stages = plan(section, models[0].card)
    with platform(recipe) as tracker:
        for stage, (teacher, start) in zip(stages, lineage(stages), strict=True):
            student = _distil(recipe, tracker, stage, teacher=models[teacher], start=models[start])
            models.append(student)
    _publish(models[-1].path, recipe.student_folder)


def check_text_only(teacher: ModelCard) -> None:
    """Refuse teachers that are given more than one text encoder's captions.

    Raises:
        ConfigError: it is given frames, or several texts.
    """
    if teacher.given is not None or teacher.more_texts:
        what = "frames" if teacher.given is not None else "several texts"
        raise ConfigError(
            f"the teacher {teacher.name!r} is given {what}; distill knows teachers of one text "
            "alone: name one in distill.teacher"
        )


def plan(section: DistillSection, teacher: ModelCard) -> list[StageConfig]:
    """Return the stages from a teacher to the last student.

    Raises:
        ConfigError: there is none, or they do not begin where the teacher stands.
    """
    stages = [*_named_stages(section, teacher), *section.stages]
    if not stages:
        raise ConfigError(
            "distill has no stage; give distill.guidance, distill.progressive or distill.stages"
        )
    _check_guidance(stages, teacher)
    for stage in stages:
        if stage.add is not None:
            _check_vision(stage.add.vision)
    return stages


def _check_guidance(stages: Sequence[StageConfig], teacher: ModelCard) -> None:
    """Refuse to guide a teacher that has its guidance baked in."""
    for stage, (taught_by, _) in zip(stages, lineage(stages), strict=True):
        baked = taught_by > 0 or teacher.guidance_baked
        if baked and stage.guidance not in (None, 1.0):
            raise ConfigError(
                f"stage {stage.name} asks for guidance {stage.guidance:g}, but its teacher has "
                "guidance baked in; leave guidance out, or take the guidance stage before it out"
            )


def _check_vision(folder: str) -> None:
    try:
        vision_kind(folder)
    except ValueError as error:
        raise ConfigError(f"add.vision: {error}") from None


def _named_stages(section: DistillSection, teacher: ModelCard) -> Iterator[StageConfig]:
    """Yield the stages that the section has names for."""
    if section.guidance is not None:
        if teacher.guidance_baked:
            raise ConfigError(
                f"the teacher {teacher.name!r} has its guidance baked in already; "
                "leave distill.guidance out"
            )
        yield StageConfig(method="guidance", training=section.guidance, timesteps=section.timesteps)
    if section.progressive is not None and section.steps:
        if 2 * section.steps[0] != teacher.sampling.steps:
            raise ConfigError(
                f"distill.steps begins with {section.steps[0]}, but the teacher takes "
                f"{teacher.sampling.steps} steps; begin with half of that"
            )
        for steps in section.steps:
            yield StageConfig(method="progressive", steps=steps, training=section.progressive)


def _distil(
    recipe: Recipe,
    tracker: Tracker,
    stage: StageConfig,
    *,
    teacher: ModelFolder,
    start: ModelFolder,
) -> ModelFolder:
    """Run one stage, unless its student is there.

    Args:
        recipe: what it belongs to.
        tracker: where its run is recorded.
        stage: what is to be done.
        teacher: what the student learns from.
        start: what it begins as.
    """
    inputs: dict[str, Any] = {"teacher": teacher.identity, "stage": as_tree(stage)}
    if start.identity != teacher.identity:
        inputs["start"] = start.identity
    identity = checkpoint.fingerprint(inputs)[:12]
    folder = recipe.folder / "distill" / f"{stage.name}-{identity}"
    if not folder.exists():
        source = LatentSource(recipe)
        parents = made_by(tracker, **source.snapshots) | _parents(teacher, start)
        extra = {
            "stage": stage,
            "teacher": teacher.path,
            "start": start.path,
            "folder": folder,
            "vision": Path(stage.add.vision) if stage.add else None,
        }
        job = TrainingJob(
            kind="student",
            title=f"distill {stage.name}",
            steps=stage.training.steps,
            worker=train_on_rank,
            parents=parents,
            extra=extra,
        )
        told = launch(source.pinned(recipe), tracker, job)
        _write_pictures(recipe.folder / "distill" / "pictures" / folder.name, told["pictures"])
        shutil.rmtree(_checkpoints(folder), ignore_errors=True)
    return ModelFolder.open(folder)


def _parents(teacher: ModelFolder, start: ModelFolder) -> dict[str, str]:
    """Return the runs of the models that a student is made from, by role."""
    models = {"teacher": teacher} | ({} if start.path == teacher.path else {"start": start})
    return {n: m.card.run_id for n, m in models.items() if m.card.run_id is not None}


def _write_pictures(folder: Path, pictures: Mapping[str, bytes]) -> None:
    """Write what a stage drew."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        (folder / name).write_bytes(picture)


def _checkpoints(folder: Path) -> Path:
    """Return where a stage keeps its checkpoints until its student is written."""
    return folder.with_name(f"{folder.name}.checkpoints")


def _publish(stage: Path, out: Path) -> None:
    """Copy the last stage's folder to where the recipe wants the student."""
    folder = ModelFolder.open(stage)
    ModelFolder.save(
        out, folder.card, autoencoder=folder.autoencoder(), transformer=folder.transformer()
    )


def train_on_rank(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    """Train one stage on one rank; rank 0 writes the student's folder."""
    recipe, extra = payload.recipe, payload.extra
    stage: StageConfig = extra["stage"]
    source, opened = LatentSource(recipe), ModelFolder.open(extra["teacher"])
    setting = open_setting(
        stage, source, teacher=opened, start=ModelFolder.open(extra["start"]), context=context
    )
    setting.vision = extra["vision"]
    torch.manual_seed(stage.training.seed)
    step = open_step(setting, open_watch(setting, recipe, context))
    cards = opened.card, student_card(opened.card, setting, payload)
    with scribe(payload, context) as run:
        outcome = train(
            step,
            source.loader(_trained(source, recipe), stage.training, context),
            stage.training,
            checkpoints=_open_checkpoints(extra["folder"], stage),
            hooks=_open_hooks(step, setting, cards, payload=payload, run=run, context=context),
            report=step.watch.reporting(reporter(run, context)),
            should_stop=context.should_stop,
            attempt=context.attempt,
        )
        student = averaged(step.engines["student"], setting.teacher.config, context)
        if student is None or run is None or not outcome.finished:
            return {"finished": outcome.finished}
        pictures = curves.pictures(step.watch.history, panels)
        pictures |= distill_samples.pictures(step.watch.history, sample_prompts(recipe))
        for name, picture in pictures.items():
            run.image(picture, name)
        folder = save_model(extra["folder"], cards[1], source=source, transformer=student)
    return {"finished": True, "tags": model_tags(folder), "pictures": pictures}


def _trained(source: LatentSource, recipe: Recipe) -> list[Part]:
    """Return the clips to learn from: those that `pretrain` learned from."""
    section = recipe.pretrain
    share, seed = (section.held_out, section.training.seed) if section else (0.0, 0)
    return source.split(share, seed=seed)[1]


def _open_checkpoints(folder: Path, stage: StageConfig) -> checkpoint.Checkpoints:
    return checkpoint.Checkpoints(
        _checkpoints(folder),
        run_fingerprint=checkpoint.fingerprint({"stage": as_tree(stage)}),
        keep=stage.training.keep_checkpoints,
        keep_every=stage.training.keep_every,
    )


def _open_hooks(
    step: TrajectoryStep | TwoPlayerStep,
    setting: Setting,
    cards: tuple[ModelCard, ModelCard],
    *,
    payload: Payload,
    run: Run | None,
    context: WorkerContext,
) -> list[Hook]:
    """Open what is done between steps: memory, and samples, at the end at least."""
    config = setting.stage.training
    samples = StudentSamples(
        step.engines["student"],
        setting,
        cards,
        prompts=sample_prompts(payload.recipe),
        history=step.watch.history,
        run=run,
        alive=context.attempt.alive,
    )
    return [
        Hook(every=config.log_every, run=lambda done: memory(setting.device)),
        Hook(every=config.sample_every or config.steps, run=samples),
    ]


def sample_prompts(recipe: Recipe) -> tuple[str, ...]:
    """Return what is sampled while a student is made: as said, or as in `pretrain`."""
    section = needed(recipe.distill, "distill", "distill")
    if section.sample_prompts is not None:
        return section.sample_prompts
    return recipe.pretrain.sample_prompts if recipe.pretrain else ()


def student_card(teacher: ModelCard, setting: Setting, payload: Payload) -> ModelCard:
    """Describe the student of a stage: it is sampled without guidance, in the stage's steps."""
    stage = setting.stage
    return dataclasses.replace(
        teacher,
        name=f"{payload.recipe.name} {stage.name}",
        kind="student",
        guidance_baked=True,
        sampling=SamplingConfig(
            sampler=stage.sampler,
            steps=stage.steps or setting.steps,
            guidance=1.0,
            shift=setting.shift,
        ),
        fingerprints={},
        run_id=payload.run_id,
        parents=payload.parents,
    )


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["distill", *sys.argv[1:]]))
