"""Train a text-to-video transformer from the latent cache by flow matching: `vdp pretrain RECIPE`.

Reads `cache`, `autoencoder`, `text`, `pixels`, `model` and `pretrain`; writes the model folder at
`model.out`.

Legend: B clips, C latent channels, T H W latent frames, rows, columns.
"""

import copy
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jobs.latent_order import Part
from jobs.latents import LatentBatch, LatentSource
from jobs.launch import Payload, TrainingJob, launch, made_by, platform, reporter, scribe
from jobs.recipe import PretrainSection, Recipe, needed, sized
from pipelines.model_folder import ClipDefaults, ModelCard, ModelFolder
from pipelines.text_to_video import TextToVideo
from video_models.diffusion.guidance import conditioned
from video_models.diffusion.timesteps import draw_times
from video_models.objectives.denoising import flow_matching_loss, validation_losses
from video_models.presets import TRANSFORMERS
from video_models.text.batch import drop_captions
from video_models.transformer.config import TransformerConfig
from video_models.transformer.model import VideoTransformer
from video_platform.batches.loader import MicroBatch
from video_platform.cluster import WorkerContext
from video_platform.config import as_tree
from video_platform.errors import ConfigError
from video_platform.tracking import Run
from video_platform.training import checkpoint
from video_platform.training.draws import generator
from video_platform.training.engine import Engine
from video_platform.training.loop import At, Hook, Scalars, Stateless, train
from video_platform.video.encode import contact_sheet

VALIDATION_TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Fixed times at which the held-out loss is measured."""
VALIDATION_CLIPS = 128
"""Most held-out clips that are measured."""


def run(recipe: Recipe) -> None:
    """Train the recipe's model and write its folder."""
    section = needed(recipe.pretrain, "pretrain", "pretrain")
    needed(recipe.cache, "cache", "pretrain")
    needed(recipe.pixels, "pixels", "pretrain")
    sized(recipe.model, "transformer", TRANSFORMERS, "model")
    with platform(recipe) as tracker:
        source = LatentSource(recipe)
        parents = made_by(tracker, **source.snapshots, autoencoder=source.autoencoder_fingerprint)
        job = TrainingJob(
            kind="transformer",
            title="pretrain",
            steps=section.training.steps,
            worker=train_on_rank,
            parents=parents,
        )
        launch(source.pinned(recipe), tracker, job)


def draw_noise(batch: MicroBatch[LatentBatch], seed: int) -> Tensor:
    """Return the noise of each sample, (B, C, T, H, W), from its position in the run."""
    shape = batch.data.mean.shape[1:]
    noise = [torch.randn(shape, generator=generator(seed, "noise", p)) for p in batch.positions]
    return torch.stack(noise)


@dataclasses.dataclass
class DenoisingStep(Stateless):
    """One update of a transformer towards the velocity of noised latents."""

    engine: Engine
    source: LatentSource
    section: PretrainSection

    @property
    def engines(self) -> Mapping[str, Engine]:
        """The one trained network."""
        return {"transformer": self.engine}

    def update(self, micro_batches: Sequence[MicroBatch[LatentBatch]], at: At) -> dict[str, Tensor]:
        """Denoise each micro-batch and update once."""
        scalars = Scalars()
        device, dtype = self.engine.device, self.engine.dtype
        for batch in micro_batches:
            t, dropped = self._draw(batch.positions, at.seed)
            text = drop_captions(batch.data.text, self.source.empty_text, dropped)
            loss = flow_matching_loss(
                conditioned(self.engine.module, text.to(device, dtype)),
                self.source.latents(batch, at.seed).to(device, dtype),
                noise=draw_noise(batch, at.seed).to(device, dtype),
                t=t.to(device),
            ).mean()
            self.engine.backward(loss, share=batch.share)
            scalars.add({"loss": loss}, share=batch.share)
        self.engine.step()
        return scalars.totals

    def _draw(self, positions: Sequence[int], seed: int) -> tuple[Tensor, Tensor]:
        """Return the time of each sample and whether its caption is dropped."""
        draws = [generator(seed, "time", position) for position in positions]
        times = [draw_times(1, self.section.timesteps, generator=draw) for draw in draws]
        chance = [torch.rand(1, generator=draw) for draw in draws]
        return torch.cat(times), torch.cat(chance) < self.section.caption_dropout


def transformer_size(recipe: Recipe, source: LatentSource) -> TransformerConfig:
    """Return the transformer's size; a preset's ends follow the cache.

    Raises:
        ConfigError: a size that is spelled out does not fit the cache.
    """
    size: TransformerConfig = sized(recipe.model, "transformer", TRANSFORMERS, "model")
    channels, text_dim = source.channels, source.text_encoder.dim
    spelled = recipe.model.transformer
    if spelled and (spelled.latent_channels, spelled.text_dim) != (channels, text_dim):
        raise ConfigError(
            f"model.transformer has latent_channels {spelled.latent_channels} and text_dim "
            f"{spelled.text_dim}, but the cache has {channels} and the text encoder {text_dim}; "
            "change them, or use model.preset, which follows"
        )
    return dataclasses.replace(size, latent_channels=channels, text_dim=text_dim)


