"""Which tracking server, and which experiment on it."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql")
"""What `tracking.uri` may start with."""


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """The `tracking` section of a recipe."""

    uri: str | None = None
    """MLflow's tracking URI, such as `http://127.0.0.1:5000` or `sqlite:////data/mlflow.db`; None
    keeps a sqlite file and the artifacts in the project folder."""
    experiment: str = "video-diffusion"
    """The MLflow experiment that the runs belong to."""

    def __post_init__(self) -> None:
        """Refuse an empty name and a URI that no tracking store understands."""
        if not self.experiment.strip():
            raise ValueError("an experiment needs a name")
        if self.uri is None:
            return
        known = urlsplit(self.uri).scheme.split("+")[0] in SCHEMES
        if not known or (is_local(self.uri) and not self.uri.partition(":///")[2]):
            raise ValueError(
                "a tracking URI starts with one of "
                + ", ".join(f"{scheme}:" for scheme in SCHEMES)
                + " (a local file is sqlite:////absolute/path.db)"
            )

    def resolve(self, project: Path) -> str:
        """Return the URI to use, the same from every working directory.

        Args:
            project: the folder that holds the database when no URI is given.
        """
        uri = self.uri or f"sqlite:///{project / 'mlflow.db'}"
        if not is_local(uri):
            return uri
        _, question, options = uri.partition("?")
        return f"sqlite:///{sqlite_path(uri)}{question}{options}"


def is_local(uri: str) -> bool:
    """Say whether only this machine can write to the store at `uri`."""
    return urlsplit(uri).scheme.split("+")[0] == "sqlite"


def sqlite_path(uri: str) -> Path:
    """Return the database file of a `sqlite:///` URI."""
    return Path(uri.partition("?")[0].partition(":///")[2]).absolute()
