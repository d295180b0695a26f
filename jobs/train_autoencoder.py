"""Train a 3D causal autoencoder on videos: `vdp train-autoencoder RECIPE`.

Reads `source`, `pixels` and `autoencoder`; writes the autoencoder's folder at `autoencoder.path`.

Legend: B clips, C channels, T frames, H W pixels.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
from pipelines.pixels import to_frames, to_video
from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.model import Autoencoder
from video_models.autoencoder.statistics import latent_statistics
from video_models.formats import fingerprint, save_autoencoder
from video_models.metrics.reconstruction import psnr
from video_models.objectives.config import ReconstructionConfig
from video_models.objectives.reconstruction import reconstruction_terms
from video_models.presets import AUTOENCODERS
from video_platform.batches.loader import Loader, MicroBatch, Place
from video_platform.batches.order import Order
from video_platform.cluster import WorkerContext
from video_platform.config import as_tree
from video_platform.datasets.clips import DecodedClips
from video_platform.datasets.source import source_fingerprint
from video_platform.tracking import Run
from video_platform.training import checkpoint
from video_platform.training.draws import generator
from video_platform.training.engine import Engine
from video_platform.training.loop import At, Hook, Scalars, Stateless, train
from video_platform.video.encode import contact_sheet

HELD_OUT_CLIPS = 32
"""Most clips that are kept for measuring, never trained on; at most a tenth of the source."""
STATISTICS_CLIPS = 256
"""Most clips over which mean and deviation of the latents are taken."""


def run(recipe: Recipe) -> None:
    """Train the recipe's autoencoder and write its folder."""
    section = recipe.autoencoder
    config = needed(section.training, "autoencoder.training", "train-autoencoder")
    needed(recipe.pixels, "pixels", "train-autoencoder")
    sized(section, "config", AUTOENCODERS, "autoencoder")
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


