"""A folder of the machine that runs a job, opened on any machine of its cluster.

    there = folder_here("outputs/vae")           # in the driver
    with there.opened() as path: ...             # in an actor, wherever it runs

An actor on the same machine is given the folder itself. One elsewhere fetches the files through
Ray, one at a time, into a temporary folder that ends with the block; so machines need to share no
disk.
"""

import contextlib
import dataclasses
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Folder:
    """A folder on a machine; may be sent anywhere in the cluster."""

    path: str | None
    """Where it is there; what is no folder, such as the name of a hub, is the same everywhere."""
    node: str | None
    """Ray's id of the machine; None where no Ray runs."""

    @contextlib.contextmanager
    def opened(self) -> Iterator[str | None]:
        """Give a path to the folder on the machine that asks."""
        if self.path is None or self.node in (None, _this_node()):
            yield self.path
            return
        with tempfile.TemporaryDirectory(prefix="vdp-folder-") as copy:
            self._fetch(Path(copy))
            yield copy

    def copy_to(self, target: Path) -> None:
        """Have the files in a folder of the machine that asks; nothing to do where they are it."""
        here = self.node in (None, _this_node())
        if self.path is None or (here and os.path.realpath(target) == os.path.realpath(self.path)):
            return
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        self._fetch(partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)

    def _fetch(self, target: Path) -> None:
        """Copy all files through Ray, one at a time."""
        assert self.path is not None, "the callers look"  # noqa: S101
        target.mkdir(parents=True, exist_ok=True)
        for name in self._there(_list, self.path):
            file = target / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(self._there(_read, str(Path(self.path, name))))

    def _there(self, function: Any, argument: str) -> Any:
        """Call a function on the folder's machine."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        place = NodeAffinitySchedulingStrategy(self.node, soft=False)
        task = ray.remote(num_cpus=0, scheduling_strategy=place)(function)
        return ray.get(task.remote(argument))


def folder_here(path: str | None) -> Folder:
    """Name a folder of this machine so that actors elsewhere can open it."""
    if path is None or not os.path.isdir(path):
        return Folder(path, None)
    return Folder(os.path.abspath(path), _this_node())


def _this_node() -> str | None:
    """Return Ray's id of this machine; Ray is not loaded for that, and cannot run if it is not."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    node: str = ray.get_runtime_context().get_node_id()
    return node


def _list(path: str) -> list[str]:
    """List the files below a folder."""
    files = (Path(top, name) for top, _, names in os.walk(path, followlinks=True) for name in names)
    return sorted(str(file.relative_to(path)) for file in files)


def _read(path: str) -> Any:
    """Return the bytes of a file, in a form that Ray copies once."""
    return np.fromfile(path, dtype=np.uint8)
