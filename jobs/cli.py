"""The command line, `vdp`: one command a job.

Every command imports its job only when it runs, so that `vdp --help` answers at once. A `VdpError`
becomes one line and its exit code; anything else is a defect and keeps its traceback.
"""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.__main__ import generate
from video_platform.errors import VdpError

RECIPE_JOBS = {
    "demo": ("jobs.demo", "Make a world, train on it from nothing, distil, evaluate, generate."),
    "distill": ("jobs.distill", "Distil a model into a student that needs few steps."),
    "evaluate": ("jobs.evaluate", "Judge models, or autoencoders, side by side."),
    "precompute": ("jobs.precompute_latents", "Decode videos and fill the latent cache."),
    "pretrain": ("jobs.pretrain", "Train a text-to-video model from the latent cache."),
    "shapes": ("jobs.shapes", "Write the synthetic dataset of moving shapes."),
    "train-autoencoder": ("jobs.train_autoencoder", "Train a 3D causal autoencoder on videos."),
}
"""Commands that take a recipe: the module whose `run(recipe)` does the work, and what it does."""

DEMO_RECIPE = Path(__file__).parent / "recipes" / "shapes-demo.yaml"

app = typer.Typer(
    name="vdp",
    help="From raw videos to clips: decode, encode, train, distil, evaluate, generate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cache_app = typer.Typer(help="Look after a latent cache.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")

RecipePath = Annotated[str, typer.Argument(help="A recipe: a YAML file.", metavar="RECIPE")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Changes to the recipe.", metavar="[a.b=c]...")
]
PrintConfig = Annotated[
    bool, typer.Option("--print-config", help="Print the resolved recipe and stop.")
]
CacheUrl = Annotated[str, typer.Argument(help="The cache: a folder or an s3:// URL.")]
Snapshot = Annotated[int | None, typer.Option(help="Snapshot number; the newest by default.")]


def _recipe_job(module: str, path: str, overrides: Sequence[str], print_config: bool) -> None:
    """Load a recipe and run one job with it, or show what it would run with."""
    from jobs.recipe import Recipe
    from video_platform.config import load_recipe, to_yaml

    recipe = load_recipe(Recipe, path, overrides)
    if print_config:
        typer.echo(to_yaml(recipe), nl=False)
    else:
        importlib.import_module(module).run(recipe)


def _add_recipe_job(name: str, module: str, summary: str) -> None:
    def command(
        recipe: RecipePath, overrides: Overrides = None, print_config: PrintConfig = False
    ) -> None:
        _recipe_job(module, recipe, overrides or (), print_config)

    app.command(name, help=summary)(command)


@app.command(help=RECIPE_JOBS["demo"][1])
def demo(overrides: Overrides = None, print_config: PrintConfig = False) -> None:
    """Run the whole road on a small world; its recipe is jobs/recipes/shapes-demo.yaml."""
    _recipe_job(RECIPE_JOBS["demo"][0], str(DEMO_RECIPE), overrides or (), print_config)


@app.command(help=RECIPE_JOBS["precompute"][1])
def precompute(
    recipe: RecipePath,
    overrides: Overrides = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Make a few clips only, and forecast the rest.")
    ] = False,
    print_config: PrintConfig = False,
) -> None:
    """Fill the latent cache, or forecast what that takes."""
    module = "jobs.rehearsal" if plan else RECIPE_JOBS["precompute"][0]
    _recipe_job(module, recipe, overrides or (), print_config)


@app.command()
def plan(
    recipe: RecipePath,
    overrides: Overrides = None,
    gpus: Annotated[
        int | None, typer.Option(help="How many devices; default: the recipe's.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Of which kind: h100, a100, ... cpu.")] = None,
    utilisation: Annotated[
        float | None, typer.Option(help="Share of the peak that matrix products reach.")
    ] = None,
    all_settings: Annotated[bool, typer.Option("--all", help="Show every setting.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not tables.")] = False,
) -> None:
    """Forecast memory, hours and money of a recipe's training runs on some devices."""
    from jobs.plan import run
    from jobs.recipe import Recipe
    from video_platform.config import load_recipe

    given = {"gpus": gpus, "kind": kind, "utilisation": utilisation}
    changes = [f"plan.{name}={value}" for name, value in given.items() if value is not None]
    run(
        load_recipe(Recipe, recipe, [*(overrides or ()), *changes]),
        as_json=as_json,
        all_settings=all_settings,
    )


app.command()(generate)

for _name, (_module, _summary) in RECIPE_JOBS.items():
    if _name not in ("demo", "precompute"):
        _add_recipe_job(_name, _module, _summary)


