"""Are generated clips copies? How near the nearest training clip is, and how near an unseen one.

A model that has learnt the world is as near to clips that training never showed as to those it did:
half of its clips are nearer to training than to as many unseen clips. One that repeats its training
clips is nearer to them, nearer than almost all unseen clips are.

Distances are root mean square differences of thumbnails, which noise and compression hardly change.

Legend: N clips, D numbers of a thumbnail.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from jobs.clip_scores import Scores, thumbnail_of
from jobs.evaluation_bench import Frames, Pool
from jobs.evaluation_records import JudgedClip, Nearest, prompt_groups
from video_models.metrics.intervals import Interval, bootstrap_mean, rate_interval
from video_platform.shapes.captions import clip_at
from video_platform.shapes.render import render
from video_platform.shapes.world import WorldConfig
from video_platform.video.decode import decode
from video_platform.video.encode import contact_sheet
from video_platform.video.limits import MediaLimits
from video_platform.video.policy import PixelPolicy
from video_platform.video.probe import probe

Floats = NDArray[np.float32]

AT_ONCE = 256
"""Clips whose thumbnails are in memory at once."""
UNSEEN_QUERIES = 1024
"""Most unseen clips whose own distance to training is measured."""
CLOSE = 0.01
"""Share of the unseen clips that counts as close to training."""
PAIRS = 12
"""Pairs in the picture."""


@dataclass(frozen=True, kw_only=True)
class Rendered(Sequence[Frames]):
    """Clips of a world, drawn when they are asked for."""

    world: WorldConfig
    """The world."""
    start: int
    """Index of the first."""
    num_clips: int
    """How many there are."""

    def __len__(self) -> int:
        """Return how many there are."""
        return self.num_clips

    @overload
    def __getitem__(self, index: int) -> Frames: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Frames]: ...
    def __getitem__(self, index: int | slice) -> Frames | Sequence[Frames]:
        """Draw clip `index`, counted from the first."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(self.num_clips))]
        return render(clip_at(self.world, self.start + index)[0])


@dataclass(frozen=True, kw_only=True)
class Memorisation:
    """How near a contender's clips are to its training clips."""

    contender: str
    """Whose clips."""
    clips: int
    """How many."""
    training: int
    """Training clips that they were compared with, and as many unseen ones."""
    ratio: Interval
    """Mean distance to the nearest training clip over that to the nearest unseen clip; 1 is none
    nearer than the other."""
    nearer: Interval
    """Share that is nearer to training than to unseen clips; one half is chance."""
    close: Interval
    """Share that is nearer to training than all but `CLOSE` of the unseen clips are."""
    threshold: float
    """The distance that counts as close."""
    closest: tuple[JudgedClip, ...]
    """The clips that are nearest to training."""
    sheet: str
    """A picture of them beside the training clips, relative to the evaluation's folder."""


def worlds_pools(world: WorldConfig) -> tuple[Rendered, Rendered]:
    """Return a world's training clips, and as many beyond the dataset's end."""
    count = world.num_clips
    return (
        Rendered(world=world, start=0, num_clips=count),
        Rendered(world=world, start=count, num_clips=count),
    )


def with_nearest(
    clips: Sequence[JudgedClip], scores: Mapping[str, Scores], pools: tuple[Pool, Pool]
) -> tuple[list[JudgedClip], float]:
    """Find the nearest training clip and the nearest unseen clip of each clip.

    Args:
        clips: clips of all contenders.
        scores: of each contender's clips, by its name: their thumbnails.
        pools: training clips and as many unseen ones.

    Returns:
        The clips with what was found, and the distance that counts as close.
    """
    training, unseen = pools
    thumbnails = [scores[each.contender][each.question, each.seed].thumbnail for each in clips]
    length = len(thumbnails[0])
    probes = _flat(unseen, range(min(len(unseen), UNSEEN_QUERIES)), length)
    queries = np.concatenate([probes, *(each.reshape(1, -1) for each in thumbnails)])
    index, distance = nearest(queries, training, length)
    _, unseen_distance = nearest(queries[len(probes) :], unseen, length)
    found = [
        dataclasses.replace(
            clip,
            nearest=Nearest(index=int(place), distance=float(near), unseen=float(other)),
        )
        for clip, place, near, other in zip(
            clips, index[len(probes) :], distance[len(probes) :], unseen_distance, strict=True
        )
    ]
    return found, float(np.quantile(distance[: len(probes)], CLOSE))


