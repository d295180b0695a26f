"""Train a 3D causal autoencoder on videos: `vdp train-autoencoder RECIPE`.

Reads `source`, `pixels` and `autoencoder`; writes the autoencoder's folder at `autoencoder.path`.
Stages that differ in size or loss are runs of their own, each starting from the last one's folder:

    vdp train-autoencoder RECIPE autoencoder.path=IMAGES autoencoder.config.kernel_frames=1 \
        autoencoder.image_stage=1.0
    vdp train-autoencoder RECIPE autoencoder.start_from=IMAGES autoencoder.image_share=0.25
"""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jobs.adversary import open_adversary
from jobs.autoencoder_config import AutoencoderSection
from jobs.autoencoder_step import ReconstructionStep
from jobs.autoencoder_validation import Validation, stack
from jobs.launch import (
    Payload,
    TrainingJob,
    launch,
    platform,
    reporter,
    scribe,
    source_of,
    source_run,
)
from jobs.recipe import Recipe, needed, sized
from pipelines.pixels import to_video
from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.model import Autoencoder
from video_models.autoencoder.posterior import Posterior
from video_models.autoencoder.quantiser_config import TokenAutoencoderConfig
from video_models.autoencoder.statistics import latent_statistics
from video_models.autoencoder.tokens import TokenAutoencoder
from video_models.autoencoder.warm_start import (
    DECODING,
    AnyAutoencoder,
    backbone,
    freeze_all_but_decoder,
    start_from,
)
from video_models.formats import ModelFormatError, fingerprint, open_autoencoder, save_autoencoder
from video_models.formats.lpips import open_lpips
from video_models.objectives.config import ReconstructionConfig
from video_models.objectives.lpips import SMALLEST, Lpips
from video_models.presets import AUTOENCODERS
from video_platform.batches.loader import Loader, Place
from video_platform.batches.order import Bucket, Order
from video_platform.cluster import WorkerContext
from video_platform.config import as_tree
from video_platform.datasets.clips import DecodedClips
from video_platform.datasets.source import source_fingerprint
from video_platform.errors import ConfigError
from video_platform.training import checkpoint
from video_platform.training.draws import generator
from video_platform.training.engine import Engine
from video_platform.training.loop import Hook, train

HELD_OUT_CLIPS = 32
"""Most clips that are kept for measuring, never trained on; at most a tenth of the source."""
STATISTICS_CLIPS = 256
"""Most clips over which mean and deviation of the latents are taken."""


def run(recipe: Recipe) -> None:
    """Train the recipe's autoencoder and write its folder."""
    section = recipe.autoencoder
    config = needed(section.training, "autoencoder.training", "train-autoencoder")
    check_fit(recipe)
    records = source_of(recipe, "train-autoencoder")
    with platform(recipe) as tracker:
        parents = {"source": source_run(tracker, recipe, records)}
        job = TrainingJob(
            kind="autoencoder",
            title="train-autoencoder",
            steps=config.steps,
            worker=train_on_rank,
            parents=parents,
        )
        launch(recipe, tracker, job)


def check_fit(recipe: Recipe) -> None:
    """Check that clips fit the networks.

    Raises:
        ConfigError: their size does not fit a network, or something is missing.
    """
    pixels = needed(recipe.pixels, "pixels", "train-autoencoder")
    section = recipe.autoencoder
    size: AutoencoderConfig = sized(section, "config", AUTOENCODERS, "autoencoder")
    try:
        size.latent_shape(pixels.frames, pixels.height, pixels.width)
    except ValueError as error:
        raise ConfigError(f"pixels: {error}") from None
    side = min(pixels.height, pixels.width)
    if section.loss.lpips and side < SMALLEST:
        raise ConfigError(
            f"pixels: frames of {pixels.height} x {pixels.width} are too small for LPIPS, which "
            f"needs {SMALLEST}; set autoencoder.loss.lpips to 0"
        )
    if section.adversarial is not None:
        discriminator = section.adversarial.discriminator
        if side < discriminator.smallest_side:
            raise ConfigError(
                f"pixels: frames of {pixels.height} x {pixels.width} are too small for a "
                f"discriminator of {discriminator.num_layers} layers, which needs "
                f"{discriminator.smallest_side}; lower autoencoder.adversarial.discriminator."
                "num_layers"
            )


