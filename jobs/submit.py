"""Run a job on a Ray cluster: `vdp submit pretrain RECIPE --address http://127.0.0.1:8265`.

The code is shipped without the junk, the log is streamed, and the job's exit code is returned.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from jobs.cli import RECIPE_JOBS
from jobs.recipe import Recipe
from video_platform.cluster import ROOT, interpreter, submit_job
from video_platform.config import load_recipe, pick
from video_platform.errors import ConfigError


def run(job: str, recipe: str, overrides: Sequence[str], *, address: str, wait: bool = True) -> int:
    """Submit a job and return its exit code.

    Args:
        job: a name in `RECIPE_JOBS`.
        recipe: a recipe file inside of the project, which is what travels.
        overrides: `a.b=c`.
        address: of the head's dashboard.
        wait: follow the log until the job ends.

    Raises:
        ConfigError: the job, the recipe or an override is wrong; nothing was submitted.
        ClusterError: the head cannot be reached.
    """
    pick(RECIPE_JOBS, job, "job")
    loaded = load_recipe(Recipe, recipe, overrides)
    path = Path(recipe).resolve()
    if not path.is_relative_to(ROOT):
        raise ConfigError(f"{recipe} lies outside of {ROOT}, which is what is sent; copy it there")
    given = [str(path.relative_to(ROOT)), *overrides, *rooted(loaded)]
    argv = [interpreter(address), "-m", "jobs.cli", job, *given]
    return submit_job(argv, address=address, wait=wait, on_log=lambda text: print(text, end=""))


def rooted(recipe: Recipe) -> list[str]:
    """Return overrides that make paths mean on the cluster what they mean here.

    A job runs in a copy of the code that is thrown away: what it wrote to a relative path is lost.
    """
    places = {
        "project": recipe.project,
        "source.url": recipe.source.url if recipe.source else None,
        "cache.url": recipe.cache.url if recipe.cache else None,
        "autoencoder.path": recipe.autoencoder.path,
        "autoencoder.start_from": recipe.autoencoder.start_from,
        "model.out": recipe.model.out,
        "distill.out": recipe.distill.out if recipe.distill else None,
        "distill.teacher": recipe.distill.teacher if recipe.distill else None,
        "evaluate.prompt_file": recipe.evaluate.prompt_file if recipe.evaluate else None,
    }
    places |= {f"layers.{name}.path": layer.path for name, layer in recipe.layers.items()}
    judged = recipe.evaluate.autoencoders if recipe.evaluate else None
    if isinstance(judged, str):
        places["evaluate.autoencoders"] = judged
    elif judged:
        places |= {f"evaluate.autoencoders.{name}": folder for name, folder in judged.items()}
    return [
        f"{key}={json.dumps(str(Path(place).absolute()))}"
        for key, place in places.items()
        if place is not None and "://" not in place
    ]