def nearest(
    queries: Floats, pool: Pool, length: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the nearest clip of a pool to each query (N, D): its index and distance.

    Args:
        queries: thumbnails, a row each.
        pool: clips; of each, `length` frames evenly spaced are compared.
        length: frames of the queries.
    """
    best = np.full(len(queries), np.inf)
    index = np.zeros(len(queries), np.int64)
    partner = np.zeros_like(queries)
    for start in range(0, len(pool), AT_ONCE):
        block = _flat(pool, range(start, min(start + AT_ONCE, len(pool))), length)
        # |q - b|^2 without |q|^2, which is the same for every b.
        score = (block**2).sum(1) - 2 * queries @ block.T
        place = score.argmin(1)
        lowest = score[np.arange(len(queries)), place]
        closer = lowest < best
        best[closer], index[closer] = lowest[closer], start + place[closer]
        partner[closer] = block[place[closer]]
    # Anew, because the products above lose the last digits of small distances.
    return index, np.sqrt(((queries - partner).astype(np.float64) ** 2).mean(1))


def _flat(pool: Pool, places: range, length: int) -> Floats:
    return np.stack([thumbnail_of(_spaced(pool[place], length)).ravel() for place in places])


def _spaced(frames: Frames, length: int) -> Frames:
    """Choose frames evenly, the first and the last among them."""
    return np.asarray(frames[np.linspace(0, len(frames) - 1, length).round().astype(int)])


def memorisations(
    clips: Sequence[JudgedClip],
    threshold: float,
    pools: tuple[Pool, Pool],
    *,
    folder: Path,
    level: float,
    resamples: int,
) -> Iterator[Memorisation]:
    """Say of every contender how near its clips are to training, and draw the closest.

    Args:
        clips: clips of all contenders, with their nearest clips.
        threshold: the distance that counts as close.
        pools: training clips and unseen ones.
        folder: where the clips are and the pictures go.
        level: confidence of the intervals.
        resamples: bootstrap draws.
    """
    for contender in dict.fromkeys(clip.contender for clip in clips):
        mine = [clip for clip in clips if clip.contender == contender]
        near = [clip.nearest for clip in mine if clip.nearest is not None]
        groups = prompt_groups(mine)
        closest = sorted(mine, key=lambda clip: clip.nearest.distance if clip.nearest else 1.0)
        sheet = f"sheets/nearest-{Path(mine[0].file).parent.name}.png"
        write_pairs(folder / sheet, closest[:PAIRS], pools[0], folder)
        yield Memorisation(
            contender=contender,
            clips=len(mine),
            training=len(pools[0]),
            ratio=bootstrap_mean(
                [_ratio(each) for each in near], groups, level=level, resamples=resamples
            ),
            nearer=rate_interval([n.distance < n.unseen for n in near], groups, level=level),
            close=rate_interval([n.distance < threshold for n in near], groups, level=level),
            threshold=threshold,
            closest=tuple(closest[:PAIRS]),
            sheet=sheet,
        )


def _ratio(near: Nearest) -> float:
    """Return a ratio that two copies do not make infinite."""
    smallest = 1e-6
    return (near.distance + smallest) / (near.unseen + smallest)


def write_pairs(path: Path, clips: Sequence[JudgedClip], training: Pool, folder: Path) -> None:
    """Draw generated clips, each above the training clip that it is most like."""
    rows: list[Frames] = []
    labels: list[str] = []
    for clip in clips:
        if clip.nearest is not None:
            shown = training[clip.nearest.index]
            rows += [_read(folder / clip.file), shown]
            labels += [
                f"generated, seed {clip.seed}: {clip.prompt}",
                f"training clip {clip.nearest.index}, distance {clip.nearest.distance:.3f}",
            ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contact_sheet(rows, labels=labels))


def _read(path: Path) -> Frames:
    """Read a clip of our own back, every frame of it."""
    limits = MediaLimits()
    info = probe(path, limits)
    policy = PixelPolicy(
        frames=info.frames, height=info.height, width=info.width, fps=info.fps or 1.0
    )
    return decode(path, policy=policy, limits=limits).frames
