"""Write the synthetic world as a dataset: `vdp shapes jobs/recipes/shapes.yaml`."""

from collections.abc import Callable
from dataclasses import dataclass

from video_platform.datasets.config import SourceConfig
from video_platform.shapes.world import WorldConfig
from video_platform.shapes.write import Written, write_dataset


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to draw and where to put it."""

    world: WorldConfig
    """The world; every clip follows from it."""

    source: SourceConfig
    """Where the dataset goes and how it is laid out: later jobs read it by the same section."""

    held_out: bool = False
    """Write clips of the withheld combinations, and no others."""


def run(config: Config, *, on_progress: Callable[[int, int], None] | None = None) -> Written:
    """Write the dataset, or what is missing of it.

    Args:
        config: the recipe.
        on_progress: called with the clips done and the clips in all.
    """
    return write_dataset(
        config.world,
        config.source.url,
        format=config.source.format,
        held_out=config.held_out,
        on_progress=on_progress,
    )
