"""Clips for fixed prompts while a transformer is trained, as pictures in its run.

Prompts are sampled, and captions of held-out clips with what is given of those, under the draws of
the held-out loss. Every rank samples its share with the averaged weights, all equally many, so that
none waits for another.
"""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch.distributed as dist

from jobs.autoencoder_validation import evaluating
from jobs.history import History
from jobs.latents import LatentSource
from jobs.sample_grid import Frames, SampleGrid
from pipelines.model_folder import ModelCard
from pipelines.request import Batch
from pipelines.text_to_video import TextToVideo
from video_models.layers.sequence import whole
from video_models.transformer.family import AnyTransformer
from video_platform.tracking import Run
from video_platform.training.engine import Engine
from video_platform.video.encode import contact_sheet

T = TypeVar("T")

PICTURE = "samples.png"
"""What the picture of all samples is called."""


def pictures(history: History, labels: Sequence[str]) -> dict[str, bytes]:
    """Return all samples of a run as a PNG by file name; nothing where there are none."""
    columns = history.pictures.get(PICTURE)
    return {PICTURE: SampleGrid(columns).draw(labels)} if columns else {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subjects:
    """What is sampled."""

    prompts: Sequence[str] = ()
    """Prompts, with nothing given."""
    clips: Sequence[int] = ()
    """Numbers of cached clips, whose captions are sampled with what is given of them."""


class Samples:
    """Sample some prompts, and draw what came of them now and before.

    Args:
        engine: of the transformer.
        source: its autoencoder and text encoder.
        card: how it is sampled.
        subjects: what is sampled.
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
        subjects: Subjects,
        history: History,
        run: Run | None,
        alive: Callable[[str], None],
    ) -> None:
        self._engine, self._source, self._card = engine, source, card
        self._prompts, self._clips = list(subjects.prompts), list(subjects.clips)
        self._history, self._run, self._alive = history, run, alive
        self.labels = [*self._prompts, *(source.caption(index) for index in self._clips)]

    def __call__(self, step: int) -> dict[str, float]:
        """Sample and draw. Collective."""
        if not self.labels:
            return {}
        network = self._engine.module
        with self._engine.computing_with("ema"), evaluating(network), whole(network):
            model = TextToVideo(
                self._card,
                autoencoder=copy.deepcopy(self._source.autoencoder).to(self._engine.device),
                transformer=cast(AnyTransformer, network),
                text_encoder=self._source.text_encoder,
                more_text_encoders=self._source.text_encoders[1:],
            )
            clips = [*self._of_prompts(model), *self._of_clips(model)]
        if self._run is not None:
            sheet = contact_sheet(clips, labels=self.labels)
            self._run.image(sheet, f"samples/step-{step:06d}.png")
            grid = SampleGrid(self._history.pictures.get(PICTURE))
            grid.add(step, clips)
            self._history.pictures[PICTURE] = grid.state_dict()
            self._run.image(grid.draw(self.labels), PICTURE)
        return {}

    def _of_prompts(self, model: TextToVideo) -> list[Frames]:
        """Return a clip for each prompt; each rank makes its share at once."""
        if not self._prompts:
            return []
        made = model(share_of(self._prompts), seed=0, on_step=self._tell)
        return gathered([clip.frames for clip in made], len(self._prompts))

    def _of_clips(self, model: TextToVideo) -> list[Frames]:
        """Return what becomes of each clip; each rank makes its share, one after the other."""
        made = []
        for index in share_of(self._clips):
            clip = self._source.clip(index)
            frames, height, width = self._source.pixels_of(clip.data.mean)
            request = model.settle(num_frames=frames, height=height, width=width)
            given = self._source.given_of(clip, 0)
            batch = Batch(prompts=[self._source.caption(index)], seeds=[0], given=given)
            made += [each.frames for each in model.make(batch, request, self._tell)]
        return gathered(made, len(self._clips)) if made else []

    def _tell(self, done: int, steps: int) -> None:
        self._alive(f"samples, step {done} of {steps}")


def share_of(items: Sequence[T]) -> list[T]:
    """Return this rank's part of something; all ranks get equally many, some of them twice."""
    rank, world = dist.get_rank(), dist.get_world_size()
    share = -(-len(items) // world)
    return [items[i % len(items)] for i in range(rank, share * world, world)]


def gathered(mine: Sequence[Frames], count: int) -> list[Frames]:
    """Return what all ranks made of their parts, in order. Collective."""
    ranks: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(ranks, list(mine))
    return [ranks[i % len(ranks)][i // len(ranks)] for i in range(count)]
