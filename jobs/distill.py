"""Distil a guided model into a student of a few unguided steps: `vdp distill RECIPE`.

First the student learns the guided velocity, so that one network call does the work of two; then it
halves its steps, stage by stage. Every stage is a run and a model folder of its own, named by what
went into it, so that a run that was stopped goes on where it was.

Reads `cache`, `autoencoder`, `text`, `pixels` and `distill`; writes the model folder at
`distill.out`.

Legend: B clips, C latent channels, T H W latent frames, rows, columns.
"""

import copy
import dataclasses
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jobs.denoising import draw_noise
from jobs.distill_config import DistillSection
from jobs.latents import LatentBatch, LatentSource
from jobs.launch import Payload, TrainingJob, launch, made_by, platform, reporter, scribe
from jobs.recipe import Recipe, needed
from jobs.trained_model import averaged, model_tags, save_model
from pipelines.model_folder import ModelCard, ModelFolder
from pipelines.request import settle
from video_models.diffusion.config import SamplingConfig
from video_models.diffusion.guidance import VelocityFunction, conditioned, guided
from video_models.diffusion.paths import add_noise
from video_models.diffusion.timesteps import draw_times, sampling_grid, shift_times
from video_models.distillation.guidance import guidance_loss, guided_states
from video_models.distillation.progressive import halving_loss, student_interval
from video_models.objectives.denoising import squared_error
from video_models.text.batch import TextBatch
from video_models.transformer.model import VideoTransformer
from video_platform.batches.loader import MicroBatch
from video_platform.cluster import WorkerContext
from video_platform.config import as_tree
from video_platform.errors import ConfigError
from video_platform.tracking import Tracker
from video_platform.training import checkpoint
from video_platform.training.config import TrainingConfig
from video_platform.training.draws import generator
from video_platform.training.engine import Engine
from video_platform.training.loop import At, Scalars, Stateless, train

TRAJECTORY_STEPS = 8
"""Steps of a guided trajectory whose states the guidance stage learns from."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One student: how many steps it takes, and how it is trained."""

    method: str
    """`guidance` or `progressive`."""
    steps: int
    """Steps that the student takes from noise to clip."""
    training: TrainingConfig
    """How it is trained."""

    @property
    def name(self) -> str:
        """What the stage is called."""
        return self.method if self.method == "guidance" else f"{self.method}-{self.steps}"


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


def plan(section: DistillSection, teacher: ModelCard) -> list[Stage]:
    """Return the stages from a teacher to the last student.

    Raises:
        ConfigError: there is none, or they do not begin where the teacher stands.
    """
    stages = []
    if section.guidance is not None:
        if teacher.guidance_baked:
            raise ConfigError(
                f"the teacher {teacher.name!r} has its guidance baked in already; "
                "leave distill.guidance out"
            )
        stages.append(
            Stage(method="guidance", steps=teacher.sampling.steps, training=section.guidance)
        )
    if section.progressive is not None and section.steps:
        if 2 * section.steps[0] != teacher.sampling.steps:
            raise ConfigError(
                f"distill.steps begins with {section.steps[0]}, but the teacher takes "
                f"{teacher.sampling.steps} steps; begin with half of that"
            )
        stages += [
            Stage(method="progressive", steps=steps, training=section.progressive)
            for steps in section.steps
        ]
    if not stages:
        raise ConfigError("distill has no stage; give distill.guidance or distill.progressive")
    return stages


def _distil(recipe: Recipe, tracker: Tracker, stage: Stage, teacher: ModelFolder) -> ModelFolder:
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


