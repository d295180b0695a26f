"""Make a model folder of a checkpoint: `vdp export RECIPE --out FOLDER`.

The run may go on meanwhile, or have stopped anywhere. Its GPUs, workers and ZeRO stage are not
needed: one process reads the checkpoint from a folder or S3. The folder is what training would have
written had it ended there, and opens like it.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import typer

from jobs import pretrain, train_autoencoder
from jobs.recipe import Recipe
from video_platform.config import pick


class Export(Protocol):
    """Writes the folder of one kind of run."""

    def __call__(self, recipe: Recipe, *, kind: str, step: int | None) -> int:
        """Write it, of some weights of a checkpoint; return the step."""
        ...


def run(recipe: Recipe, *, out: Path, of: str, step: int | None, weights: str) -> None:
    """Write the folder and say what is in it.

    Args:
        recipe: of the run, with the same overrides.
        out: the folder.
        of: which run of the recipe; see `RUNS`.
        step: of which checkpoint; None for the newest that is whole.
        weights: `weights`, `ema` or another average by name.

    Raises:
        CheckpointError: there is no such checkpoint.
        ConfigError: there is no such run or average, or `out` holds something else.
    """
    placed, export = pick(RUNS, of, "--of")
    step = export(placed(recipe, str(out.absolute())), kind=weights, step=step)
    typer.echo(f"{out}: {weights} of {of} after step {step}")


def _as_model(recipe: Recipe, out: str) -> Recipe:
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, out=out))


def _as_autoencoder(recipe: Recipe, out: str) -> Recipe:
    section = dataclasses.replace(recipe.autoencoder, path=out)
    return dataclasses.replace(recipe, autoencoder=section)


RUNS: dict[str, tuple[Callable[[Recipe, str], Recipe], Export]] = {
    "pretrain": (_as_model, pretrain.export),
    "train-autoencoder": (_as_autoencoder, train_autoencoder.export),
}
"""Which runs can be exported: how a recipe says where to, and what writes it."""