def train_on_rank(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    """Train on one rank; rank 0 writes the model folder."""
    recipe = payload.recipe
    section = needed(recipe.pretrain, "pretrain", "pretrain")
    config = section.training
    source = LatentSource(recipe)
    size = transformer_size(recipe, source)
    torch.manual_seed(config.seed)
    engine = Engine(VideoTransformer(size).to(context.device), config)
    held_out, trained = source.split(section.held_out, seed=config.seed)
    with scribe(payload, context) as run:
        samples = Samples(engine, payload, source, size, run)
        outcome = train(
            DenoisingStep(engine=engine, source=source, section=section),
            source.loader(trained, config, context),
            config,
            checkpoints=checkpoint.Checkpoints(
                recipe.folder / "checkpoints" / "pretrain",
                run_fingerprint=checkpoint.fingerprint({"size": as_tree(size)}),
                keep=config.keep_checkpoints,
            ),
            hooks=[
                Hook(every=config.validate_every, run=Validation(engine, source, held_out)),
                Hook(every=config.sample_every, run=samples),
            ],
            report=reporter(run, context),
            should_stop=context.should_stop,
        )
        transformer = averaged(engine, size, context)
        if transformer is None or not outcome.finished:
            return {"finished": outcome.finished}
        folder = save_model(
            recipe.model_folder, model_card(payload, source), source=source, transformer=transformer
        )
    return {"finished": True, "tags": model_tags(folder)}


def averaged(
    engine: Engine, size: TransformerConfig, context: WorkerContext
) -> VideoTransformer | None:
    """Return the averaged network on rank 0. Called on every rank."""
    weights = engine.ema_parameters()
    if context.rank != 0:
        return None
    transformer = VideoTransformer(size)
    transformer.load_state_dict(weights)
    return transformer.eval()


def model_card(payload: Payload, source: LatentSource) -> ModelCard:
    """Describe the model that a recipe trains."""
    recipe = payload.recipe
    pixels = needed(recipe.pixels, "pixels", "pretrain")
    return ModelCard(
        name=recipe.name,
        kind="base",
        text=recipe.model_text,
        text_identity=source.text_encoder.identity,
        sampling=recipe.model.sampling,
        clip=ClipDefaults(
            frames=pixels.frames, height=pixels.height, width=pixels.width, fps=pixels.fps
        ),
        run_id=payload.run_id,
        parents=payload.parents,
    )


def save_model(
    path: Path, card: ModelCard, *, source: LatentSource, transformer: VideoTransformer
) -> ModelFolder:
    """Write a model folder with the recipe's autoencoder."""
    return ModelFolder.save(path, card, autoencoder=source.autoencoder, transformer=transformer)


def model_tags(folder: ModelFolder) -> dict[str, str]:
    """Return what a run says about the model that it made."""
    return {
        "vdp.fingerprint": folder.card.fingerprints["transformer"],
        "vdp.folder": str(folder.path.absolute()),
    }


class Validation:
    """The loss on held-out clips at fixed times with fixed noise."""

    def __init__(self, engine: Engine, source: LatentSource, held_out: Sequence[Part]) -> None:
        self._engine, self._source, self._held_out = engine, source, held_out

    def __call__(self, step: int) -> dict[str, float]:
        """Return the mean loss, and the loss at each time."""
        losses: dict[float, list[Tensor]] = {time: [] for time in VALIDATION_TIMES}
        for batch in self._source.fixed_batches(self._held_out, most=VALIDATION_CLIPS):
            device, dtype = self._engine.device, self._engine.dtype
            measured = validation_losses(
                conditioned(self._engine.module, batch.data.text.to(device, dtype)),
                self._source.latents(batch, 0).to(device, dtype),
                noise=draw_noise(batch, 0).to(device, dtype),
                times=VALIDATION_TIMES,
            )
            for time, values in measured.items():
                losses[time].append(values)
        means = {time: float(torch.cat(each).mean()) for time, each in losses.items() if each}
        if not means:
            return {}
        by_time = {f"validation/loss_at_{time}": mean for time, mean in means.items()}
        return {"validation/loss": sum(means.values()) / len(means), **by_time}


class Samples:
    """Clips for fixed prompts from the averaged weights, as a contact sheet in the run."""

    def __init__(
        self,
        engine: Engine,
        payload: Payload,
        source: LatentSource,
        size: TransformerConfig,
        run: Run | None,
    ) -> None:
        self._engine, self._source, self._size, self._run = engine, source, size, run
        self._card = model_card(payload, source)
        section = payload.recipe.pretrain
        self._prompts = list(section.sample_prompts) if section else []

    def __call__(self, step: int) -> dict[str, float]:
        """Sample on rank 0; the other ranks help to gather the weights."""
        weights = self._engine.ema_parameters()
        if self._run is not None and self._prompts:
            transformer = VideoTransformer(self._size)
            transformer.load_state_dict(weights)
            model = TextToVideo(
                self._card,
                autoencoder=copy.deepcopy(self._source.autoencoder),
                transformer=transformer,
                text_encoder=self._source.text_encoder,
            )
            clips = model(self._prompts, seed=0)
            sheet = contact_sheet([clip.frames for clip in clips], labels=self._prompts)
            self._run.image(sheet, f"samples/step-{step:06d}.png")
        return {}


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["pretrain", *sys.argv[1:]]))
