"""Train a text-to-video transformer from the latent cache by flow matching: `vdp pretrain RECIPE`.

Reads `cache`, `autoencoder`, `text`, `pixels`, `model` and `pretrain`; writes the model folder at
`model.out`, and pictures of how it went in `<project>/pretrain`. An existing model is fine-tuned,
whole or in parts:

    vdp pretrain RECIPE pretrain.start_from=MODEL model.preset=null
    vdp pretrain RECIPE pretrain.start_from=MODEL model.preset=null pretrain.train='{rank: 16}'
"""

import sys
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from jobs import curves, samples
from jobs.denoising import DenoisingStep
from jobs.fine_tuning import base_of, base_run, begun, finished
from jobs.given import check_image_encoders
from jobs.history import History
from jobs.latent_order import Part
from jobs.latents import LatentSource
from jobs.launch import Payload, TrainingJob, launch, made_by, platform, reporter, scribe
from jobs.meter import Meter, measured_tflops, memory
from jobs.pretrain_config import PretrainSection
from jobs.recipe import Recipe, needed, transformer_size
from jobs.samples import Samples, Subjects
from jobs.trace import Traced
from jobs.trained_model import model_card, model_tags, save_model
from jobs.validation import Validation
from pipelines.model_folder import ModelFolder
from video_models.formats import save_lora
from video_models.transformer.joint_config import AnyTransformerConfig
from video_models.transformer.lora import lora_layers, merged
from video_platform.cluster import WorkerContext
from video_platform.config import as_tree
from video_platform.tracking import Run
from video_platform.training import checkpoint
from video_platform.training.engine import Engine
from video_platform.training.loop import Hook, Report, train
from video_platform.training.sequence_parallel import open_sequence


def run(recipe: Recipe) -> None:
    """Train the recipe's model and write its folder."""
    section = needed(recipe.pretrain, "pretrain", "pretrain")
    needed(recipe.cache, "cache", "pretrain")
    needed(recipe.pixels, "pixels", "pretrain")
    base = base_of(section)
    if base is None:
        transformer_size(recipe.model)
    with platform(recipe) as tracker:
        source = LatentSource(recipe)
        check_image_encoders(recipe, source.image_identities)
        parents = made_by(tracker, **source.snapshots, autoencoder=source.autoencoder_fingerprint)
        if base is not None:
            parents["base"] = base_run(tracker, base)
        job = TrainingJob(
            kind="transformer",
            title="pretrain",
            steps=section.training.steps,
            worker=train_on_rank,
            parents=parents,
            extra={"base": base.fingerprint if base else None},
        )
        told = launch(source.pinned(recipe), tracker, job)
    for name, picture in told["pictures"].items():
        (recipe.folder / "pretrain").mkdir(parents=True, exist_ok=True)
        (recipe.folder / "pretrain" / name).write_bytes(picture)


