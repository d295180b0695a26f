"""Print where something comes from, back to the source videos: `vdp lineage TARGET`.

The target is a run's id, a model folder (its card names the run that made it) or a generated clip
(its metadata name the model and that model's run).
"""

import dataclasses
from pathlib import Path

from pipelines.clip import read_provenance
from pipelines.model_folder import CARD, ModelFolder
from video_platform.errors import ConfigError
from video_platform.tracking import LineageNode, Tracker, TrackingConfig, lineage, open_tracker
from video_platform.tracking.config import sqlite_path


def run(
    target: str, *, uri: str | None = None, project: str = "outputs", as_json: bool = False
) -> None:
    """Print the tree of what `target` was made from.

    Args:
        target: a run id, a model folder or an mp4 file.
        uri: the tracking server; None reads the project folder's own database.
        project: the project folder.
        as_json: print JSON instead of a tree.

    Raises:
        ConfigError: the target names no run, or the project keeps no runs.
    """
    run_id = run_of(target)
    tree = with_target(target, trace(run_id, uri=uri, project=Path(project)))
    if as_json:
        import json

        print(json.dumps(tree.as_dict(), indent=2))
        return
    from rich.console import Console

    from video_platform.tracking import as_rich_tree

    Console(soft_wrap=True).print(as_rich_tree(tree))


def run_of(target: str) -> str:
    """Return the id of the run that a target leads to.

    Raises:
        ConfigError: it leads to none.
    """
    path = Path(target)
    if path.is_dir():
        found = ModelFolder.open(path).card.run_id
    elif path.is_file():
        found = read_provenance(path).get("run_id")
    elif target.isalnum():
        return target
    else:
        raise ConfigError(
            f"{target!r} is neither a model folder nor a clip nor a run id; "
            "give the folder with model.json, an mp4 file, or an id of letters and digits"
        )
    if not isinstance(found, str):
        where = path / CARD if path.is_dir() else path
        raise ConfigError(f"{str(where)!r} names no run; it was made without tracking")
    return found


def trace(run_id: str, *, uri: str | None, project: Path) -> LineageNode:
    """Read the lineage of a run; never makes a database to look into.

    Raises:
        ConfigError: there is no database in the project folder.
        TrackingError: the server cannot be read, or does not know the run.
    """
    try:
        config = TrackingConfig(uri=uri)
    except ValueError as error:
        raise ConfigError(f"--tracking-uri {uri!r}: {error}") from None
    resolved = config.resolve(project)
    if resolved.startswith("sqlite:") and not sqlite_path(resolved).is_file():
        raise ConfigError(
            f"there are no tracked runs in {str(sqlite_path(resolved))!r}; "
            "name the server or database with --tracking-uri"
        )
    tracker: Tracker = open_tracker(config, project)
    return lineage(tracker, run_id)


def with_target(target: str, tree: LineageNode) -> LineageNode:
    """Put a clip above the model that made it; folders and runs are their own root."""
    path = Path(target)
    if not path.is_file():
        return tree
    told = read_provenance(path)
    details: dict[str, str] = {
        key: f"{told[key]}" for key in ("seed", "steps", "guidance") if key in told
    }
    return LineageNode(
        role="clip",
        kind="clip",
        name=path.name,
        run_id=str(told.get("model_identity", "")),
        status="-",
        details=details,
        parents=(dataclasses.replace(tree, role="model"),),
    )
