"""The ground truth of one clip: what is where and how it moves, drawn from (seed, index)."""

import dataclasses
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from video_platform.shapes.geometry import SHAPES
from video_platform.shapes.texts import MovingText, draw_text
from video_platform.shapes.world import (
    MARGIN,
    MOTIONS,
    RELATIONS,
    Combination,
    WorldConfig,
    held_out_combinations,
    trained_combinations,
)

Floats = NDArray[np.float64]

GAP = 0.08
"""Room kept free between two objects, as a share of the frame's side."""

RELATION_SLANT = 1.25
"""Smallest distance along a relation's axis over the distance across it: never quite diagonal."""

_SHRINK = 0.55
_DRAWS_AT_ONCE = 256
_MOST_DRAWS, _RELATION_DRAWS = 200, 30
_TEXT, _RELATION = 0x7E87, 0x4E1A
_NUMBERS = ("radius", "x", "y", "vx", "vy")


@dataclass(frozen=True, kw_only=True)
class MovingShape:
    """One object; its centre is at (x + frame * vx, y + frame * vy)."""

    colour: str
    shape: str
    motion: str
    radius: float
    """Of the circle with the same area, in pixels."""
    x: float
    """Centre in the first frame, in pixels from the left."""
    y: float
    """Centre in the first frame, in pixels from the top."""
    vx: float
    """Pixels to the right a frame."""
    vy: float
    """Pixels down a frame."""

    @property
    def combination(self) -> Combination:
        """What a caption says about this object."""
        return Combination(self.colour, self.shape, self.motion)