def train_on_rank(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    """Train on one rank; rank 0 writes the model folder."""
    recipe = payload.recipe
    section = needed(recipe.pretrain, "pretrain", "pretrain")
    config = section.training
    source = LatentSource(recipe)
    torch.manual_seed(config.seed)
    network = begun(recipe, source)
    engine = Engine(network.to(context.device), config)
    if config.sequence_parallel > 1:
        network.placement = open_sequence(config.sequence_parallel)
    held_out, trained = source.split(section.held_out, seed=config.seed)
    meter = open_meter(engine, network.config, section, source, context)
    history = History()
    step = DenoisingStep(
        engine=engine, source=source, section=section, meter=meter, history=history
    )
    with scribe(payload, context) as run:
        work = meter.work_of(text_tokens=source.empty_text.lengths)
        sampled = open_samples(step, held_out, payload=payload, run=run, context=context)
        outcome = train(
            Traced(step, section.observe.trace, run),
            source.loader(trained, config, context, work=work, packs=True),
            config,
            checkpoints=open_checkpoints(payload, network.config),
            hooks=open_hooks(step, held_out, sampled, context),
            report=observed(reporter(run, context), meter, history),
            should_stop=context.should_stop,
            attempt=context.attempt,
        )
        weights = engine.gather("ema", keep=context.rank == 0)
        if run is None or not outcome.finished:
            return {"finished": outcome.finished}
        pictures = samples.pictures(history, sampled.labels) | curves.pictures(history)
        for name, picture in pictures.items():
            run.image(picture, name)
    folder = write_model(payload, source, weights)
    return {"finished": True, "tags": model_tags(folder), "pictures": pictures}


def open_hooks(
    step: DenoisingStep, held_out: Sequence[Part], sampled: Samples, context: WorkerContext
) -> list[Hook]:
    """Open what is done between steps: memory, held-out loss, samples."""
    config = step.section.training
    validation = Validation(
        step.engine,
        step.source,
        held_out,
        most=step.section.observe.validation_clips,
        guidance=step.section.guidance,
        alive=context.attempt.alive,
    )
    return [
        Hook(every=config.log_every, run=lambda done: memory(step.engine.device)),
        Hook(every=config.validate_every, run=validation),
        Hook(every=config.sample_every, run=sampled),
    ]


def open_samples(
    step: DenoisingStep,
    held_out: Sequence[Part],
    *,
    payload: Payload,
    run: Run | None,
    context: WorkerContext,
) -> Samples:
    """Open what samples prompts and held-out clips."""
    section, source = step.section, step.source
    return Samples(
        step.engine,
        source,
        model_card(payload, source),
        subjects=Subjects(
            prompts=section.sample_prompts,
            clips=[*chain(*source.fixed_clips(held_out, most=section.sample_clips))],
        ),
        history=step.history,
        run=run,
        alive=context.attempt.alive,
    )


def open_meter(
    engine: Engine,
    size: AnyTransformerConfig,
    section: PretrainSection,
    source: LatentSource,
    context: WorkerContext,
) -> Meter:
    """Open the meter of a run; measures the device where a recipe says so."""
    peak = section.observe.peak_tflops
    images, given = source.image_tokens, section.given
    return Meter(
        size,
        world=context.world,
        frozen=section.train != "all",
        image_tokens=images[0] if images else 0,
        time_per_token=given is not None and not given.beside,
        peak_tflops=measured_tflops(engine.device, engine.dtype) if peak == "measured" else peak,
    )


def open_checkpoints(payload: Payload, size: AnyTransformerConfig) -> checkpoint.Checkpoints:
    """Open the run's checkpoints, which only a run of the same network goes on from."""
    recipe = payload.recipe
    section = needed(recipe.pretrain, "pretrain", "pretrain")
    identity: dict[str, Any] = {"size": as_tree(size)}
    if payload.extra["base"] is not None:
        identity |= {"base": payload.extra["base"], "train": as_tree(section)["train"]}
    return checkpoint.Checkpoints(
        recipe.checkpoints_url("pretrain"),
        run_fingerprint=checkpoint.fingerprint(identity),
        keep=section.training.keep_checkpoints,
        keep_every=section.training.keep_every,
    )


def export(recipe: Recipe, *, kind: str, step: int | None) -> int:
    """Write the model folder as it would be if the run ended at a checkpoint.

    Args:
        recipe: its `model.out` is written.
        kind: which weights; see `Checkpoints.weights`.
        step: of which checkpoint; None for the newest.

    Returns:
        The step.
    """
    source, base = LatentSource(recipe), base_of(needed(recipe.pretrain, "pretrain", "export"))
    payload = Payload(
        recipe=recipe,
        run_id=None,
        parents={},
        extra={"base": base.fingerprint if base else None},
        worker=train_on_rank,
        folders={},
    )
    store = open_checkpoints(payload, begun(recipe, source).config)
    step, weights = store.weights("transformer", kind, step=step)
    write_model(payload, source, weights)
    return step


def observed(report: Report, meter: Meter, history: History) -> Report:
    """Report rates as well, and remember what makes curves."""

    def told(step: int, scalars: Mapping[str, float]) -> None:
        history.note(step, scalars)
        shown = {name: value for name, value in scalars.items() if not name.startswith("batch/")}
        report(step, shown | meter.rates(scalars))

    return told


def write_model(
    payload: Payload, source: LatentSource, weights: Mapping[str, Tensor]
) -> ModelFolder:
    """Write the model folder; adapters stand in it for themselves, and merged."""
    recipe = payload.recipe
    network = finished(recipe, source, weights)
    with merged(network):
        card = model_card(payload, source)
        folder = save_model(recipe.model_folder, card, source=source, transformer=network)
    if any(lora_layers(network)):
        save_lora(network, folder.path / "lora")
    return folder


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["pretrain", *sys.argv[1:]]))
