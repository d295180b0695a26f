"""Every error a user can meet, as one tree.

    VdpError                 exit code 1; says what was given, what is allowed, which knob to turn
    ├── ConfigError          exit code 2: a recipe, an override or a command-line argument
    ├── SourceError          a dataset that cannot be listed or read
    │   └── MediaError       one media file; carries a typed `reason`
    ├── StorageError         a store that is unreachable, refused or unsafe
    ├── CacheError           the latent cache
    │   ├── StaleCacheError  made by another autoencoder, pixel policy or encode version
    │   └── CorruptCacheError  bytes that do not match their checksum
    ├── TrainingError        a run that cannot start or go on
    │   └── CheckpointError  a checkpoint that is missing, torn or of another run
    ├── TrackingError        MLflow
    └── ClusterError         Ray

The command line prints the message of a `VdpError` as one line and exits with its code; anything
else is a defect and keeps its traceback.
"""


class VdpError(Exception):
    """Any failure that the user can understand and mend."""

    exit_code = 1


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
    """A store is unreachable, not allowed, or does not keep the promises that the cache needs."""


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


class TrackingError(VdpError):
    """The tracking server cannot be used."""


class ClusterError(VdpError):
    """Ray cannot be reached, or a job on it failed."""
