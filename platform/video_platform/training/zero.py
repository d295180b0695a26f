"""How DeepSpeed is started: one process group, no compiled operators, a config derived from ours.

DeepSpeed compiles C++ on first use unless told otherwise, which takes minutes and leaves a lock
behind when it is interrupted; nothing here needs those operators. Its own micro-batch counter stays
out of the way (`managed_gradient_accumulation` off): gradients add up until `step` is called.
"""

import contextlib
import datetime
import importlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from video_platform.training.config import TrainingConfig

LARGEST_BUCKET = 50_000_000
"""Elements that are reduced at once in a large model; a small model's bucket is its size."""


def open_process_group(timeout_s: float = 600.0) -> None:
    """Make sure that there is a process group: the one that is open, torchrun's, or one of our own.

    Args:
        timeout_s: how long a collective may wait for a missing rank, where this opens the group.
    """
    if dist.is_initialized():
        return
    timeout = datetime.timedelta(seconds=timeout_s)
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if "WORLD_SIZE" in os.environ and "MASTER_ADDR" in os.environ:
        dist.init_process_group(backend, timeout=timeout)
    else:
        dist.init_process_group(
            backend,
            store=torch._C._distributed_c10d.HashStore(),
            rank=0,
            world_size=1,
            timeout=timeout,
        )


def import_deepspeed() -> Any:
    """Import DeepSpeed quietly, with nothing to compile and no launcher to look for.

    A worker that was killed is replaced by one that imports everything anew: what costs seconds and
    is not used is left out.
    """
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("LOCAL_RANK", "0")
    extensions = Path(tempfile.gettempdir()) / f"vdp-extensions-{os.getuid()}-{os.getpid()}"
    os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(extensions))
    with _without("mlflow"):  # its tuner of batch sizes would log there
        import deepspeed

    _import_muon()
    deepspeed.utils.logger.setLevel(logging.ERROR)
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if not deepspeed.comm.is_initialized():
        deepspeed.init_distributed(dist.get_backend(), verbose=False)
    return deepspeed


@contextlib.contextmanager
def _without(module: str) -> Iterator[None]:
    """Let a module that is not imported yet be missing inside the block."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # so Python marks what cannot be imported
    try:
        yield
    finally:
        del sys.modules[module]


def _import_muon() -> None:
    """Import DeepSpeed's Muon as it is: compiling it would import torch's compiler.

    DeepSpeed compares every optimiser with it; ours is another.
    """
    from deepspeed.runtime import compiler

    compiled, compiler.compile = compiler.compile, lambda **_: lambda function: function
    try:
        importlib.import_module("deepspeed.runtime.zero.muon.muon_optimizer")
    finally:
        compiler.compile = compiled


def zero_config(config: TrainingConfig, *, num_parameters: int) -> dict[str, Any]:
    """Return DeepSpeed's configuration for one trained network.

    Args:
        config: the run.
        num_parameters: trained elements; a bucket is no larger.
    """
    bucket = min(LARGEST_BUCKET, num_parameters + num_parameters % 2)  # DeepSpeed wants it even
    zero: dict[str, Any] = {
        "stage": config.zero_stage,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
        "stage3_prefetch_bucket_size": bucket,
        # A plain all-reduce of the bucket: the scatter copies every gradient twice more.
        "reduce_scatter": False,
        # It replaces torch's own linear, for every network of the process and for good, by one that
        # knows neither autocast nor what selective recomputing keeps.
        "memory_efficient_linear": False,
        "overlap_comm": config.zero_stage == 2 and torch.cuda.is_available(),
    }
    if config.offload_optimizer == "cpu":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    if config.offload_parameters == "cpu":
        zero["offload_param"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {
        "train_micro_batch_size_per_gpu": config.micro_batch_size or 1,  # it only counts them
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        # Stage 0 is clipped by the engine, which also looks for numbers that are not finite.
        "gradient_clipping": (config.clip_norm or 0.0) if config.zero_stage else 0.0,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": config.precision == "bf16"},
        "steps_per_print": None,
    }
