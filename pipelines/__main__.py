"""Generate a clip: `python -m pipelines MODEL "a red circle moves right" --out clip.mp4`.

This path loads the model, torch and PyAV, and nothing of the training platform.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from video_platform.errors import ConfigError, VdpError

if TYPE_CHECKING:
    from pipelines.clip import Clip
    from pipelines.request import Wish

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def generate(
    model: Annotated[Path, typer.Argument(help="A model folder.", metavar="MODEL")],
    prompt: Annotated[str, typer.Argument(help="What to show.", metavar="PROMPT")],
    out: Annotated[Path, typer.Option(help="The mp4 file to write.")] = Path("clip.mp4"),
    image: Annotated[
        Path | None, typer.Option(help="A picture to begin with, for image-to-video models.")
    ] = None,
    last_image: Annotated[
        Path | None, typer.Option(help="A picture to end with, for models that take one.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps from noise to clip.")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Guidance scale; 1 is off. Not for distilled students.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same frames.")] = 0,
    frames: Annotated[int | None, typer.Option(help="Number of frames.")] = None,
    height: Annotated[int | None, typer.Option(help="Height in pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Width in pixels.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Name of a sampler, such as euler.")] = None,
    negative: Annotated[str, typer.Option(help="What guidance leads away from.")] = "",
) -> None:
    """Generate a clip from a prompt with a trained model; what is left out is the model's own."""
    if out.suffix != ".mp4":
        raise ConfigError(f"--out {str(out)!r} must end in .mp4")
    wish: Wish = {
        "num_frames": frames,
        "height": height,
        "width": width,
        "steps": steps,
        "guidance": guidance,
        "sampler": sampler,
    }
    shown = {"image": image, "last_image": last_image}
    _check_pictures(model, shown)
    asked = {"prompt": prompt, "seed": seed, "negative_prompt": negative, **shown}
    _save(_generate(model, asked, wish), out)


def _check_pictures(model: Path, shown: Mapping[str, Path | None]) -> None:
    """Refuse a wrong folder, and pictures that do not suit the model, before torch is loaded."""
    from pipelines.model_folder import ModelFolder
    from pipelines.request import check_frames

    card = ModelFolder.open(model).card
    for name, path in shown.items():
        if path is not None and not path.is_file():
            raise ConfigError(f"there is no file {str(path)!r} for {name}; give a picture")
    check_frames(card, *(int(path is not None) for path in shown.values()))


def _generate(model: Path, asked: Mapping[str, Any], wish: "Wish") -> "Clip":
    """Open the model and generate, with a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    from pipelines.image_to_video import ImageToVideo

    console = Console(stderr=True)
    with console.status("opening the model"):
        pipeline = ImageToVideo.open(model)
        steps = pipeline.base.settle(**wish).sampling.steps
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("generating", total=steps)
        return pipeline(
            **asked, on_step=lambda done, _: progress.update(task, completed=done), **wish
        )


def _save(clip: "Clip", out: Path) -> None:
    from pipelines.clip import save_clip

    try:
        save_clip(clip, out)
    except OSError as error:
        raise ConfigError(f"cannot write --out {str(out)!r}: {error.strerror or error}") from None
    frames, height, width, _ = clip.frames.shape
    made = clip.provenance
    typer.echo(
        f"{out}: {frames} frames of {width} x {height} at {clip.fps:g} fps, "
        f"{made['sampler']} in {made['steps']} steps, guidance {made['guidance']:g}, "
        f"seed {made['seed']}, model {made['model']} {made['model_identity']}"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; a `VdpError` and wrong usage pass through to the caller."""
    app(
        args=list(sys.argv[1:] if argv is None else argv),
        prog_name="python -m pipelines",
        standalone_mode=False,
    )


def _run() -> int:
    try:
        main()
    except typer.TyperException as error:
        return _fail(error.format_message(), error.exit_code)
    except VdpError as error:
        return _fail(str(error), error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    return 0


def _fail(message: str, code: int) -> int:
    typer.echo(f"pipelines: {' '.join(message.split())}", err=True)
    return code


if __name__ == "__main__":
    sys.exit(_run())
