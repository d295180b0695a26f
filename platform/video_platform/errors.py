"""Every error a user can meet, as one tree.

    VdpError                 says what was given, what is allowed, which knob to turn
    ├── ConfigError          a recipe, an override or a command-line argument
    ├── SourceError          a dataset that cannot be listed or read
    │   └── MediaError       one media file; carries a typed `reason`
    ├── StorageError         a store that is unreachable, refused or unsafe
    ├── CacheError           the latent cache
    │   ├── StaleCacheError  made by another autoencoder, pixel policy or encode version
    │   └── CorruptCacheError  bytes that do not match their checksum
    ├── TrainingError        a run that cannot start or go on
    │   ├── CheckpointError  a checkpoint that is missing, torn or of another run
    │   └── DivergedError    losses or gradients stay non-finite
    ├── TrackingError        MLflow
    ├── ClusterError         Ray
    │   ├── WorkerDiedError  a training worker was killed, or crashed
    │   └── HungError        a training worker made no progress
    ├── LeaseError           another driver works on the same run
    └── PreemptedError       SIGTERM: the run has saved and goes on when started again

The command line prints the message of a `VdpError` as one line and exits with its code, one of
`EXIT_CODES`; anything else is a defect and keeps its traceback.
"""

from typing import ClassVar


class VdpError(Exception):
    """Any failure that the user can understand and mend.

    Attributes:
        exit_code: of the command line.
        passing: whether the same attempt, made again, may succeed with nothing changed.
    """

    exit_code: ClassVar[int] = 1
    passing: bool = False


class ConfigError(VdpError):
    """A recipe, an override or an argument is wrong."""

    exit_code = 2


class SourceError(VdpError):
    """A dataset cannot be listed or read."""


class MediaError(SourceError):
    """One media file cannot be used.

    Attributes:
        reason: one of `video_platform.video.limits.REASONS`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message

    def __reduce__(self) -> tuple[type["MediaError"], tuple[str, str]]:
        """Cross process borders with both arguments."""
        return type(self), (self.reason, self.message)


class StorageError(VdpError):
    """A store is unreachable, not allowed, or does not keep the promises that the cache needs.

    Args:
        message: what happened.
        passing: False for what only a person can mend, such as a full disk or a missing permission.
    """

    passing = True

    def __init__(self, message: str = "", *, passing: bool = True) -> None:
        super().__init__(message)
        self.passing = passing


class CacheError(VdpError):
    """The latent cache cannot be used."""


class StaleCacheError(CacheError):
    """The cache was made by something else than what is about to use it."""


class CorruptCacheError(CacheError):
    """Stored bytes do not match their record."""


class TrainingError(VdpError):
    """A training run cannot start or go on."""


class CheckpointError(TrainingError):
    """A checkpoint is missing, torn, or belongs to another run."""


class DivergedError(TrainingError):
    """Losses or gradients stay non-finite, whatever is skipped."""

    exit_code = 16


class TrackingError(VdpError):
    """The tracking server cannot be used."""


class ClusterError(VdpError):
    """Ray cannot be reached, or a job on it failed."""

    passing = True


class WorkerDiedError(ClusterError):
    """A training worker was killed, ran out of memory or crashed, once too often."""

    exit_code = 17


class HungError(ClusterError):
    """A training worker made no progress, once too often."""

    exit_code = 18


class LeaseError(VdpError):
    """Another driver works on the same run."""

    exit_code = 19


class PreemptedError(VdpError):
    """The run was told to end by SIGTERM; it has saved, and goes on when started again."""

    exit_code = 143
    passing = True


EXIT_CODES = {
    0: "done",
    1: "a failure that is told in one line",
    ConfigError.exit_code: "wrong use: the recipe, an override or an argument",
    DivergedError.exit_code: "training diverged: non-finite losses or gradients after all rewinds",
    WorkerDiedError.exit_code: "a training worker died once more than cluster.max_failures",
    HungError.exit_code: "training made no progress for cluster.hang_timeout_s, as often",
    LeaseError.exit_code: "another driver works on the same run",
    130: "interrupted by Ctrl-C; the same command goes on",
    PreemptedError.exit_code: "ended by SIGTERM after saving; the same command goes on",
}
"""What the command line's exit codes mean; whoever starts runs unattended decides by them."""
