"""The whole road on a small world, from nothing to clips: `vdp demo`.

    shapes -> train-autoencoder -> precompute -> pretrain -> distill -> evaluate -> generate

The same jobs as on a cluster, one after the other on a Ray of this machine. Killed at any moment,
it goes on where it was when it is started again.
"""

import sys
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from jobs import distill, evaluate, precompute_latents, pretrain, shapes, train_autoencoder
from jobs.evaluation_results import EvaluationResult
from jobs.launch import platform
from jobs.recipe import Recipe
from jobs.stages import Stages
from pipelines.clip import save_clip
from pipelines.text_to_video import TextToVideo
from video_platform.tracking.redaction import redact_text

SEED = 1
"""Seed of the clips that the demo leaves behind."""


def run(recipe: Recipe) -> None:
    """Run every stage and say what came of it."""
    stages = Stages()
    console = Console()
    road: dict[str, Callable[[Recipe], object]] = {
        "shapes": shapes.run,
        "train-autoencoder": train_autoencoder.run,
        "precompute": precompute_latents.run,
        "pretrain": pretrain.run,
        "distill": distill.run,
        "evaluate": evaluate.run,
        "generate": generate_clips,
    }
    with platform(recipe) as tracker:
        for name, job in road.items():
            with stages.stage(name):
                outcome = job(recipe)
            cost = stages.costs[-1]
            console.print(f"[green]{name}[/] done in {cost.seconds:.0f} s", highlight=False)
            if isinstance(outcome, EvaluationResult):
                report = outcome.folder / "report.html"
    console.print(cost_table(stages))
    console.print(f"report   {report.absolute()}", soft_wrap=True)
    console.print(f"clips    {(recipe.folder / 'clips').absolute()}", soft_wrap=True)
    console.print(
        f"MLflow   mlflow ui --backend-store-uri {redact_text(tracker.uri)}", soft_wrap=True
    )
    runs = f"#/experiments/{tracker.experiment_id}/runs?workflowType=machine_learning"
    console.print(f"         http://127.0.0.1:5000/{runs}", soft_wrap=True)


def generate_clips(recipe: Recipe) -> None:
    """Make one clip for each sample prompt with the model and with its student."""
    prompts = list(recipe.pretrain.sample_prompts) if recipe.pretrain else []
    for name, folder in {"model": recipe.model_folder, "student": recipe.student_folder}.items():
        clips = TextToVideo.open(folder)(prompts, seed=SEED)
        for prompt, clip in zip(prompts, clips, strict=True):
            save_clip(clip, recipe.folder / "clips" / f"{prompt.replace(' ', '-')}-{name}.mp4")


def cost_table(stages: Stages) -> Table:
    """Lay out time and memory of each stage."""
    table = Table(title="What each stage took")
    table.add_column("stage")
    table.add_column("time", justify="right")
    table.add_column("peak memory", justify="right")
    for cost in stages.costs:
        table.add_row(cost.name, f"{cost.seconds:.0f} s", f"{cost.peak_bytes / 1e9:.1f} GB")
    table.add_section()
    total = sum(cost.seconds for cost in stages.costs)
    peak = max(cost.peak_bytes for cost in stages.costs)
    table.add_row("all", f"{total:.0f} s", f"{peak / 1e9:.1f} GB")
    return table


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["demo", *sys.argv[1:]]))