def build(section: AutoencoderSection) -> AnyAutoencoder:
    """Build the autoencoder as training finds it: started, and frozen where it is not trained.

    Raises:
        ConfigError: what it should start from is no autoencoder, or does not fit.
    """
    size: AutoencoderConfig = sized(section, "config", AUTOENCODERS, "autoencoder")
    model: AnyAutoencoder
    if section.quantiser is None:
        model = Autoencoder(size)
    else:
        config = TokenAutoencoderConfig(backbone=size, quantiser=section.quantiser)
        model = TokenAutoencoder(config)
    if section.start_from is not None:
        try:
            start_from(model, open_autoencoder(section.start_from))
        except ValueError as error:
            raise ConfigError(f"autoencoder.start_from = {section.start_from!r}: {error}") from None
    if section.train == "decoder":
        freeze_all_but_decoder(model)
    return model


def open_perceptual(config: ReconstructionConfig) -> Lpips | None:
    """Open the perceptual network, if the loss has a weight for it.

    Raises:
        ConfigError: the files are not its weights.
    """
    if not config.lpips:
        return None
    try:
        return open_lpips(config.lpips_weights)
    except ModelFormatError as error:
        raise ConfigError(f"autoencoder.loss: {error}") from None


def open_step(section: AutoencoderSection, *, device: torch.device) -> ReconstructionStep:
    """Put the networks under engines. Called on every rank; draws all first weights.

    Raises:
        ConfigError: a file that the section names does not fit.
    """
    config = needed(section.training, "autoencoder.training", "train-autoencoder")
    perceptual = open_perceptual(section.loss)
    torch.manual_seed(config.seed)
    model = build(section)
    engine = Engine(model.to(device), config)
    game, channels = section.adversarial, backbone(model).channels
    return ReconstructionStep(
        engine=engine,
        section=section,
        steps=config.steps,
        perceptual=None if perceptual is None else perceptual.to(engine.device, engine.dtype),
        adversary=(
            None if game is None else open_adversary(game, config, channels=channels, device=device)
        ),
    )


