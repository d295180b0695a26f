"""Distil a guided model into a student of a few unguided steps: `vdp distill RECIPE`.

First the student learns the guided velocity, so that one network call does the work of two; then it
halves its steps, stage by stage, or takes few by another method. Every stage is a run and a model
folder of its own, named by what went into it, so that a run that was stopped goes on where it was.

Reads `cache`, `autoencoder`, `text`, `pixels` and `distill`; writes the model folder at
`distill.out`.

Legend: B clips, C latent channels, T H W latent frames, rows, columns.
"""

import copy
import dataclasses
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from jobs.distill_config import DistillSection
from jobs.distill_players import TwoPlayerStep, open_second
from jobs.distill_setting import Setting
from jobs.distill_stage import FORWARD_MODE, SAMPLERS, TWO_PLAYERS, StageConfig
from jobs.distill_trajectory import TrajectoryStep
from jobs.latents import LatentSource
from jobs.launch import Payload, TrainingJob, launch, made_by, platform, reporter, scribe
from jobs.recipe import Recipe, needed
from jobs.trained_model import averaged, model_tags, save_model
from pipelines.model_folder import ModelCard, ModelFolder
from pipelines.request import settle
from video_models.diffusion.config import SamplingConfig
from video_models.layers.attention import Attention, attend_plainly
from video_models.transformer.family import AnyTransformer
from video_platform.cluster import WorkerContext
from video_platform.config import as_tree
from video_platform.errors import ConfigError
from video_platform.tracking import Tracker
from video_platform.training import checkpoint
from video_platform.training.engine import Engine
from video_platform.training.loop import train


def run(recipe: Recipe) -> None:
    """Distil the recipe's teacher, stage by stage, and write the student's folder."""
    section = needed(recipe.distill, "distill", "distill")
    needed(recipe.cache, "cache", "distill")
    teacher = ModelFolder.open(section.teacher or recipe.model_folder)
    stages = plan(section, teacher.card)
    with platform(recipe) as tracker:
        for stage in stages:
            teacher = _distil(recipe, tracker, stage, teacher)
    _publish(teacher.path, recipe.student_folder)


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
    return stages


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
    recipe: Recipe, tracker: Tracker, stage: StageConfig, teacher: ModelFolder
) -> ModelFolder:
    """Run one stage, unless its student is there."""
    inputs = {"teacher": teacher.identity, "stage": as_tree(stage)}
    identity = checkpoint.fingerprint(inputs)[:12]
    folder = recipe.folder / "distill" / f"{stage.name}-{identity}"
    if not folder.exists():
        source = LatentSource(recipe)
        parents = made_by(tracker, **source.snapshots)
        if teacher.card.run_id is not None:
            parents["teacher"] = teacher.card.run_id
        job = TrainingJob(
            kind="student",
            title=f"distill {stage.name}",
            steps=stage.training.steps,
            worker=train_on_rank,
            parents=parents,
            extra={"stage": stage, "teacher": teacher.path, "folder": folder},
        )
        launch(source.pinned(recipe), tracker, job)
        shutil.rmtree(_checkpoints(folder), ignore_errors=True)
    return ModelFolder.open(folder)


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
    setting = open_setting(stage, source, opened, context)
    torch.manual_seed(stage.training.seed)
    step = open_step(setting)
    held_out = recipe.pretrain.held_out if recipe.pretrain else 0.0
    _, trained = source.split(
        held_out, seed=recipe.pretrain.training.seed if recipe.pretrain else 0
    )
    with scribe(payload, context) as run:
        outcome = train(
            step,
            source.loader(trained, stage.training, context),
            stage.training,
            checkpoints=checkpoint.Checkpoints(
                _checkpoints(extra["folder"]),
                run_fingerprint=checkpoint.fingerprint({"stage": as_tree(stage)}),
                keep=stage.training.keep_checkpoints,
            ),
            report=reporter(run, context),
            should_stop=context.should_stop,
            attempt=context.attempt,
        )
        student = averaged(step.engines["student"], setting.teacher.config, context)
        if student is None or not outcome.finished:
            return {"finished": outcome.finished}
        card = student_card(opened.card, setting, payload)
        folder = save_model(extra["folder"], card, source=source, transformer=student)
    return {"finished": True, "tags": model_tags(folder)}


def open_setting(
    stage: StageConfig, source: LatentSource, opened: ModelFolder, context: WorkerContext
) -> Setting:
    """Open the teacher, frozen, and all that a stage draws on."""
    teacher = opened.transformer().to(context.device).requires_grad_(False)
    return Setting(
        stage=stage,
        source=source,
        teacher=teacher,
        scale=opened.card.sampling.guidance,
        steps=opened.card.sampling.steps,
        shift=default_shift(opened.card, teacher, source),
        device=torch.device(context.device),
        dtype=torch.bfloat16 if stage.training.precision == "bf16" else torch.float32,
    )


def open_step(setting: Setting) -> TrajectoryStep | TwoPlayerStep:
    """Open the networks of a stage under their engines; all begin as the teacher.

    Where two networks learn by turns, each engine counts its own updates.
    """
    stage, teacher = setting.stage, setting.teacher
    student, training = copy.deepcopy(teacher).requires_grad_(True).train(), stage.training
    second = open_second(setting) if stage.method in TWO_PLAYERS else None
    if stage.method in FORWARD_MODE:
        differentiable(student)
    teacher.to(setting.dtype)
    if second is None:
        return TrajectoryStep(Engine(student, training), setting)
    own = max(1, training.steps // (stage.turns + 1))
    rest = dataclasses.replace(stage.second_training, steps=max(1, training.steps - own))
    return TwoPlayerStep(
        Engine(student, dataclasses.replace(training, steps=own)),
        Engine(second.to(setting.device), rest),
        setting,
    )


def differentiable(network: torch.nn.Module) -> None:
    """Let all attention of a network compute by the formula, which knows forward mode."""
    for part in network.modules():
        if isinstance(part, Attention):
            part.function = attend_plainly


def default_shift(card: ModelCard, teacher: AnyTransformer, source: LatentSource) -> float:
    """Return the time shift that a teacher is sampled at unless told otherwise."""
    return settle({}, card, source.autoencoder.config, teacher.config).shift


def student_card(teacher: ModelCard, setting: Setting, payload: Payload) -> ModelCard:
    """Describe the student of a stage: it is sampled without guidance, in the stage's steps."""
    stage = setting.stage
    return dataclasses.replace(
        teacher,
        name=f"{payload.recipe.name} {stage.name}",
        kind="student",
        guidance_baked=True,
        sampling=SamplingConfig(
            sampler=SAMPLERS[stage.method],
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
