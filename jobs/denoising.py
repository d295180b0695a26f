"""One update of a transformer by flow matching on cached latents.

Legend: B clips, C latent channels, T H W latent frames, rows, columns.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from jobs.history import History
from jobs.latents import AnyLatents, LatentBatch, LatentSource, parts_of
from jobs.meter import Meter
from jobs.pretrain_config import PretrainSection
from video_models.diffusion.guidance import VelocityFunction, conditioned
from video_models.diffusion.timesteps import draw_times
from video_models.diffusion.weights import loss_weight
from video_models.objectives.denoising import (
    PackedVelocityFunction,
    flow_matching_loss,
    packed_flow_matching_loss,
)
from video_models.text.batch import TextBatch, drop_captions
from video_models.transformer.family import AnyTransformer
from video_models.transformer.given import Given, told, told_each
from video_platform.batches.loader import MicroBatch
from video_platform.batches.split import Load
from video_platform.training.draws import generator
from video_platform.training.engine import Engine
from video_platform.training.loop import At, Scalars

Grid = tuple[int, int, int]
"""Tokens along frames, rows and columns."""


@dataclasses.dataclass
class DenoisingStep:
    """One update of a transformer towards the velocity of noised latents."""

    engine: Engine
    source: LatentSource
    section: PretrainSection
    meter: Meter
    """Counts what a batch takes."""
    history: History
    """What the run has measured; survives with it."""

    @property
    def engines(self) -> Mapping[str, Engine]:
        """The one trained network."""
        return {"transformer": self.engine}

    def update(self, micro_batches: Sequence[MicroBatch[AnyLatents]], at: At) -> dict[str, Tensor]:
        """Denoise each micro-batch and update once."""
        scalars = Scalars()
        for batch in micro_batches:
            t, losses = self._losses(batch, at.seed)
            loss = (loss_weight(t, self.section.weight) * losses).mean()
            self.engine.backward(loss, share=batch.share)
            scalars.add({"loss": loss, **shared_out(batch.load)}, share=batch.share)
            counted = float(batch.share > 0) / self.section.training.sequence_parallel
            for part in parts_of(batch):
                scalars.add(self.meter.work(part.data), share=counted)
            by_time = losses_by_time(losses, t, self.section.observe.time_buckets)
            scalars.add_parts(*(scaled(each, counted) for each in by_time))
        by_block = self.section.observe.grad_norms and self._is_logged(at.step)
        norms = self.engine.step(by_block=by_block).block_norms
        scalars.add_parts(*block_norms(norms, world=self.meter.world))
        return scalars.totals

    def state_dict(self) -> dict[str, Any]:
        """Return what was measured so far."""
        return {"history": self.history.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.history.load_state_dict(state["history"])

    def _losses(self, batch: MicroBatch[AnyLatents], seed: int) -> tuple[Tensor, Tensor]:
        """Return the times and the losses of the samples, (B,) each."""
        device, parts = self.engine.device, parts_of(batch)
        token_grid = cast(AnyTransformer, self.engine.module).token_grid
        drawn = [self._draw(part.positions, seed, token_grid(part.data.mean)) for part in parts]
        t, dropped = (torch.cat(values) for values in zip(*drawn, strict=True))
        text = drop_captions(batch.data.text, self.source.empty_text, dropped)
        x0 = [self.source.latents(part, seed).to(device) for part in parts]
        noise = [draw_noise(part, seed).to(device) for part in parts]
        given = [self.source.given_of(part, seed).to(device) for part in parts]
        t, scale = t.to(device), self.section.guidance
        if isinstance(batch.data, LatentBatch):
            network = velocity_of(self.engine, text, given[0], guidance=scale)
            known = given[0].known
            return t, flow_matching_loss(network, x0[0], noise=noise[0], t=t, known=known)
        clips, noises = ([x[0] for x in samples] for samples in (x0, noise))
        packed = velocities_of(self.engine, text, given, guidance=scale)
        left_out = [each.known[0] for each in given if each.known is not None] or None
        return t, packed_flow_matching_loss(packed, clips, noise=noises, t=t, known=left_out)

    def _draw(self, positions: Sequence[int], seed: int, grid: Grid) -> tuple[Tensor, Tensor]:
        """Return the time of each sample and whether its caption is dropped."""
        draws = [generator(seed, "time", position) for position in positions]
        config = self.section.timesteps
        times = [draw_times(1, config, generator=draw, grid=grid) for draw in draws]
        chance = [torch.rand(1, generator=draw) for draw in draws]
        return torch.cat(times), torch.cat(chance) < self.section.caption_dropout

    def _is_logged(self, step: int) -> bool:
        done, config = step + 1, self.section.training
        return done % config.log_every == 0 or done == config.steps


def velocity_of(
    engine: Engine, text: TextBatch, given: Given, *, guidance: float | None
) -> VelocityFunction:
    """Return the velocity under a text; samples are noised in fp32, whatever computes it.

    Args:
        engine: of the transformer.
        text: captions.
        given: what is given of the clips.
        guidance: the scale that a model with a guidance input is told.
    """
    patch = cast(AnyTransformer, engine.module).config.patch_size
    network = told(engine.module, given.to(engine.device, engine.dtype), patch=patch)
    velocity = _under(engine, network, text, guidance)
    return lambda x, t: velocity(x.to(engine.dtype), t)


def velocities_of(
    engine: Engine, text: TextBatch, given: Sequence[Given], *, guidance: float | None
) -> PackedVelocityFunction:
    """Return the same for samples of different shapes, all in one sequence."""
    patch = cast(AnyTransformer, engine.module).config.patch_size
    moved = [each.to(engine.device, engine.dtype) for each in given]
    velocity = _under(engine, told_each(engine.module, moved, patch=patch), text, guidance)
    return lambda xs, t: cast(Any, velocity)([x.to(engine.dtype) for x in xs], t)


def _under(
    engine: Engine, network: Callable[..., Any], text: TextBatch, guidance: float | None
) -> VelocityFunction:
    """Return a network's velocity under a text and, where it takes one, a guidance scale."""
    scales = None if guidance is None else torch.full((len(text),), guidance, device=engine.device)
    return conditioned(network, text.to(engine.device, engine.dtype), guidance=scales)