def stack(clips: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Collate decoded clips: uint8 (B, T, H, W, 3)."""
    return torch.from_numpy(np.stack(clips))


@dataclasses.dataclass
class ReconstructionStep(Stateless):
    """One update of an autoencoder: reconstruct the clips of a batch, or single frames of them."""

    engine: Engine
    loss: ReconstructionConfig
    image_steps: int
    images_per_clip: int

    @property
    def engines(self) -> Mapping[str, Engine]:
        """The one trained network."""
        return {"autoencoder": self.engine}

    def update(self, micro_batches: Sequence[MicroBatch[Tensor]], at: At) -> dict[str, Tensor]:
        """Reconstruct each micro-batch and update once."""
        scalars = Scalars()
        for batch in micro_batches:
            video = self._pick(batch, at).to(self.engine.device, self.engine.dtype)
            reconstruction, posterior = self.engine.module(video, self._noise(batch, at, video))
            terms = reconstruction_terms(reconstruction, video, posterior, self.loss)
            means = {name: term.mean() for name, term in terms.items()}
            self.engine.backward(means["loss"], share=batch.share)
            scalars.add(means, share=batch.share)
        self.engine.step()
        return scalars.totals

    def _pick(self, batch: MicroBatch[Tensor], at: At) -> Tensor:
        """Return the clips, or while images are trained some frames of each as clips of one."""
        if at.step >= self.image_steps:
            return to_video(batch.data)
        frames = []
        for clip, position in zip(batch.data, batch.positions, strict=True):
            order = torch.randperm(len(clip), generator=generator(at.seed, "frames", position))
            frames.append(clip[order[: self.images_per_clip]])
        return to_video(torch.cat(frames).unsqueeze(1))

    def _noise(self, batch: MicroBatch[Tensor], at: At, video: Tensor) -> Tensor:
        """Draw the noise of each clip's latents from its position in the run."""
        each = len(video) // len(batch.positions)
        shape = self.engine.module.config.latent_shape(*video.shape[2:])  # type: ignore[union-attr,operator]
        noise = [
            torch.randn(each, *shape, generator=generator(at.seed, "latent", position))
            for position in batch.positions
        ]
        return torch.cat(noise).to(video)


def train_on_rank(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    """Train on one rank; rank 0 writes the result."""
    recipe = payload.recipe
    section = recipe.autoencoder
    config = needed(section.training, "autoencoder.training", "train-autoencoder")
    policy = needed(recipe.pixels, "pixels", "train-autoencoder")
    records = source_of(recipe, "train-autoencoder")
    clips = DecodedClips(records, policy=policy, limits=recipe.limits)
    held_out, trained = split(len(clips), seed=config.seed)
    torch.manual_seed(config.seed)
    size: AutoencoderConfig = sized(section, "config", AUTOENCODERS, "autoencoder")
    engine = Engine(Autoencoder(size).to(context.device), config)
    step = ReconstructionStep(
        engine=engine,
        loss=section.loss,
        image_steps=int(section.image_stage * config.steps),
        images_per_clip=section.images_per_clip,
    )
    place = Place(rank=context.rank, world=context.world, micro_batch_size=config.micro_batch_size)
    order = Order([trained], batch_size=config.batch_size, seed=config.seed)
    with scribe(payload, context) as run:
        outcome = train(
            step,
            Loader(clips, order, stack, place=place, config=recipe.loader),
            config,
            checkpoints=_checkpoints(recipe, size, source=source_fingerprint(records)),
            hooks=[Hook(every=config.validate_every, run=Validation(engine, clips, held_out, run))],
            report=reporter(run, context),
            should_stop=context.should_stop,
        )
        weights = engine.ema_parameters()
        tags = {"vdp.rejects": str(len(clips.rejects))}
        if context.rank == 0 and outcome.finished:
            model = Autoencoder(size)
            model.load_state_dict(weights)
            tags |= _save(model.eval(), clips, trained[:STATISTICS_CLIPS], recipe)
    clips.close()
    return {"finished": outcome.finished, "tags": tags}


def _checkpoints(recipe: Recipe, size: AutoencoderConfig, *, source: str) -> checkpoint.Checkpoints:
    """Return the run's checkpoints, which only a run of the same kind goes on from."""
    section = recipe.autoencoder
    config = needed(section.training, "autoencoder.training", "train-autoencoder")
    identity = {
        "size": as_tree(size),
        "loss": as_tree(section.loss),
        "images": [section.image_stage, section.images_per_clip],
        "pixels": as_tree(recipe.pixels),
        "seed": config.seed,
        "batch_size": config.batch_size,
        "source": source,
    }
    return checkpoint.Checkpoints(
        recipe.folder / "checkpoints" / "autoencoder",
        run_fingerprint=checkpoint.fingerprint(identity),
        keep=config.keep_checkpoints,
    )


def _save(
    model: Autoencoder, clips: DecodedClips, chosen: Sequence[int], recipe: Recipe
) -> dict[str, str]:
    """Measure the latents, write the autoencoder's folder and return what the run says of it."""
    model.set_normalisation(*latent_statistics(_posteriors(model, clips, chosen)))
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


class Validation:
    """Reconstruct the held-out clips: PSNR, and a contact sheet on rank 0."""

    def __init__(
        self, engine: Engine, clips: DecodedClips, held_out: Sequence[int], run: Run | None
    ) -> None:
        self._engine, self._clips, self._held_out, self._run = engine, clips, held_out, run

    @torch.no_grad()
    def __call__(self, step: int) -> dict[str, float]:
        """Return the mean PSNR in dB."""
        if not self._held_out:
            return {}
        frames = stack([self._clips[i] for i in self._held_out])
        video = to_video(frames).to(self._engine.device, self._engine.dtype)
        reconstruction, _ = self._engine.module(video)
        if self._run is not None:
            pairs = [
                pair
                for both in zip(frames[:4].numpy(), to_frames(reconstruction[:4]), strict=True)
                for pair in both
            ]
            self._run.image(contact_sheet(pairs), f"reconstructions/step-{step:06d}.png")
        return {"psnr": float(psnr(reconstruction.float().clamp(-1, 1), video.float()).mean())}


@torch.no_grad()
def _posteriors(model: Autoencoder, clips: DecodedClips, chosen: Sequence[int]) -> Any:
    for start in range(0, len(chosen), 16):
        yield model.encode(to_video(stack([clips[i] for i in chosen[start : start + 16]])))


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["train-autoencoder", *sys.argv[1:]]))
