"""What `vdp plan` assumes of the machines that a run may be given.

Every number is an assumption: the makers' for memory, arithmetic and wires, a guess for the price.
A recipe replaces them: `plan.price_per_hour=1.9`.
"""

import dataclasses
from typing import Any

from video_models.pick import pick


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """One device of a kind, and its share of the machine that it sits in."""

    memory_gb: float
    """Memory, in 10^9 bytes."""
    bf16_tflops: float
    """Dense matrix products in bfloat16, 10^12 operations a second."""
    fp32_tflops: float
    """The same in float32, as PyTorch computes them unless told otherwise."""
    memory_gb_per_s: float
    """How fast its own memory is read or written."""
    link_gb_per_s: float
    """How fast it sends to others in its machine."""
    network_gb_per_s: float
    """How fast it sends to others in other machines."""
    host_gb_per_s: float
    """How fast it sends to the memory of its machine."""
    host_memory_gb: float
    """Memory of the machine, for each device."""
    devices: int
    """Devices in one machine."""
    price_per_hour: float
    """Of one device."""
    reserved_gb: float = 2.0
    """Memory that the driver and the libraries keep for themselves."""
    spare: float = 0.08
    """Share of the memory that is left free, for what an allocator cannot use."""

    def peak_tflops(self, precision: str) -> float:
        """Return the peak for a precision of training."""
        return self.fp32_tflops if precision == "fp32" else self.bf16_tflops


KINDS: dict[str, Kind] = {
    "a100": Kind(
        memory_gb=80, bf16_tflops=312, fp32_tflops=19.5, memory_gb_per_s=2039, link_gb_per_s=300,
        network_gb_per_s=25, host_gb_per_s=25, host_memory_gb=128, devices=8, price_per_hour=1.8,
    ),
    "a100-40g": Kind(
        memory_gb=40, bf16_tflops=312, fp32_tflops=19.5, memory_gb_per_s=1555, link_gb_per_s=300,
        network_gb_per_s=25, host_gb_per_s=25, host_memory_gb=128, devices=8, price_per_hour=1.3,
    ),
    "b200": Kind(
        memory_gb=180, bf16_tflops=2250, fp32_tflops=75, memory_gb_per_s=8000, link_gb_per_s=900,
        network_gb_per_s=50, host_gb_per_s=50, host_memory_gb=256, devices=8, price_per_hour=5.0,
    ),
    "cpu": Kind(
        memory_gb=8, bf16_tflops=0.08, fp32_tflops=0.15, memory_gb_per_s=10, link_gb_per_s=2,
        network_gb_per_s=1, host_gb_per_s=10, host_memory_gb=0, devices=2, price_per_hour=0.04,
        reserved_gb=0.6, spare=0.25,
    ),
    "h100": Kind(
        memory_gb=80, bf16_tflops=989, fp32_tflops=67, memory_gb_per_s=3350, link_gb_per_s=450,
        network_gb_per_s=50, host_gb_per_s=50, host_memory_gb=224, devices=8, price_per_hour=2.5,
    ),
    "h200": Kind(
        memory_gb=141, bf16_tflops=989, fp32_tflops=67, memory_gb_per_s=4800, link_gb_per_s=450,
        network_gb_per_s=50, host_gb_per_s=50, host_memory_gb=224, devices=8, price_per_hour=3.2,
    ),
    "l40s": Kind(
        memory_gb=48, bf16_tflops=362, fp32_tflops=91.6, memory_gb_per_s=864, link_gb_per_s=25,
        network_gb_per_s=12.5, host_gb_per_s=25, host_memory_gb=96, devices=8, price_per_hour=0.9,
    ),
    "mi300x": Kind(
        memory_gb=192, bf16_tflops=1307, fp32_tflops=163, memory_gb_per_s=5300, link_gb_per_s=448,
        network_gb_per_s=50, host_gb_per_s=50, host_memory_gb=256, devices=8, price_per_hour=2.2,
    ),
    "rtx-4090": Kind(
        memory_gb=24, bf16_tflops=165, fp32_tflops=82.6, memory_gb_per_s=1008, link_gb_per_s=25,
        network_gb_per_s=3, host_gb_per_s=25, host_memory_gb=32, devices=4, price_per_hour=0.4,
    ),
}  # fmt: skip
"""Kinds by name; `cpu` is one core, with the memory that it is lent."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """On what a run is planned, and where the table of kinds is wrong."""

    kind: str = "h100"
    """Name of a kind in `jobs.plan_config.KINDS`."""

    gpus: int | None = None
    """How many of them; None is `cluster.workers`."""

    utilisation: float = 0.4
    """Share of the bf16 or fp32 peak that matrix products reach while they run; waiting for other
    devices comes on top."""

    memory_gb: float | None = None
    """Memory of one device, in 10^9 bytes; None is the kind's."""

    bf16_tflops: float | None = None
    """Peak of one device in bfloat16; None is the kind's."""

    fp32_tflops: float | None = None
    """Peak of one device in float32; None is the kind's."""

    link_gb_per_s: float | None = None
    """How fast a device sends to others in its machine; None is the kind's."""

    network_gb_per_s: float | None = None
    """How fast a device sends to those in other machines; None is the kind's."""

    host_memory_gb: float | None = None
    """Memory of the machine for each device; None is the kind's."""

    price_per_hour: float | None = None
    """Price of one device; None is the kind's."""

    currency: str = "USD"
    """What the price is in."""

    def __post_init__(self) -> None:
        """Check every number."""
        if not 0 < self.utilisation <= 1:
            raise ValueError(f"utilisation is {self.utilisation!r}; it must be in (0, 1]")
        if self.gpus is not None and self.gpus < 1:
            raise ValueError(f"gpus is {self.gpus!r}; it must be at least 1")
        for name, value in self._given().items():
            if value < 0 or (value == 0 and name not in ("price_per_hour", "host_memory_gb")):
                raise ValueError(f"{name} is {value!r}; it must be above 0")
        self.resolved()

    def resolved(self) -> Kind:
        """Return the kind, with what the recipe says of it."""
        return dataclasses.replace(pick(KINDS, self.kind, "kind"), **self._given())

    def _given(self) -> dict[str, Any]:
        kept = {field.name for field in dataclasses.fields(Kind)}
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {n: value for n, value in values.items() if n in kept and value is not None}
