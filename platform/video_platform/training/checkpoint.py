"""Checkpoints that are whole or not there, hold no code, and know no ZeRO stage.

    folder/step-00000500/
        manifest.json                     step, fingerprint, counters; size and SHA-256 of each file
        model.weights.safetensors         one file for each engine and kind of state, fp32, whole
        model.exp_avg.safetensors ...     parameters by name

Rank 0 writes into a hidden folder, flushes it to disk, and renames it: a folder of that name is
complete or does not exist. Reading takes the newest one whose every byte matches its manifest; a
torn one is reported and passed over. What was written at one ZeRO stage and number of ranks goes on
at any other.

The folder is a local one; on a cluster it lies on a file system that all nodes share. Every rank
reads it, and rank 0 holds one kind of state (4 bytes a parameter) in memory while it writes.
"""

import dataclasses
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from video_platform.errors import CheckpointError

FORMAT = 2
MANIFEST = "manifest.json"
log = logging.getLogger(__name__)


class Restorable(Protocol):
    """What a checkpoint needs of an engine."""

    @property
    def kinds(self) -> tuple[Any, ...]:
        """What to write, one file each."""
        ...

    def gather(self, kind: Any, *, keep: bool = True) -> dict[str, Tensor]:
        """Collect one kind."""
        ...

    def restore(self, kind: Any, tensors: Mapping[str, Tensor]) -> None:
        """Take it over."""
        ...

    def counters(self) -> dict[str, int]:
        """Return what is no tensor."""
        ...

    def restore_counters(self, counters: Mapping[str, int]) -> None:
        """Take it over."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a checkpoint says about itself."""

    step: int
    """Optimiser steps that the run has taken; it goes on with the step of this number."""
    fingerprint: str
    """Identity of the run, see `fingerprint`."""
    counters: dict[str, dict[str, int]]
    """By engine."""
    state: dict[str, Any]
    """What must survive beside the engines, as JSON: of the training step and of the batches."""
    files: dict[str, dict[str, Any]]
    """By file name: `size_bytes` and `sha256`."""
    format: int = FORMAT
    """Version of this layout."""


def fingerprint(tree: Mapping[str, Any]) -> str:
    """Hash what must stay the same for a resumed run to be the same run, as canonical JSON."""
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Checkpoints:
    """The checkpoints of one run, in one folder. All methods are called on every rank alike.

    Args:
        folder: created when first written to.
        run_fingerprint: of this run; a checkpoint of another is refused.
        keep: how many of the newest stay.
    """

    def __init__(self, folder: Path | str, *, run_fingerprint: str, keep: int = 2) -> None:
        self.folder = Path(folder)
        self._fingerprint = run_fingerprint
        self._keep = keep

    def save(
        self, engines: Mapping[str, Restorable], *, step: int, state: Mapping[str, Any]
    ) -> None:
        """Write the state after `step` steps; return when it is on disk. Collective.

        Raises:
            CheckpointError: rank 0 could not write; earlier checkpoints are untouched.
        """
        writer = _Writer(self.folder / f".{_name(step)}.partial") if _rank() == 0 else None
        for name, engine in engines.items():
            for kind in engine.kinds:
                tensors = engine.gather(kind, keep=writer is not None)
                if writer is not None:
                    writer.add(f"{name}.{kind}.safetensors", tensors)
        failure = None
        if writer is not None:
            manifest = Manifest(
                step=step,
                fingerprint=self._fingerprint,
                counters={name: engine.counters() for name, engine in engines.items()},
                state=dict(state),
                files=writer.files,
            )
            failure = writer.commit(manifest, self.folder / _name(step))
            if failure is None:
                self._prune()
        if not _agree(failure is None):
            raise CheckpointError(
                f"the checkpoint of step {step} could not be written to {self.folder}: "
                f"{failure or 'see the error of rank 0'}"
            )

    def restore(self, engines: Mapping[str, Restorable]) -> Manifest | None:
        """Load the newest whole checkpoint into the engines. Collective.

        Returns:
            Its manifest, or None where there is none and the run starts afresh.

        Raises:
            CheckpointError: it belongs to another run, or not every rank can read it.
        """
        newest = torch.tensor(-1)
        if _rank() == 0 and (found := self.newest()) is not None:
            newest.fill_(found.step)
        if dist.is_initialized():
            newest = _broadcast(newest)
        if newest < 0:
            return None
        path = self.folder / _name(int(newest))
        if not _agree((path / MANIFEST).is_file()):
            raise CheckpointError(
                f"{path} is not visible on every node; "
                "put checkpoints on a file system that all nodes share"
            )
        manifest = read_manifest(path)
        self._check(manifest, engines, path)
        for name, engine in engines.items():
            for kind in engine.kinds:
                file = f"{name}.{kind}.safetensors"
                if file in manifest.files:  # an average may be newly switched on
                    engine.restore(kind, load_file(path / file))
            engine.restore_counters(manifest.counters[name])
        return manifest

    def newest(self) -> Manifest | None:
        """Return the manifest of the newest checkpoint that is whole; log those passed over."""
        for path in sorted(self.folder.glob("step-*"), reverse=True):
            try:
                return verify(path)
            except CheckpointError as error:
                log.warning("passing over a torn checkpoint: %s", error)
        return None

    def _check(self, manifest: Manifest, engines: Mapping[str, Restorable], path: Path) -> None:
        if manifest.fingerprint != self._fingerprint:
            raise CheckpointError(
                f"{path} is of another run (model, data, seed or batch size differ); "
                "name a fresh folder for this run's checkpoints, or use that run's recipe"
            )
        if manifest.counters.keys() != engines.keys():
            raise CheckpointError(
                f"{path} holds the networks {sorted(manifest.counters)}, "
                f"this run trains {sorted(engines)}"
            )

    def _prune(self) -> None:
        for path in sorted(self.folder.glob("step-*"), reverse=True)[self._keep :]:
            shutil.rmtree(path, ignore_errors=True)


