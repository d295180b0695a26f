"""What the world holds: its colours, motions, sizes, and which combinations are kept back.

Two choices make the world readable after 4:2:0 compression, an autoencoder's blur and noise:

- The background is a middle grey, so each colour is a direction away from it. A blurred edge
  slides along that direction and never passes through another colour, as it would on black, where
  a dim yellow edge is as near to red as to yellow.
- The colours differ from the grey in brightness too (by 41 of 255 or more), because 4:2:0 keeps
  brightness, and with it the outline, at full resolution.
"""

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np

from video_platform.shapes.geometry import SHAPES
from video_platform.shapes.letters import GLYPHS, cell_size, cells_across

Rgb = tuple[int, int, int]

PALETTE: dict[str, Rgb] = {
    "blue": (0, 0, 255),
    "cyan": (0, 255, 255),
    "green": (0, 120, 0),
    "pink": (255, 135, 255),
    "red": (255, 0, 0),
    "yellow": (255, 255, 0),
}

BACKGROUNDS: dict[str, Rgb] = {
    "black": (0, 0, 0),
    "grey": (128, 128, 128),
    "light": (208, 208, 208),
    "white": (255, 255, 255),
}

MOTIONS: dict[str, tuple[int, int]] = {
    "down": (0, 1),
    "left": (-1, 0),
    "right": (1, 0),
    "still": (0, 0),
    "up": (0, -1),
}

RELATIONS: dict[str, tuple[int, int]] = {
    "above": (0, -1),
    "below": (0, 1),
    "left of": (-1, 0),
    "right of": (1, 0),
}
"""Which way one object lies from another: x to the right, y down."""

MAX_OBJECTS = 4
MAX_LETTERS = 4
TEXT_TRAVEL = (0.12, 0.18)
"""Shortest and longest way of a row of letters in a clip, as a share of the frame's side."""

MARGIN = 0.03
"""Room kept free along each edge of the frame, as a share of its side."""


class Combination(NamedTuple):
    """What a caption says about one object."""

    colour: str
    shape: str
    motion: str


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """A world; every clip is a pure function of this and its index."""

    num_clips: int
    """Clips in the dataset."""

    seed: int = 0
    """Another seed is another dataset, and withholds other combinations."""

    size: int = 32
    """Height and width of a frame in pixels; even, as 4:2:0 video needs."""

    frames: int = 9
    """Frames in a clip: 1 + 4n suits a causal autoencoder that merges four frames."""

    fps: float = 8.0
    """Frames a second."""

    colours: tuple[str, ...] = ("red", "green", "blue", "yellow", "pink", "cyan")
    """Keys of `PALETTE`."""

    shapes: tuple[str, ...] = ("circle", "square", "triangle")
    """Keys of `geometry.SHAPES`."""

    motions: tuple[str, ...] = ("left", "right", "up", "down", "still")
    """Keys of `MOTIONS`."""

    background: str = "grey"
    """A key of `BACKGROUNDS`; the detectors are proven on grey."""

    min_objects: int = 1
    """Fewest objects in a clip."""

    max_objects: int = 1
    """Most objects in a clip, up to 4; several are drawn smaller, so that they never touch."""

    copies: float = 0.5
    """Share of the clips with several objects in which all are alike ("two red circles")."""

    radius: tuple[float, float] = (0.19, 0.235)
    """Smallest and largest radius of a lone object, as a share of the frame's side."""

    travel: tuple[float, float] = (0.22, 0.31)
    """Shortest and longest way of a lone object in a clip, as a share of the frame's side."""

    captions: Literal["plain", "varied"] = "varied"
    """`plain` always says "a red circle moves right"; `varied` also says it in other words."""

    held_out: float = 0.12
    """Share of the (colour, shape, motion) combinations that training clips never show."""

    relations: float = 0.0
    """Share of the clips of two different objects whose caption says where they are instead of how
    they move ("a red circle left of a blue square"); it is true in every frame."""

    unsaid: float = 0.0
    """Share of the other captions that leave out a colour, a shape or a motion."""

    texts: float = 0.0
    """Share of the clips that show a row of letters and nothing else."""

    letters: str = "".join(GLYPHS)
    """Keys of `letters.GLYPHS`, what rows are made of."""

    max_letters: int = MAX_LETTERS
    """Most letters in a row, up to 4; they are drawn as large as fits."""

    def __post_init__(self) -> None:
        _check_names("colours", self.colours, PALETTE)
        _check_names("shapes", self.shapes, SHAPES)
        _check_names("motions", self.motions, MOTIONS)
        _check_names("background", (self.background,), BACKGROUNDS)
        _check_names("letters", tuple(self.letters), GLYPHS)
        _check_numbers(self)
        _check_room(self)
        if self.texts:
            _check_rows(self)


_LATER_KNOBS = ("relations", "unsaid", "texts", "letters", "max_letters")


def origin_of(config: WorldConfig) -> dict[str, Any]:
    """Return what a dataset says of the world that it was made from.

    Knobs that came after the first datasets are left out at their defaults, so that the same world
    has the same origin for ever.
    """
    defaults = {each.name: each.default for each in dataclasses.fields(config)}
    return {
        name: value
        for name, value in dataclasses.asdict(config).items()
        if name not in _LATER_KNOBS or value != defaults[name]
    }


def _check_names(field: str, names: tuple[str, ...], known: Collection[str]) -> None:
    if not names or len(set(names)) != len(names) or not set(names) <= set(known):
        raise ValueError(f"{field} is {names!r}: name each once, out of {', '.join(sorted(known))}")