def train_on_rank(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    """Train on one rank; rank 0 writes the result."""
    recipe = payload.recipe
    section = recipe.autoencoder
    config = needed(section.training, "autoencoder.training", "train-autoencoder")
    policy = needed(recipe.pixels, "pixels", "train-autoencoder")
    records = source_of(recipe, "train-autoencoder")
    clips = DecodedClips(records, policy=policy, limits=recipe.limits)
    held_out, trained = split(len(clips), seed=config.seed)
    step = open_step(section, device=torch.device(context.device))
    place = Place(rank=context.rank, world=context.world)
    batch, micro = config.sizes(policy.frames * policy.height * policy.width)
    order = Order([Bucket(np.array(trained), batch, micro)], seed=config.seed)
    one_reader = dataclasses.replace(recipe.loader, readers=1)  # there is one decoder
    with scribe(payload, context) as run:
        validation = Validation(step.engine, clips, held_out, run=run, fps=policy.fps)
        outcome = train(
            step,
            Loader(clips, order, stack, place=place, config=one_reader),
            config,
            checkpoints=open_checkpoints(recipe, source=source_fingerprint(records)),
            hooks=[Hook(every=config.validate_every, run=validation)],
            report=reporter(run, context),
            should_stop=context.should_stop,
            attempt=context.attempt,
        )
        weights = step.engine.ema_parameters()
        tags = {"vdp.rejects": str(len(clips.rejects))}
        if context.rank == 0 and outcome.finished:
            model = finished(section, weights).to(context.device)
            tags |= save(model, _videos(clips, trained, micro), recipe)
    clips.close()
    return {"finished": outcome.finished, "tags": tags}


def export(recipe: Recipe, *, kind: str, step: int | None) -> int:
    """Write the autoencoder's folder as it would be if the run ended at a checkpoint.

    Args:
        recipe: its `autoencoder.path` is written.
        kind: which weights; see `Checkpoints.weights`.
        step: of which checkpoint; None for the newest.

    Returns:
        The step.
    """
    section = recipe.autoencoder
    config = needed(section.training, "autoencoder.training", "export")
    policy = needed(recipe.pixels, "pixels", "export")
    records = source_of(recipe, "export")
    store = open_checkpoints(recipe, source=source_fingerprint(records))
    step, weights = store.weights("autoencoder", kind, step=step)
    with contextlib.closing(DecodedClips(records, policy=policy, limits=recipe.limits)) as clips:
        _, trained = split(len(clips), seed=config.seed)
        _, micro = config.sizes(policy.frames * policy.height * policy.width)
        save(finished(section, weights), _videos(clips, trained, micro), recipe)
    return step


def finished(section: AutoencoderSection, weights: Mapping[str, Tensor]) -> AnyAutoencoder:
    """Build the trained autoencoder; what was frozen is exactly what it started as."""
    model = build(section)
    trained = {
        name: tensor
        for name, tensor in weights.items()
        if section.train == "all" or name.partition(".")[0] in DECODING
    }
    model.load_state_dict(model.state_dict() | trained)
    return model.requires_grad_(False).eval()


def save(model: AnyAutoencoder, videos: Iterator[Tensor], recipe: Recipe) -> dict[str, str]:
    """Write the autoencoder's folder and return what the run says of it.

    Latents of a continuous autoencoder are measured first, unless they are what they were.
    """
    if isinstance(model, Autoencoder) and recipe.autoencoder.train == "all":
        model.set_normalisation(*latent_statistics(_posteriors(model, videos)))
    save_autoencoder(model, recipe.autoencoder_folder)
    return {
        "vdp.fingerprint": fingerprint(model),
        "vdp.folder": str(recipe.autoencoder_folder.absolute()),
    }


def split(count: int, *, seed: int) -> tuple[list[int], list[int]]:
    """Split indices into held-out ones, a tenth at most, and those to train on."""
    order = torch.randperm(count, generator=generator(seed, "held-out")).tolist()
    num_held_out = min(HELD_OUT_CLIPS, count // 10)
    return sorted(order[:num_held_out]), sorted(order[num_held_out:])


def open_checkpoints(recipe: Recipe, *, source: str) -> checkpoint.Checkpoints:
    """Return the run's checkpoints, which only a run of the same kind goes on from."""
    section = recipe.autoencoder
    config = needed(section.training, "autoencoder.training", "train-autoencoder")
    tree = as_tree(section)
    identity = {
        "section": {key: tree[key] for key in tree.keys() - {"path", "training"}},
        "size": as_tree(sized(section, "config", AUTOENCODERS, "autoencoder")),
        "pixels": as_tree(recipe.pixels),
        "source": source,
    }
    return checkpoint.Checkpoints(
        recipe.checkpoints_url("autoencoder"),
        run_fingerprint=checkpoint.fingerprint(identity),
        keep=config.keep_checkpoints,
        keep_every=config.keep_every,
    )


def _videos(clips: DecodedClips, trained: Sequence[int], batch_size: int) -> Iterator[Tensor]:
    """Yield the clips over which latents are measured."""
    chosen = trained[:STATISTICS_CLIPS]
    for start in range(0, len(chosen), batch_size):
        yield to_video(stack([clips[i] for i in chosen[start : start + batch_size]]))


@torch.no_grad()
def _posteriors(model: Autoencoder, videos: Iterator[Tensor]) -> Iterator[Posterior]:
    for video in videos:
        yield model.encode(video.to(model.latent_mean.device))


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["train-autoencoder", *sys.argv[1:]]))
