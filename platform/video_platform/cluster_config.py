"""The knobs of the cluster that a job runs on, importable without Ray."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Which Ray a job uses and how many workers train."""

    address: str | None = None
    """A running Ray to join, `host:port`; None starts one on this machine for the job's duration,
    or joins the one that the job was submitted to."""
    num_cpus: int | None = None
    """CPUs of a Ray started here; None takes all of the machine."""
    workers: int = 1
    """Training processes."""
    min_workers: int | None = None
    """Fewest training processes to go on with where machines are lost; as many run as there is room
    for, up to `workers`. None always waits for all of them."""
    resize_every_s: float = 600
    """With `min_workers`, seconds between two looks for room for more of them. Growing costs the
    work since the newest checkpoint."""
    cpus_per_worker: float = 1
    """CPUs, and so threads, of each training process."""
    gpus_per_worker: float = 0
    """GPUs of each training process: 1, or 0 to train on the CPU."""
    max_failures: int = 0
    """How often the workers are started again after one of them dies; they go on from the newest
    checkpoint. -1 has no limit."""
    storage_path: str | None = None
    """Folder for Ray Train's own notes; None is a private one on this machine."""
    collective_timeout_s: float = 600
    """How long a worker waits for the others before it fails."""
    hang_timeout_s: float | None = 900
    """How long a worker may make no progress before it says where it stands and is ended; None
    never looks. A step, a checkpoint or one batch of a validation takes less."""
    worker_logs: bool = False
    """Repeat on the terminal what the workers print."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers is at least 1, not {self.workers!r}")
        if self.min_workers is not None and not 1 <= self.min_workers <= self.workers:
            raise ValueError(
                f"min_workers is from 1 to workers = {self.workers}, or null, "
                f"not {self.min_workers!r}"
            )
        if self.num_cpus is not None and self.num_cpus < 1:
            raise ValueError(f"num_cpus is at least 1 or null, not {self.num_cpus!r}")
        if self.cpus_per_worker <= 0 or self.gpus_per_worker < 0:
            raise ValueError("cpus_per_worker is above 0 and gpus_per_worker is 0 or more")
        if self.max_failures < -1:
            raise ValueError(f"max_failures is -1 (no limit) or more, not {self.max_failures!r}")
        for name in ("collective_timeout_s", "hang_timeout_s", "resize_every_s"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} is above 0, not {value!r}")

    @property
    def fewest_workers(self) -> int:
        """With how many training processes a run starts at the least."""
        return self.workers if self.min_workers is None else self.min_workers
