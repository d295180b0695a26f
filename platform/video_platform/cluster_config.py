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
    cpus_per_worker: float = 1
    """CPUs, and so threads, of each training process."""
    gpus_per_worker: float = 0
    """GPUs of each training process: 1, or 0 to train on the CPU."""
    max_failures: int = 0
    """How often the workers are started again after one of them dies; they go on from the newest
    checkpoint. -1 has no limit."""
    storage_path: str | None = None
    """Folder for Ray Train's own notes, shared by all nodes; None is a private one on this machine,
    enough where all workers run here."""
    collective_timeout_s: float = 600
    """How long a worker waits for the others before the run is given up."""
    worker_logs: bool = False
    """Repeat on the terminal what the workers print."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers is at least 1, not {self.workers!r}")
        if self.num_cpus is not None and self.num_cpus < 1:
            raise ValueError(f"num_cpus is at least 1 or null, not {self.num_cpus!r}")
        if self.cpus_per_worker <= 0 or self.gpus_per_worker < 0:
            raise ValueError("cpus_per_worker is above 0 and gpus_per_worker is 0 or more")
        if self.max_failures < -1:
            raise ValueError(f"max_failures is -1 (no limit) or more, not {self.max_failures!r}")
        if self.collective_timeout_s <= 0:
            raise ValueError(f"collective_timeout_s is above 0, not {self.collective_timeout_s!r}")
