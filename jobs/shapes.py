"""Write the synthetic world as a dataset: `vdp shapes jobs/recipes/shapes.yaml`.

Reads `world` and `source`; writes the dataset where `source.url` will look for it.
"""

import sys

from jobs.progress import progress
from jobs.recipe import Recipe, needed
from video_platform.shapes.write import Written, write_dataset


def run(recipe: Recipe) -> Written:
    """Write the dataset, or what is missing of it."""
    world = needed(recipe.world, "world", "shapes")
    source = needed(recipe.source, "source", "shapes")
    with progress("shapes", world.num_clips) as show:
        return write_dataset(
            world,
            source.url,
            format=source.format,
            on_progress=lambda done, total: show(done, {}),
        )


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["shapes", *sys.argv[1:]]))
