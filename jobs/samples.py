"""Clips for fixed prompts while a transformer is trained, as pictures in its run.

Every rank samples its share of the prompts with the averaged weights, all equally many, so that
none waits for another.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch.distributed as dist

from jobs.autoencoder_validation import evaluating
from jobs.history import History
from jobs.latents import LatentSource
from jobs.sample_grid import Frames, SampleGrid
from pipelines.model_folder import ModelCard
from pipelines.text_to_video import TextToVideo
from video_models.layers.sequence import whole
from video_models.transformer.family import AnyTransformer
from video_platform.tracking import Run
from video_platform.training.engine import Engine
from video_platform.video.encode import contact_sheet

PICTURE = "samples.png"
"""What the picture of all samples is called."""


def pictures(history: History, prompts: Sequence[str]) -> dict[str, bytes]:
    """Return all samples of a run as a PNG by file name; nothing where there are none."""
    columns = history.pictures.get(PICTURE)
    return {PICTURE: SampleGrid(columns).draw(prompts)} if columns else {}


class Samples:
    """Sample some prompts, and draw what came of them now and before.

    Args:
        engine: of the transformer.
        source: its autoencoder and text encoder.
        card: how it is sampled.
        prompts: what is sampled.
        history: where earlier samples are remembered.
        run: what pictures are logged to; None logs none.
        alive: told what is being done; see `Attempt.alive`.
    """

    def __init__(
        self,
        engine: Engine,
        source: LatentSource,
        card: ModelCard,
        *,
        prompts: Sequence[str],
        history: History,
        run: Run | None,
        alive: Callable[[str], None],
    ) -> None:
        self._engine, self._source, self._card = engine, source, card
        self._prompts, self._history = list(prompts), history
        self._run, self._alive = run, alive

    def __call__(self, step: int) -> dict[str, float]:
        """Sample and draw. Collective."""
        if not self._prompts:
            return {}
        clips = self._sampled()
        if self._run is not None:
            sheet = contact_sheet(clips, labels=self._prompts)
            self._run.image(sheet, f"samples/step-{step:06d}.png")
            grid = SampleGrid(self._history.pictures.get(PICTURE))
            grid.add(step, clips)
            self._history.pictures[PICTURE] = grid.state_dict()
            self._run.image(grid.draw(self._prompts), PICTURE)
        return {}

    def _sampled(self) -> list[Frames]:
        """Return a clip for each prompt; each rank makes its share."""
        rank, world = dist.get_rank(), dist.get_world_size()
        share = -(-len(self._prompts) // world)
        mine = [self._prompts[i % len(self._prompts)] for i in range(rank, share * world, world)]
        network = self._engine.module
        with self._engine.computing_with("ema"), evaluating(network), whole(network):
            model = TextToVideo(
                self._card,
                autoencoder=copy.deepcopy(self._source.autoencoder).to(self._engine.device),
                transformer=cast(AnyTransformer, network),
                text_encoder=self._source.text_encoder,
            )
            clips = model(mine, seed=0, on_step=self._tell)
        ranks: list[Any] = [None] * world
        dist.all_gather_object(ranks, [clip.frames for clip in clips])
        return [ranks[i % world][i // world] for i in range(len(self._prompts))]

    def _tell(self, done: int, steps: int) -> None:
        self._alive(f"samples, step {done} of {steps}")