def _check_numbers(config: WorldConfig) -> None:
    bounds = {
        "num_clips": config.num_clips >= 1,
        "seed": config.seed >= 0,
        "size (even, 16 to 512)": config.size % 2 == 0 and 16 <= config.size <= 512,
        "frames (2 or more)": config.frames >= 2,
        "fps (above 0)": config.fps > 0,
        "copies (0 to 1)": 0 <= config.copies <= 1,
        "held_out (0 to 0.5)": 0 <= config.held_out <= 0.5,
        "relations (0 to 1)": 0 <= config.relations <= 1,
        "unsaid (0 to 1)": 0 <= config.unsaid <= 1,
        "texts (0 to 1)": 0 <= config.texts <= 1,
        "max_letters (1 to 4)": 1 <= config.max_letters <= MAX_LETTERS,
    }
    for what, holds in bounds.items():
        if not holds:
            raise ValueError(f"{what} is out of range: {getattr(config, what.split()[0])!r}")
    if not 1 <= config.min_objects <= config.max_objects <= MAX_OBJECTS:
        raise ValueError(
            f"min_objects={config.min_objects}, max_objects={config.max_objects}: "
            f"give 1 <= min_objects <= max_objects <= {MAX_OBJECTS}"
        )
    if config.max_objects > len(config.colours):
        raise ValueError(
            f"max_objects={config.max_objects} needs as many colours; "
            f"there are {len(config.colours)}: add to colours"
        )


def _check_room(config: WorldConfig) -> None:
    for field, (low, high) in {"radius": config.radius, "travel": config.travel}.items():
        if not 0 < low <= high:
            raise ValueError(f"{field} is {(low, high)!r}: give 0 < smallest <= largest")
    outlines = [SHAPES[shape] for shape in config.shapes]
    box = max(max(2 * outline.half_width, outline.above + outline.below) for outline in outlines)
    needed = box * config.radius[1] + config.travel[1] + 2 * MARGIN
    if needed > 1:
        raise ValueError(
            f"an object of the largest radius {config.radius[1]} on the longest way "
            f"{config.travel[1]} needs {needed:.2f} of the frame: lower radius or travel"
        )


def _check_rows(config: WorldConfig) -> None:
    for count in range(1, config.max_letters + 1):
        if not row_motions(config, count):
            raise ValueError(
                f"a row of max_letters={config.max_letters} has no room in {config.size} px for "
                f"any of motions={config.motions!r}: lower max_letters, raise size, or add still, "
                "up or down to motions"
            )


def row_cell(size: int, count: int) -> tuple[int, int] | None:
    """Return the cell of a row of letters, (width, height) in pixels, as large as fits.

    Room to move is kept free above it and, where the letters stay large enough, beside it. None
    where the frame is too small.
    """
    room, kept = row_room(size), _kept(size)
    moving = cell_size(count, width=room - kept, height=room - kept)
    return moving or cell_size(count, width=room, height=room - kept)


def row_motions(config: WorldConfig, count: int) -> tuple[str, ...]:
    """Return the motions for which a row of `count` letters has room in the frame."""
    cell = row_cell(config.size, count)
    if cell is None:
        return ()
    is_free = cells_across(count) * cell[0] <= row_room(config.size) - _kept(config.size)
    return tuple(each for each in config.motions if is_free or not MOTIONS[each][0])


def row_room(size: int) -> int:
    """Return the width of a frame between its margins, in whole pixels."""
    return math.floor(size * (1 - MARGIN)) - math.ceil(size * MARGIN)


def _kept(size: int) -> int:
    """Return the shortest way of a row of letters, in whole pixels."""
    return math.ceil(size * TEXT_TRAVEL[0])


def all_combinations(config: WorldConfig) -> tuple[Combination, ...]:
    """Return every (colour, shape, motion) that the world can show."""
    return tuple(
        itertools.starmap(
            Combination, itertools.product(config.colours, config.shapes, config.motions)
        )
    )


@lru_cache(maxsize=64)
def held_out_combinations(config: WorldConfig) -> tuple[Combination, ...]:
    """Choose the combinations that training never shows.

    They are spread evenly, and every colour, shape, motion, and every pair of them, stays in
    training; where that leaves fewer than `held_out` asks for, fewer are withheld.
    """
    combinations = list(all_combinations(config))
    shown = Counter(pair for each in combinations for pair in _pairs(each))
    rng = np.random.default_rng((config.seed, 0x5EED))
    candidates = [combinations[i] for i in rng.permutation(len(combinations))]
    withheld: list[Combination] = []
    gone: Counter[tuple[str, ...]] = Counter()
    while candidates and len(withheld) < round(config.held_out * len(combinations)):
        candidates = [c for c in candidates if all(shown[p] - gone[p] > 1 for p in _pairs(c))]
        if not candidates:
            break
        chosen = min(candidates, key=lambda c: max(gone[p] / shown[p] for p in _pairs(c)))
        candidates.remove(chosen)
        withheld.append(chosen)
        gone.update(_pairs(chosen))
    return tuple(withheld)


@lru_cache(maxsize=64)
def trained_combinations(config: WorldConfig) -> tuple[Combination, ...]:
    """Return the combinations that training clips are drawn from."""
    withheld = set(held_out_combinations(config))
    return tuple(c for c in all_combinations(config) if c not in withheld)


def _pairs(combination: Combination) -> list[tuple[str, ...]]:
    """Return its three pairs; where each pair is shown, so is each colour, shape and motion."""
    colour, shape, motion = combination
    return [(colour, shape), (colour, motion), (shape, motion)]
