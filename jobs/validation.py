"""The loss on held-out clips at fixed times with fixed noise, while a transformer is trained.

The clips are divided among the ranks, which all run equally many batches, so that no rank waits for
another and a network that is cut up over the ranks is whole where it computes.

Legend: B clips.
"""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from jobs.denoising import draw_noise, velocity_of
from jobs.latent_order import Part
from jobs.latents import LatentBatch, LatentSource
from video_models.layers.sequence import whole
from video_models.objectives.denoising import validation_losses
from video_platform.batches.loader import MicroBatch, Place
from video_platform.training.engine import Engine

TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Fixed times at which the held-out loss is measured."""


class Validation:
    """Measure the weights and all averages of them that are kept.

    Args:
        engine: of the transformer.
        source: where clips come from.
        held_out: which of them are measured.
        most: most clips.
        guidance: the scale that a model with a guidance input is told.
        alive: told what is being done; see `Attempt.alive`.
    """

    def __init__(
        self,
        engine: Engine,
        source: LatentSource,
        held_out: Sequence[Part],
        *,
        most: int,
        guidance: float | None,
        alive: Callable[[str], None],
    ) -> None:
        self._engine, self._source, self._held_out = engine, source, held_out
        self._most, self._guidance, self._alive = most, guidance, alive
        self._mine: list[MicroBatch[LatentBatch]] | None = None

    def __call__(self, step: int) -> dict[str, float]:
        """Return the mean loss, and the loss at each time. Collective."""
        if self._mine is None:
            place = Place(rank=dist.get_rank(), world=dist.get_world_size())
            batches = self._source.fixed_batches(self._held_out, most=self._most, place=place)
            self._mine = list(batches)
        if not self._mine:
            return {}
        scalars = self._measured("validation", self._mine)
        for kind in self._engine.kinds:
            if kind.startswith("ema"):
                with self._engine.computing_with(kind):
                    scalars |= self._measured(f"validation_{kind}", self._mine)
        return scalars

    def _measured(self, name: str, batches: Sequence[MicroBatch[LatentBatch]]) -> dict[str, float]:
        sums = torch.zeros(len(TIMES) + 1, dtype=torch.float64)
        for number, batch in enumerate(batches, start=1):
            self._alive(f"{name}, batch {number} of {len(batches)}")
            losses = self._losses(batch)
            if batch.share:
                sums[:-1] += losses.sum(dim=1)
                sums[-1] += losses.shape[1]
        dist.all_reduce(sums := sums.to(self._engine.device))
        *totals, clips = sums.tolist()
        means = [total / clips for total in totals]
        by_time = {f"{name}/loss_at_{t}": mean for t, mean in zip(TIMES, means, strict=True)}
        return {f"{name}/loss": sum(means) / len(means), **by_time}

    def _losses(self, batch: MicroBatch[LatentBatch]) -> Tensor:
        """Return the loss of each clip at each time, (times, B)."""
        given = self._source.given_of(batch, 0).to(self._engine.device)
        with whole(self._engine.module):  # each rank has clips of its own
            measured = validation_losses(
                velocity_of(self._engine, batch.data.text, given, guidance=self._guidance),
                self._source.latents(batch, 0).to(self._engine.device),
                noise=draw_noise(batch, 0).to(self._engine.device),
                times=TIMES,
                known=given.known,
            )
        return torch.stack([measured[t] for t in TIMES]).double().cpu()
