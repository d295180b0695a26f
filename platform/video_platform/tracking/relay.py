"""A run that is logged to elsewhere: what workers note travels to the driver, which stores it.

    run = relayed(run_id, send)          # on a worker: a `Run` like any other
    deliver(message, run)                # on the driver, with its own `Run`

So workers need neither the tracking database nor a way to its server. Metrics, pictures and files
are on their way as soon as they are noted: what was told of a step is there before a checkpoint of
that step is, so that a worker's death leaves no gap in a curve.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from video_platform.tracking.run import Run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Note:
    """One thing to store in a run."""

    kind: str
    """`metrics`, `tag` or `file`."""
    name: str = ""
    """The tag's key, or the path of an artifact."""
    content: Any = None
    """Metrics as (name, value, time in ms, step); a tag's value; the bytes of a file."""


Send = Callable[[Note], None]


class RelayClient:
    """What `Run` needs of MLflow's client, sending notes instead.

    Args:
        send: brings a note to the driver.
    """

    def __init__(self, send: Send) -> None:
        self._send = send

    def log_batch(self, run_id: str, metrics: Sequence[Any]) -> None:
        """Send metrics."""
        points = [(m.key, m.value, m.timestamp, m.step) for m in metrics]
        self._send(Note(kind="metrics", content=points))

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        """Send a tag."""
        self._send(Note(kind="tag", name=key, content=value))

    def log_text(self, run_id: str, text: str, path: str) -> None:
        """Send a text as a file."""
        self._send(Note(kind="file", name=path, content=text.encode()))

    def log_artifact(self, run_id: str, path: str, folder: str | None = None) -> None:
        """Send a file."""
        name = Path(folder or "", Path(path).name).as_posix()
        self._send(Note(kind="file", name=name, content=Path(path).read_bytes()))

    def log_artifacts(self, run_id: str, path: str, folder: str | None = None) -> None:
        """Send all files of a folder."""
        for file in sorted(Path(path).rglob("*")):
            if file.is_file():
                inside = Path(folder or "", file.relative_to(path).parent)
                self.log_artifact(run_id, str(file), inside.as_posix())


def relayed(run_id: str, send: Send) -> Run:
    """Return a run whose notes are sent; leaving it does not end it."""
    return Run(RelayClient(send), run_id, owned=False, buffered=False)


def deliver(note: Note, run: Run) -> None:
    """Store a note that was sent.

    Raises:
        TrackingError: the store did not take a tag or a file.
    """
    actions: Mapping[str, Callable[[], None]] = {
        "metrics": lambda: run.points(note.content),
        "tag": lambda: run.tag(note.name, note.content),
        "file": lambda: _store(note, run),
    }
    actions[note.kind]()


def _store(note: Note, run: Run) -> None:
    target = Path(note.name)
    with TemporaryDirectory() as scratch:
        file = Path(scratch, target.name)
        file.write_bytes(note.content)
        run.artifact(file, None if target.parent == Path() else target.parent.as_posix())
