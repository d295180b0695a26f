"""From a run back to everything it was made from.

Each run carries tags `vdp.parent.<role>` with the ids of the runs that made its inputs; following
them gives a tree from a model back to the cache, the autoencoder and the source.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from video_platform.errors import TrackingError

if TYPE_CHECKING:
    from rich.tree import Tree

    from video_platform.tracking.tracker import Tracker

MISSING = "not in this store"


@dataclass(frozen=True, kw_only=True)
class LineageNode:
    """One thing and what it was made from."""

    role: str
    """What the thing is to the one above it, such as `teacher`; at the root, its kind."""
    kind: str
    """What it is: source, autoencoder, cache, transformer, student, evaluation, clip."""
    name: str
    """The run's name."""
    run_id: str
    """The run that made it."""
    status: str
    """MLflow's status of the run, or `not in this store`."""
    started: str = ""
    """When the run began: ISO 8601, UTC, to the second."""
    details: Mapping[str, str] = field(default_factory=dict)
    """The run's other `vdp.` tags, such as fingerprints and URLs."""
    parents: tuple["LineageNode", ...] = ()
    """What it was made from, by role."""

    def as_dict(self) -> dict[str, Any]:
        """Return the tree as plain dicts and lists."""
        plain = {key: getattr(self, key) for key in ("role", "kind", "name", "run_id", "status")}
        return plain | {
            "started": self.started,
            "details": dict(self.details),
            "parents": [parent.as_dict() for parent in self.parents],
        }


def lineage(tracker: "Tracker", run_id: str) -> LineageNode:
    """Follow the parents of a run to the end.

    A parent that this store does not know becomes a leaf that says so.

    Raises:
        TrackingError: the run itself is not in this store.
    """
    return _node(tracker, run_id, role="", path=())


def _node(tracker: "Tracker", run_id: str, *, role: str, path: tuple[str, ...]) -> LineageNode:
    from video_platform.tracking.tracker import KIND, PARENT

    run = tracker.get(run_id)
    tags: dict[str, str] = run.data.tags
    kind = tags.get(KIND, "run")
    parents = {key.removeprefix(PARENT): tags[key] for key in sorted(tags) if PARENT in key}
    return LineageNode(
        role=role or kind,
        kind=kind,
        name=run.info.run_name or "",
        run_id=run_id,
        status=run.info.status,
        started=datetime.fromtimestamp(run.info.start_time / 1000, UTC).isoformat(
            timespec="seconds"
        ),
        details={
            key.removeprefix("vdp."): value
            for key, value in sorted(tags.items())
            if key.startswith("vdp.") and key != KIND and PARENT not in key
        },
        parents=tuple(
            _parent(tracker, id, role=role, path=(*path, run_id)) for role, id in parents.items()
        ),
    )


def _parent(tracker: "Tracker", run_id: str, *, role: str, path: tuple[str, ...]) -> LineageNode:
    if run_id in path:
        raise TrackingError(f"run {run_id} is its own ancestor: {' -> '.join((*path, run_id))}")
    try:
        return _node(tracker, run_id, role=role, path=path)
    except TrackingError as error:
        if getattr(error.__cause__, "error_code", "") != "RESOURCE_DOES_NOT_EXIST":
            raise
        return LineageNode(role=role, kind="run", name="", run_id=run_id, status=MISSING)


def as_rich_tree(node: LineageNode) -> "Tree":
    """Draw the tree for a terminal."""
    from rich.tree import Tree

    tree = Tree(_label(node), guide_style="dim")
    for parent in node.parents:
        tree.add(as_rich_tree(parent))
    return tree


def _label(node: LineageNode) -> Any:
    from rich.text import Text

    style = {"FINISHED": "green", "RUNNING": "yellow", "-": "dim"}.get(node.status, "red")
    label = Text(node.role, style="bold cyan")
    if node.kind not in (node.role, "run"):
        label.append(f" ({node.kind})", style="cyan")
    label.append(f"  {node.name}")
    if node.status != "-":
        label.append(f"  {node.status.lower()}", style=style)
    label.append(f"  {node.run_id}", style="dim")
    if node.started:
        label.append(f"  {node.started}", style="dim")
    for key, value in node.details.items():
        label.append(f"\n{key}: ", style="dim")
        label.append(value)
    return label
