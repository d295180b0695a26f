"""Open what a stage of a distillation needs on a rank: teacher, student, second network, watch."""

import copy
import dataclasses

import torch

from jobs.distill_game import TwoPlayerStep
from jobs.distill_players import GAMES
from jobs.distill_setting import Setting
from jobs.distill_stage import FORWARD_MODE, TWO_PLAYERS, StageConfig
from jobs.distill_trajectory import Average, TrajectoryStep
from jobs.distill_watch import Watch
from jobs.latents import LatentSource
from jobs.meter import measured_tflops
from jobs.recipe import Recipe, needed
from pipelines.model_folder import ModelCard, ModelFolder
from pipelines.request import settle
from video_models.layers.attention import Attention, attend_plainly
from video_models.transformer.family import AnyTransformer
from video_platform.cluster import WorkerContext
from video_platform.training.engine import Engine


def open_setting(
    stage: StageConfig,
    source: LatentSource,
    *,
    teacher: ModelFolder,
    start: ModelFolder,
    context: WorkerContext,
) -> Setting:
    """Open the teacher, frozen, what the student begins as, and all that a stage draws on."""
    frozen = teacher.transformer().to(context.device).requires_grad_(False)
    sampling = teacher.card.sampling
    return Setting(
        stage=stage,
        source=source,
        teacher=frozen,
        start=start.transformer(),
        scale=sampling.guidance if stage.guidance is None else stage.guidance,
        guiding=sampling.guiding,
        steps=sampling.steps,
        shift=default_shift(teacher.card, frozen, source),
        device=torch.device(context.device),
        dtype=torch.bfloat16 if stage.training.precision == "bf16" else torch.float32,
    )


def open_watch(setting: Setting, recipe: Recipe, context: WorkerContext) -> Watch:
    """Open what notes how the stage goes; measures the device where a recipe says so."""
    config = needed(recipe.distill, "distill", "distill").observe
    peak = config.peak_tflops
    return Watch(
        setting.teacher.config,
        setting.stage.training,
        config,
        world=context.world,
        peak_tflops=(
            measured_tflops(setting.device, setting.dtype) if peak == "measured" else peak
        ),
    )


def open_step(setting: Setting, watch: Watch) -> TrajectoryStep | TwoPlayerStep:
    """Open the networks of a stage under their engines.

    The second network begins as the teacher. Where two networks learn by turns, each engine counts
    its own updates.
    """
    stage, teacher, training = setting.stage, setting.teacher, setting.stage.training
    student = setting.start.to(setting.device).requires_grad_(True).train()
    if stage.method in FORWARD_MODE:
        differentiable(student)
    if stage.method not in TWO_PLAYERS:
        teacher.to(setting.dtype)
        return open_trajectory(student, setting, watch)
    second, game = GAMES[stage.method](setting)  # which begins as the teacher in fp32
    teacher.to(setting.dtype)
    own = max(1, training.steps // (stage.turns + 1))
    rest = dataclasses.replace(stage.second_training, steps=max(1, training.steps - own))
    return TwoPlayerStep(
        Engine(student, dataclasses.replace(training, steps=own)),
        Engine(second.to(setting.device), rest),
        setting,
        game,
        watch,
    )


def open_trajectory(student: AnyTransformer, setting: Setting, watch: Watch) -> TrajectoryStep:
    """Open a student alone, and the average of its weights where that gives the targets."""
    decay, training = setting.stage.target_decay, setting.stage.training
    if decay is None:
        return TrajectoryStep(Engine(student, training), setting, watch)
    target = copy.deepcopy(student).to(setting.dtype)  # before the engine changes what is called
    kept = tuple(dict.fromkeys((*training.more_ema_decays, decay)))
    engine = Engine(student, dataclasses.replace(training, more_ema_decays=kept))
    return TrajectoryStep(engine, setting, watch, Average(target, engine, f"ema-{decay:g}"))


def differentiable(network: torch.nn.Module) -> None:
    """Let all attention of a network compute by the formula, which knows forward mode."""
    for part in network.modules():
        if isinstance(part, Attention):
            part.function = attend_plainly


def default_shift(card: ModelCard, teacher: AnyTransformer, source: LatentSource) -> float:
    """Return the time shift that a teacher is sampled at unless told otherwise."""
    return settle({}, card, source.autoencoder.config, teacher.config).shift
