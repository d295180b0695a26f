"""The door to MLflow: open a store, start runs, read them back.

The client API only: no process-wide active run, so several runs live side by side. A sqlite file
serves every process of one machine (a writer waits for the lock); runs whose workers sit on other
machines need a server, and `Tracker.check_shared` says so.
"""

import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from video_platform.errors import TrackingError
from video_platform.tracking.config import TrackingConfig, is_local, sqlite_path
from video_platform.tracking.failures import describe, tracking_errors
from video_platform.tracking.redaction import redact, redact_text
from video_platform.tracking.run import Run

KIND = "vdp.kind"
PARENT = "vdp.parent."
FINGERPRINT = "vdp.fingerprint"

_LOCK_TIMEOUT_S = 60
_CONNECT_TIMEOUT_S = 10
_MAX_PARAM_LENGTH = 6000
_MAX_PARAMS = 100


def open_tracker(config: TrackingConfig, project: Path) -> "Tracker":
    """Open the tracking store of a recipe, creating database and experiment on first use.

    Args:
        config: which store and experiment.
        project: the folder that holds `mlflow.db` and `artifacts/` when `config.uri` is None.

    Raises:
        TrackingError: the store cannot be reached or opened.
    """
    uri = config.resolve(project)
    client = _connect(uri)
    location = (sqlite_path(uri).parent / "artifacts").as_uri() if is_local(uri) else None
    with tracking_errors(f"open the experiment {config.experiment!r}"):
        experiment = _experiment(client, config.experiment, location)
    if experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"the experiment {config.experiment!r} is deleted on {redact_text(uri)}; restore it, "
            "or name another one with tracking.experiment"
        )
    return Tracker(client, uri=uri, experiment_id=experiment.experiment_id)


class Tracker:
    """One experiment in one store.

    Attributes:
        uri: the tracking URI; may carry credentials, so print `str(tracker)` instead.
        client: the `mlflow.MlflowClient`.
    """

    def __init__(self, client: Any, *, uri: str, experiment_id: str) -> None:
        self.client = client
        self.uri = uri
        self.experiment_id = experiment_id

    def __str__(self) -> str:
        """Return the URI without credentials."""
        return redact_text(self.uri)

    def start(
        self,
        kind: str,
        *,
        name: str,
        params: Mapping[str, Any],
        parents: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Run:
        """Start a run; use it as a context manager.

        Args:
            kind: what the run makes: source, autoencoder, cache, transformer, student, evaluation.
            name: the name to show.
            params: the resolved recipe, nested as it is; secrets are hidden.
            parents: run ids by role, such as `{"cache": id, "autoencoder": id}`; the lineage.
            tags: further tags, such as `vdp.fingerprint`.
        """
        safe = redact(params)
        values = {KIND: kind, **{f"{PARENT}{role}": id for role, id in (parents or {}).items()}}
        values |= {key: redact_text(str(value)) for key, value in (tags or {}).items()}
        with tracking_errors(f"start the run {name!r}"):
            run_id = self.client.create_run(
                self.experiment_id, run_name=name, tags={**_context_tags(), **values}
            ).info.run_id
            self._log_params(run_id, safe)
            self.client.log_dict(run_id, safe, "config.json")
        return Run(self.client, run_id, owned=True)

    def attach(self, run_id: str) -> Run:
        """Open a run that another process owns, to log to it; leaving it does not end it."""
        self.get(run_id)
        return Run(self.client, run_id, owned=False)

    def get(self, run_id: str) -> Any:
        """Return MLflow's record of a run.

        Raises:
            TrackingError: there is no such run.
        """
        with tracking_errors(f"find the run {run_id!r} on {self}"):
            return self.client.get_run(run_id)

    def find(self, fingerprint: str) -> str | None:
        """Return the id of the newest run that is tagged with this fingerprint, if any."""
        if not fingerprint.isalnum():
            raise TrackingError(f"{fingerprint!r} is not a fingerprint: letters and digits only")
        with tracking_errors("search runs"):
            runs = self.client.search_runs(
                [self.experiment_id],
                filter_string=f"tags.`{FINGERPRINT}` = '{fingerprint}'",
                order_by=["attributes.start_time DESC"],
                max_results=1,
            )
        return str(runs[0].info.run_id) if runs else None

    def check_shared(self) -> None:
        """Refuse a store that only this machine can write to.

        Raises:
            TrackingError: the store is a sqlite file; call this when workers sit on other nodes.
        """
        if is_local(self.uri):
            raise TrackingError(
                f"{self} is a file of this machine, but workers on other nodes log to it; "
                "start `mlflow server` and name it with tracking.uri=http://..."
            )

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        flat = [Param(key, str(value)[:_MAX_PARAM_LENGTH]) for key, value in _flatten(params)]
        for start in range(0, len(flat), _MAX_PARAMS):
            self.client.log_batch(run_id, params=flat[start : start + _MAX_PARAMS])


def _connect(uri: str) -> Any:
    """Return a client whose store answers."""
    if urlsplit(uri).scheme in ("http", "https"):
        _check_reachable(uri)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    for name in ("mlflow.store.db.utils", "alembic"):  # the schema's history, at first use
        logging.getLogger(name).setLevel(logging.WARNING)
    with tracking_errors(f"open {redact_text(uri)}"):
        return MlflowClient(
            tracking_uri=f"{uri}?timeout={_LOCK_TIMEOUT_S}"
            if is_local(uri) and "?" not in uri
            else uri
        )


def _check_reachable(uri: str) -> None:
    """Ask once, with a short limit: MLflow itself would retry for minutes."""
    parts = urlsplit(uri)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    try:
        urllib.request.urlopen(bare, timeout=_CONNECT_TIMEOUT_S).close()  # noqa: S310  (http only)
    except urllib.error.HTTPError as answer:  # any answer is an answer
        answer.close()
    except (OSError, ValueError) as error:
        raise TrackingError(
            f"the tracking server {redact_text(uri)} does not answer: {describe(error)}; "
            "start it, or set tracking.uri (null keeps a file in the project folder)"
        ) from error


def _experiment(client: Any, name: str, location: str | None) -> Any:
    """Return the experiment of this name; of several processes that create it, one succeeds."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            client.create_experiment(name, artifact_location=location)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = client.get_experiment_by_name(name)
    return found


def _context_tags() -> dict[str, str]:
    """Return who started the run, by what command and from which commit, as MLflow sees it."""
    from mlflow.tracking.context.registry import resolve_tags

    return {key: redact_text(str(value)) for key, value in resolve_tags().items()}


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield `("a.b", value)` for each leaf."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
