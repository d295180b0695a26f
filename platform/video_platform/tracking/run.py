"""One run: what goes in, and how it ends.

Metrics are put into a buffer that a thread sends in batches, so that logging costs a training loop
microseconds; everything else is sent at once. A batch that cannot be sent is kept and tried again;
only a run that ends with unsent metrics raises.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from video_platform.errors import TrackingError
from video_platform.tracking.failures import describe, foreign_errors, tracking_errors
from video_platform.tracking.redaction import redact_text

FLUSH_EVERY_S = 1.0
MAX_BATCH = 1000
"""MLflow takes at most this many metrics a request."""

_logger = logging.getLogger(__name__)


class Run:
    """A run that is open for logging; a context manager that ends it.

    Leaving by an exception marks the run FAILED, leaving by an interrupt KILLED. A run that was
    only attached to is flushed and left open for its owner.

    Attributes:
        id: the run's id, which is also what lineage refers to.
    """

    def __init__(self, client: Any, run_id: str, *, owned: bool, buffered: bool = True) -> None:
        self.id = run_id
        self._buffered = buffered
        self._client = client
        self._owned = owned
        self._buffer: list[Any] = []
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._send_now_and_then, daemon=True)
        self._thread.start()

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Note the values of one step; they are sent within about a second."""
        now_ms = int(time.time() * 1000)
        self.points([(name, float(value), now_ms, step) for name, value in values.items()])

    def points(self, points: Iterable[tuple[str, float, int, int]]) -> None:
        """Note metrics as (name, value, time in milliseconds since 1970, step)."""
        from mlflow.entities import Metric

        with self._lock:
            self._buffer.extend(Metric(*point) for point in points)
        if not self._buffered:
            self._send()

    def tag(self, key: str, value: str) -> None:
        """Set a tag; credentials in the value are hidden."""
        with tracking_errors(f"set the tag {key!r}"):
            self._client.set_tag(self.id, key, redact_text(str(value)))

    def text(self, text: str, path: str) -> None:
        """Store a text as an artifact at `path`."""
        with tracking_errors(f"store the text {path!r}"):
            self._client.log_text(self.id, text, path)

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Store a file, or a folder with all that it holds, under the artifact folder `folder`."""
        if not path.exists():
            raise TrackingError(f"there is no file {str(path)!r} to store with run {self.id}")
        store = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        with tracking_errors(f"store {path.name!r}"):
            store(self.id, str(path), folder)

    def image(self, data: bytes, path: str) -> None:
        """Store an encoded picture, such as a PNG, as an artifact at `path`."""
        self._store(path, lambda file: file.write_bytes(data))

    def figure(self, figure: Any, path: str) -> None:
        """Store a matplotlib figure as an artifact; the ending of `path` says the format."""
        self._store(path, lambda file: figure.savefig(file, bbox_inches="tight"))

    def flush(self) -> None:
        """Send what is buffered now.

        Raises:
            TrackingError: the server did not take it.
        """
        self._send()
        if self._failure is not None:
            raise TrackingError(
                f"{len(self._buffer)} metrics of run {self.id} could not be sent: "
                f"{describe(self._failure)}; check the server at tracking.uri"
            ) from self._failure

    def close(self, status: str = "FINISHED") -> None:
        """Send what is left and, if the run is ours, end it with `status`."""
        self._stop.set()
        self._thread.join()
        self.flush()
        if self._owned:
            with tracking_errors("end the run"):
                self._client.set_terminated(self.id, status)

    def __enter__(self) -> Self:
        """Open for logging; nothing to do."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the run with the status that the way out deserves."""
        if error is None:
            self.close()
            return
        try:
            if self._owned:
                self.tag("vdp.error", f"{type(error).__name__}: {error}"[:1000])
            self.close(status_of(error))
        except TrackingError as failure:  # the reason that ends the block matters more
            _logger.warning("%s", failure)

    def _store(self, path: str, write: Callable[[Path], object]) -> None:
        target = Path(path)
        with TemporaryDirectory() as scratch:
            file = Path(scratch) / target.name
            write(file)
            self.artifact(file, None if target.parent == Path() else target.parent.as_posix())

    def _send_now_and_then(self) -> None:
        while not self._stop.wait(FLUSH_EVERY_S):
            self._send()

    def _send(self) -> None:
        """Send whole batches until the buffer is empty or the server refuses."""
        with self._sending:
            while True:
                with self._lock:
                    batch = self._buffer[:MAX_BATCH]
                if not batch:
                    self._failure = None
                    return
                try:
                    self._client.log_batch(self.id, metrics=batch)
                except foreign_errors() as error:
                    if self._failure is None:
                        _logger.warning("metrics wait to be sent: %s", describe(error))
                    self._failure = error
                    return
                with self._lock:
                    del self._buffer[: len(batch)]


def status_of(error: BaseException) -> str:
    """Return MLflow's word for a run that ended with this exception."""
    if isinstance(error, KeyboardInterrupt):
        return "KILLED"
    if isinstance(error, SystemExit):
        return "FINISHED" if error.code in (None, 0) else "KILLED"
    return "FAILED"