@app.command("export")
def export_model(
    recipe: RecipePath,
    out: Annotated[str, typer.Option(help="The folder to write.")],
    overrides: Overrides = None,
    of: Annotated[str, typer.Option(help="pretrain or train-autoencoder.")] = "pretrain",
    step: Annotated[int | None, typer.Option(help="Of which checkpoint; the newest.")] = None,
    weights: Annotated[str, typer.Option(help="weights, ema or another average.")] = "ema",
) -> None:
    """Make a model folder of a run's checkpoint, while the run goes on or after it stopped."""
    from jobs.export_model import run
    from jobs.recipe import Recipe
    from video_platform.config import load_recipe

    loaded = load_recipe(Recipe, recipe, overrides or ())
    run(loaded, out=Path(out), of=of, step=step, weights=weights)


@app.command()
def inspect(
    url: Annotated[str, typer.Argument(help="A folder, shards or a table of videos, or one.")],
    recipe: Annotated[
        str | None, typer.Option(help="Show which clips this recipe would make of it.")
    ] = None,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List what a source holds: every file, readable or not, and why not."""
    from jobs.inspect_source import run, run_plan
    from jobs.recipe import Recipe
    from video_platform.config import load_recipe
    from video_platform.datasets.config import SourceConfig

    if recipe is None:
        run(load_recipe(SourceConfig, None, [f"url={url}", *(overrides or ())]), as_json=as_json)
    else:
        changes = [f"source.url={url}", *(overrides or ())]
        run_plan(load_recipe(Recipe, recipe, changes), as_json=as_json)


@cache_app.command()
def info(url: CacheUrl) -> None:
    """Show the layers, commits and snapshots of a cache."""
    from jobs.cache import info as job

    job(url)


@cache_app.command()
def verify(url: CacheUrl, snapshot: Snapshot = None) -> None:
    """Check every stored byte against its checksum; exit code 1 when something is wrong."""
    from jobs.cache import verify as job

    job(url, snapshot=snapshot)


@cache_app.command()
def snapshot(url: CacheUrl) -> None:
    """Freeze what is committed now into a new snapshot."""
    from jobs.cache import snapshot as job

    job(url)


@cache_app.command()
def gc(
    url: CacheUrl,
    older_than: Annotated[str, typer.Option(help="Age of what may go: 12h, 7d.")] = "7d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Remove what dead writers left and nothing names; safe while jobs run."""
    from jobs.cache import gc as job

    job(url, older_than=older_than, dry_run=dry_run)


@cache_app.command()
def export(
    url: CacheUrl,
    out: Annotated[str, typer.Argument(help="A folder or an s3:// URL of its own.")],
    format: Annotated[str, typer.Option(help="webdataset or mds.")],
    snapshot: Snapshot = None,
    shard_size: Annotated[int, typer.Option(help="Most MiB of tensors in a shard.")] = 256,
) -> None:
    """Write a snapshot as WebDataset or MDS shards; killed, it goes on where it was."""
    from jobs.cache import export as job

    job(url, out, format=format, snapshot=snapshot, shard_mb=shard_size)


@app.command()
def lineage(
    target: Annotated[str, typer.Argument(help="A run id, a model folder or a clip.")],
    tracking: Annotated[
        str | None,
        typer.Option("--tracking-uri", help="The MLflow server; default: the project's file."),
    ] = None,
    project: Annotated[str, typer.Option(help="The recipe's project folder.")] = "outputs",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not a tree.")] = False,
) -> None:
    """Print where a run, a model or a clip comes from, back to the source videos."""
    from jobs.lineage import run

    run(target, uri=tracking, project=project, as_json=as_json)


@app.command()
def submit(
    job: Annotated[str, typer.Argument(help=f"One of: {', '.join(RECIPE_JOBS)}.")],
    recipe: RecipePath,
    overrides: Overrides = None,
    address: Annotated[str, typer.Option(help="The head's dashboard.")] = "http://127.0.0.1:8265",
    wait: Annotated[bool, typer.Option(help="Stream the log until the job ends.")] = True,
) -> None:
    """Run a job on a Ray cluster; its exit code becomes this command's."""
    from jobs.submit import run

    sys.exit(run(job, recipe, overrides or (), address=address, wait=wait))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code, see `video_platform.errors.EXIT_CODES`."""
    try:
        code: Any = app(args=list(sys.argv[1:] if argv is None else argv), standalone_mode=False)
    except typer.Abort:
        code = 130
    except typer.TyperException as error:
        return _say(error.format_message(), error.exit_code)
    except VdpError as error:
        return _say(str(error), error.exit_code)
    if code == 130:
        return _say("interrupted; run the same command again to go on", code)
    return code if isinstance(code, int) else 0


def _say(message: str, code: int) -> int:
    typer.echo(f"vdp: {' '.join(message.split())}", err=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