def verify(path: Path) -> Manifest:
    """Check every byte of a checkpoint against its manifest.

    Raises:
        CheckpointError: something is missing, cut off or altered.
    """
    manifest = read_manifest(path)
    for name, expected in manifest.files.items():
        file = path / name
        if not file.is_file():
            raise CheckpointError(f"{file} is missing")
        if file.stat().st_size != expected["size_bytes"]:
            raise CheckpointError(
                f"{file} has {file.stat().st_size} bytes, expected {expected['size_bytes']}"
            )
        if _sha256(file) != expected["sha256"]:
            raise CheckpointError(f"{file} does not match its checksum")
    return manifest


def read_manifest(path: Path) -> Manifest:
    """Read what a checkpoint says about itself, without checking its files.

    Raises:
        CheckpointError: there is none, or it is of a version that this code does not know.
    """
    try:
        tree = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        manifest = Manifest(**tree)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path / MANIFEST} cannot be read: {error}") from None
    if manifest.format != FORMAT:
        raise CheckpointError(f"{path} has format {manifest.format}, this code reads {FORMAT}")
    if any(Path(name).name != name for name in manifest.files):
        raise CheckpointError(f"{path / MANIFEST} names a file outside its own folder")
    return manifest


class _Writer:
    """Fills a hidden folder; after a first failure it does nothing, so that ranks stay in step."""

    def __init__(self, partial: Path) -> None:
        self._partial = partial
        self._failure: Exception | None = None
        self.files: dict[str, dict[str, Any]] = {}
        self._try(self._start)

    def add(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write one file."""
        self._try(lambda: self._write(name, tensors))

    def commit(self, manifest: Manifest, target: Path) -> Exception | None:
        """Publish the folder under its name; return what went wrong, if anything did."""
        self._try(lambda: self._publish(manifest, target))
        if self._failure is not None:
            shutil.rmtree(self._partial, ignore_errors=True)
        return self._failure

    def _try(self, action: Callable[[], None]) -> None:
        if self._failure is None:
            try:
                action()
            except (OSError, SafetensorError) as error:
                self._failure = error

    def _start(self) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)

    def _write(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        path = self._partial / name
        save_file({key: value.contiguous() for key, value in tensors.items()}, path)
        _flush(path)
        self.files[name] = {"size_bytes": path.stat().st_size, "sha256": _sha256(path)}

    def _publish(self, manifest: Manifest, target: Path) -> None:
        path = self._partial / MANIFEST
        path.write_text(json.dumps(dataclasses.asdict(manifest), indent=1), encoding="utf-8")
        _flush(path)
        _flush(self._partial)
        if target.exists():  # torn, or the same step once more
            shutil.rmtree(target)
        self._partial.rename(target)
        _flush(target.parent)


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Force a file or a folder's entries onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _device() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


def _broadcast(value: Tensor) -> Tensor:
    value = value.to(_device())
    dist.broadcast(value, src=0)
    return value.cpu()


def _agree(fine: bool) -> bool:
    """Return whether all ranks are fine."""
    if not dist.is_initialized():
        return fine
    flag = torch.tensor(int(fine), device=_device())
    dist.all_reduce(flag, op=dist.ReduceOp.MIN)
    return bool(flag)
