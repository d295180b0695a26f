"""MLflow's failures, told as ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from video_platform.errors import TrackingError
from video_platform.tracking.redaction import redact_text


def describe(error: Exception) -> str:
    """Say a foreign error in one short line, without credentials."""
    return redact_text(" ".join(str(error).split()))[:300]


def foreign_errors() -> tuple[type[Exception], ...]:
    """Return what MLflow and the libraries below it raise for a server that does not serve."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError


@contextmanager
def tracking_errors(attempt: str) -> Iterator[None]:
    """Turn foreign failures inside the block into a `TrackingError` that says what was tried."""
    try:
        yield
    except foreign_errors() as error:
        raise TrackingError(
            f"could not {attempt}: {describe(error)}; check tracking.uri and the server there"
        ) from error