def draw_noise(batch: MicroBatch[LatentBatch], seed: int) -> Tensor:
    """Return the noise of each sample, (B, C, T, H, W), from its position in the run."""
    shape = batch.data.mean.shape[1:]
    noise = [torch.randn(shape, generator=generator(seed, "noise", p)) for p in batch.positions]
    return torch.stack(noise)


def losses_by_time(
    losses: Tensor, t: Tensor, buckets: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the sum of the losses and the number of samples in each part of [0, 1], by name.

    Args:
        losses: (B,).
        t: times (B,) in [0, 1].
        buckets: equal parts of [0, 1]; a time on a border belongs to the later one. 0 tells none.
    """
    if not buckets:
        return {}, {}
    index = (t.float() * buckets).long().clamp(max=buckets - 1)
    sums = losses.new_zeros(buckets).index_add(0, index, losses.detach())
    counts = torch.bincount(index, minlength=buckets)
    names = [f"loss_by_time/{i / buckets:.2f}-{(i + 1) / buckets:.2f}" for i in range(buckets)]
    return dict(zip(names, sums, strict=True)), dict(zip(names, counts, strict=True))


def shared_out(load: Load | None) -> dict[str, Tensor]:
    """Return how well a step is shared out over micro-batches and ranks."""
    if load is None:
        return {}
    figures = {"batch/fill": load.fill, "batch/balance": load.balance}
    return {name: torch.tensor(value) for name, value in figures.items()}


def block_norms(
    norms: Mapping[str, float], *, world: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return norms that all ranks know so that their mean over ranks and steps is reported."""
    share = torch.tensor(1.0 / world)
    named = {f"grad_norm_by_block/{name}": norm for name, norm in norms.items()}
    return {n: share * norm for n, norm in named.items()}, dict.fromkeys(named, share)


def scaled(parts: Mapping[str, Tensor], factor: float) -> dict[str, Tensor]:
    """Return each part times a factor."""
    return {name: part * factor for name, part in parts.items()}