@dataclasses.dataclass
class DistillationStep(Stateless):
    """One update of a student that imitates a frozen teacher."""

    engine: Engine
    source: LatentSource
    stage: Stage
    teacher: VideoTransformer
    scale: float
    section: DistillSection
    shift: float

    @property
    def engines(self) -> Mapping[str, Engine]:
        """The one trained network."""
        return {"student": self.engine}

    def update(self, micro_batches: Sequence[MicroBatch[LatentBatch]], at: At) -> dict[str, Tensor]:
        """Imitate the teacher on each micro-batch and update once."""
        scalars = Scalars()
        methods = {"guidance": self._guidance, "progressive": self._progressive}
        for batch in micro_batches:
            loss = methods[self.stage.method](batch, at).mean()
            self.engine.backward(loss, share=batch.share)
            scalars.add({"loss": loss}, share=batch.share)
        self.engine.step()
        return scalars.totals

    def _guidance(self, batch: MicroBatch[LatentBatch], at: At) -> Tensor:
        """Learn the guided velocity, by turns on noised data and on guided trajectories."""
        text = self._text(batch)
        if at.step % 2:
            return self._on_trajectories(batch, at, text)
        grid = self.teacher.token_grid(batch.data.mean)
        config, key = self.section.timesteps, (at.seed, "time")
        draws = [
            draw_times(1, config, generator=generator(*key, position), grid=grid)
            for position in batch.positions
        ]
        t = torch.cat(draws).to(self.engine.device)
        student = conditioned(self.engine.module, text)
        return guidance_loss(student, self._teacher(text), self._noised(batch, at, t), t)

    def _on_trajectories(self, batch: MicroBatch[LatentBatch], at: At, text: TextBatch) -> Tensor:
        """Learn at the states of guided trajectories: few clips, each at several times."""
        steps = min(TRAJECTORY_STEPS, len(text))
        clips = len(text) // steps
        noise = draw_noise(batch, at.seed)[:clips].to(self.engine.device, self.engine.dtype)
        grid = sampling_grid(steps)
        inner = torch.rand(steps - 1, generator=generator(at.seed, "grid", at.step)).double() - 0.5
        grid[1:-1] += inner / steps
        grid = shift_times(grid, self.shift)
        states, times, velocities = guided_states(self._teacher(text[:clips]), noise, grid)
        rows = torch.arange(clips, device=self.engine.device).repeat(steps)
        student = conditioned(self.engine.module, text[rows])
        return squared_error(
            student(states.flatten(0, 1), times.flatten()), velocities.flatten(0, 1)
        )

    def _progressive(self, batch: MicroBatch[LatentBatch], at: At) -> Tensor:
        """Learn two steps of the teacher in one, from noised data."""
        draws = [
            torch.randint(self.stage.steps, (1,), generator=generator(at.seed, "time", position))
            for position in batch.positions
        ]
        index = torch.cat(draws).to(self.engine.device)
        interval = student_interval(index, self.stage.steps, shift=self.shift)
        text = self._text(batch)
        z = self._noised(batch, at, interval.start.float())
        return halving_loss(conditioned(self.engine.module, text), self._teacher(text), z, interval)

    def _noised(self, batch: MicroBatch[LatentBatch], at: At, t: Tensor) -> Tensor:
        x0 = self.source.latents(batch, at.seed).to(self.engine.device)
        noise = draw_noise(batch, at.seed).to(self.engine.device)
        return add_noise(x0, noise, t).to(self.engine.dtype)

    def _text(self, batch: MicroBatch[LatentBatch]) -> TextBatch:
        return batch.data.text.to(self.engine.device, self.engine.dtype)

    def _teacher(self, text: TextBatch) -> VelocityFunction:
        empty = self.source.empty_text.to(self.engine.device, self.engine.dtype)
        return guided(self.teacher, text, empty, self.scale)


def train_on_rank(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    """Train one stage on one rank; rank 0 writes the student's folder."""
    recipe, extra = payload.recipe, payload.extra
    section = needed(recipe.distill, "distill", "distill")
    stage: Stage = extra["stage"]
    source = LatentSource(recipe)
    opened = ModelFolder.open(extra["teacher"])
    teacher = opened.transformer().to(context.device).requires_grad_(False)
    torch.manual_seed(stage.training.seed)
    engine = Engine(copy.deepcopy(teacher).requires_grad_(True).train(), stage.training)
    step = DistillationStep(
        engine=engine,
        source=source,
        stage=stage,
        teacher=teacher.to(engine.dtype),
        scale=opened.card.sampling.guidance,
        section=section,
        shift=default_shift(opened.card, teacher, source),
    )
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
        student = averaged(engine, teacher.config, context)
        if student is None or not outcome.finished:
            return {"finished": outcome.finished}
        card = student_card(opened.card, stage, payload, shift=step.shift)
        folder = save_model(extra["folder"], card, source=source, transformer=student)
    return {"finished": True, "tags": model_tags(folder)}


def default_shift(card: ModelCard, teacher: VideoTransformer, source: LatentSource) -> float:
    """Return the time shift that a teacher is sampled at unless told otherwise."""
    return settle({}, card, source.autoencoder.config, teacher.config).shift


def student_card(teacher: ModelCard, stage: Stage, payload: Payload, *, shift: float) -> ModelCard:
    """Describe the student of a stage: it is sampled without guidance, in the stage's steps."""
    return dataclasses.replace(
        teacher,
        name=f"{payload.recipe.name} {stage.name}",
        kind="student",
        guidance_baked=True,
        sampling=SamplingConfig(sampler="euler", steps=stage.steps, guidance=1.0, shift=shift),
        fingerprints={},
        run_id=payload.run_id,
        parents=payload.parents,
    )


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["distill", *sys.argv[1:]]))