@dataclass(frozen=True, kw_only=True)
class Program:
    """Everything that it takes to draw a clip."""

    size: int
    frames: int
    fps: float
    background: str
    objects: tuple[MovingShape, ...]
    relation: str | None = None
    """Where the first of two objects is, seen from the second, in every frame."""
    text: MovingText | None = None
    """A row of letters; there are no objects then."""

    @property
    def combinations(self) -> tuple[Combination, ...]:
        """What a caption says about each object."""
        return tuple(each.combination for each in self.objects)

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts and lists; `Program.from_json` reads them back."""
        tree = {**asdict(self), "objects": [asdict(each) for each in self.objects]}
        return {key: value for key, value in tree.items() if value is not None}

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> "Program":
        """Read what `to_json` wrote.

        Raises:
            ValueError: a key is missing or unknown.
        """
        try:
            objects = tuple(MovingShape(**each) for each in tree["objects"])
            text = MovingText(**tree["text"]) if "text" in tree else None
            return cls(**{**tree, "objects": objects, "text": text})
        except (KeyError, TypeError) as error:
            raise ValueError(f"{tree!r} is not a program: {error}") from None


def program_at(config: WorldConfig, index: int, *, held_out: bool = False) -> Program:
    """Draw the program of clip `index`.

    Args:
        config: the world.
        index: 0 or more; not limited to `config.num_clips`.
        held_out: show a withheld combination instead of trained ones.

    Raises:
        ValueError: the world withholds nothing, or the objects do not fit into the frame.
    """
    pool = held_out_combinations(config) if held_out else trained_combinations(config)
    if not pool:
        raise ValueError(f"held_out={config.held_out!r} withholds no combination: raise it")
    # Generators of their own, so that no knob shifts the draws of the clips that it leaves alone.
    rng = np.random.default_rng((config.seed, index, _TEXT))
    if not held_out and rng.random() < config.texts:
        return text_program(config, draw_text(config, rng))
    rng = np.random.default_rng((config.seed, index, int(held_out), _RELATION))
    wanted = tuple(rng.permutation(list(RELATIONS)).tolist()) * (rng.random() < config.relations)
    rng = np.random.default_rng((config.seed, index, int(held_out)))
    return draw_program(config, pool[int(rng.integers(len(pool)))], rng, relations=wanted)


def text_program(config: WorldConfig, text: MovingText) -> Program:
    """Return the program of a row of letters alone."""
    return dataclasses.replace(_empty(config), text=text)


def _empty(config: WorldConfig) -> Program:
    return Program(
        size=config.size,
        frames=config.frames,
        fps=config.fps,
        background=config.background,
        objects=(),
    )


def draw_program(
    config: WorldConfig,
    first: Combination,
    rng: np.random.Generator,
    *,
    relations: Sequence[str] = (),
) -> Program:
    """Draw a program whose first object is `first`; the others show trained combinations.

    Args:
        config: the world.
        first: what the first object shows.
        rng: where every draw comes from.
        relations: where the first of two different objects should be, seen from the second: the
            first of these for which their motions leave room. Other numbers of objects have none.
    """
    count = int(rng.integers(config.min_objects, config.max_objects, endpoint=True))
    # Each is always drawn, so that one knob does not shift the draws behind it.
    alike = bool(rng.random() < config.copies)
    combinations = [first] * count if alike else _companions(config, first, count, rng)
    return arrange(config, combinations, rng, relations=() if alike or count != 2 else relations)


def arrange(
    config: WorldConfig,
    combinations: Sequence[Combination],
    rng: np.random.Generator,
    *,
    relations: Sequence[str] = (),
) -> Program:
    """Draw where objects are and how large and fast; all alike are of one size and speed.

    Raises:
        ValueError: they do not fit into the frame.
    """
    for relation, draws in [*((each, _RELATION_DRAWS) for each in relations), (None, _MOST_DRAWS)]:
        for _ in range(draws):
            layout = _draw_layout(config, combinations, relation, rng)
            if layout is not None:
                return dataclasses.replace(_empty(config), objects=layout, relation=relation)
    raise ValueError(
        f"{len(combinations)} objects do not fit into {config.size} px: "
        "lower max_objects, radius or travel"
    )


def _companions(
    config: WorldConfig, first: Combination, count: int, rng: np.random.Generator
) -> list[Combination]:
    """Draw trained combinations to go with `first`, each object of another colour."""
    chosen = [first]
    while len(chosen) < count:
        taken = {each.colour for each in chosen}
        free = [each for each in trained_combinations(config) if each.colour not in taken]
        chosen.append(free[int(rng.integers(len(free)))])
    return chosen


def _box(shape: str) -> Floats:
    """Reach of a shape of radius 1 to the left, top, right and bottom."""
    outline = SHAPES[shape]
    return np.array([outline.half_width, outline.above, outline.half_width, outline.below])


def _draw_layout(
    config: WorldConfig,
    combinations: Sequence[Combination],
    relation: str | None,
    rng: np.random.Generator,
) -> tuple[MovingShape, ...] | None:
    """Draw sizes, speeds and places; None when no place was found for these sizes."""
    count = len(combinations)
    scale = config.size * count**-_SHRINK
    radii = rng.uniform(*config.radius, count) * scale
    speeds = rng.uniform(*config.travel, count) * scale / (config.frames - 1)
    if len(set(combinations)) == 1:
        radii[:], speeds[:] = radii[0], speeds[0]
    velocities = np.array([MOTIONS[each.motion] for each in combinations]) * speeds[:, None]
    boxes = np.array([_box(each.shape) for each in combinations]) * radii[:, None]
    starts = _place(config, boxes, velocities, relation, rng)
    if starts is None:
        return None
    numbers = np.concatenate([radii[:, None], starts, velocities], axis=1).round(4)
    return tuple(
        MovingShape(**each._asdict(), **dict(zip(_NUMBERS, row, strict=True)))
        for each, row in zip(combinations, numbers.tolist(), strict=True)
    )


def _place(
    config: WorldConfig,
    boxes: Floats,
    velocities: Floats,
    relation: str | None,
    rng: np.random.Generator,
) -> Floats | None:
    """Draw starting points (count, 2) from which no object leaves the frame or nears another."""
    way = velocities * (config.frames - 1)
    edge = MARGIN * config.size
    low = edge + boxes[:, :2] + np.maximum(-way, 0)
    high = config.size - edge - boxes[:, 2:] - np.maximum(way, 0)
    starts = rng.uniform(low, high, (_DRAWS_AT_ONCE, *low.shape))  # (draws, count, 2)
    apart = _stay_apart(starts, boxes, velocities, config)
    if relation is not None:
        apart &= _stay_related(starts, velocities, relation, config)
    first: Floats = starts[int(np.argmax(apart))]
    return first if apart.any() else None


def _stay_apart(
    starts: Floats, boxes: Floats, velocities: Floats, config: WorldConfig
) -> NDArray[np.bool_]:
    """Say for each draw whether all boxes keep their distance in every frame."""
    time = np.arange(config.frames)[:, None, None]
    centres = starts[:, None] + time * velocities  # (draws, T, count, 2)
    near, far = centres - boxes[:, :2], centres + boxes[:, 2:]
    gaps = np.maximum(near[:, :, :, None] - far[:, :, None], near[:, :, None] - far[:, :, :, None])
    apart = np.asarray((gaps >= GAP * config.size).any(axis=-1))  # (draws, T, count, count)
    first, second = np.triu_indices(len(boxes), k=1)
    return np.asarray(apart[:, :, first, second].all(axis=(1, 2)))


def _stay_related(
    starts: Floats, velocities: Floats, relation: str, config: WorldConfig
) -> NDArray[np.bool_]:
    """Say for each draw whether the first object lies that way from the second in every frame."""
    time = np.arange(config.frames)[:, None, None]
    centres = starts[:, None] + time * velocities  # (draws, T, 2, 2)
    offset = centres[:, :, 0] - centres[:, :, 1]
    x, y = RELATIONS[relation]
    along, across = offset @ np.array([x, y]), np.abs(offset @ np.array([y, x]))
    return np.asarray((along >= RELATION_SLANT * across).all(axis=1))
