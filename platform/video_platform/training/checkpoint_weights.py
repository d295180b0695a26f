"""Weights out of a checkpoint, on one process of any machine, while its run goes on.

Neither the ranks nor the ZeRO stage of the run are needed, and of each file only one kind of state
is kept. A run that goes on removes older checkpoints: where one goes while it is read, a newer one
has come.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from video_platform.errors import CheckpointError, ConfigError
from video_platform.training.checkpoint_manifest import Manifest
from video_platform.training.checkpoint_shards import Pieces, Whole, count_elements, read_pieces
from video_platform.training.checkpoint_store import CheckpointStore
from video_platform.training.masters import MOMENTS

log = logging.getLogger(__name__)
LISTINGS = 3
"""How often the newest checkpoints are looked for."""


def read_weights(
    store: CheckpointStore, network: str, kind: str, *, step: int | None, fingerprint: str
) -> tuple[int, dict[str, Tensor]]:
    """Return a step, and what is trained of a network after it, with its persistent buffers.

    Args:
        store: the run's checkpoints; nothing in them is changed.
        network: its name among the engines.
        kind: `weights` or an average by name; `ema` is the weights in a run without that average.
        step: of which checkpoint; None takes the newest whole one.
        fingerprint: of the run.

    Raises:
        CheckpointError: there is none, it is torn, or of another run.
        ConfigError: it holds no such average.
        StorageError: the store cannot be reached.
    """
    torn: CheckpointError | None = None
    for each in _candidates(store, step):
        try:
            manifest = store.read(each)
        except CheckpointError as error:
            torn = error
            continue
        _check_run(manifest, store, network, fingerprint)
        try:
            return each, _read(store, manifest, network, kind)
        except CheckpointError as error:
            log.warning("passing over a checkpoint: %s", error)
            torn = error
    there = ", ".join(map(str, store.steps())) or "none; a run saves every checkpoint_every steps"
    reason = f" ({torn})" if torn is not None else ""
    raise CheckpointError(
        f"no checkpoint{'' if step is None else f' of step {step}'} can be read in "
        f"{store.root.url}{reason}; there is {there}"
    )


def _candidates(store: CheckpointStore, step: int | None) -> Iterator[int]:
    """Yield steps to try: the one that is wanted, or the newest first, listed again in the end."""
    if step is not None:
        yield step
        return
    tried = set()
    for _ in range(LISTINGS):
        for each in store.steps():
            if each not in tried:
                tried.add(each)
                yield each


def _check_run(manifest: Manifest, store: CheckpointStore, network: str, fingerprint: str) -> None:
    if manifest.fingerprint != fingerprint or network not in manifest.tensors:
        raise CheckpointError(
            f"the checkpoint of step {manifest.step} in {store.root.url} is of another run; "
            "give the recipe, and the overrides, with which the run was started"
        )


def _read(store: CheckpointStore, manifest: Manifest, network: str, kind: str) -> dict[str, Tensor]:
    """Put whole tensors together from the pieces of all ranks."""
    held = manifest.tensors[network]
    kinds = [name for name in held if name not in MOMENTS]
    chosen = "weights" if kind == "ema" and kind not in kinds else kind
    if chosen not in kinds:
        raise ConfigError(f"this run keeps no average {kind!r}; it keeps {', '.join(kinds)}")
    wanted = {chosen: held[chosen]}
    if chosen != "weights":  # an average is of parameters alone
        wanted["weights"] = {n: d for n, d in held["weights"].items() if n not in held[chosen]}
    pieces = _pieces_of(store, manifest, network, wanted)
    return {
        name: tensor
        for each, described in wanted.items()
        for name, tensor in Whole(pieces, f"{network}/{each}", described).items()
    }


def _pieces_of(
    store: CheckpointStore,
    manifest: Manifest,
    network: str,
    wanted: Mapping[str, Mapping[str, list[Any]]],
) -> Pieces:
    """Read the files one by one, and keep what is wanted: by kind, and name.

    Raises:
        CheckpointError: a file is missing, cut off or altered, or a piece is in none.
    """
    files = store.files(manifest.step, manifest.attempt)
    keys = {f"{network}/{kind}/{name}" for kind, names in wanted.items() for name in names}
    pieces = [
        (key, tensor)
        for name in sorted(manifest.files)
        for key, tensor in read_pieces(files, [name], manifest)
        if key.rpartition("/")[0] in keys
    ]
    expected = count_elements({network: {kind: dict(names) for kind, names in wanted.items()}})
    found = sum(tensor.numel() for _, tensor in pieces)
    if found != expected:
        raise CheckpointError(
            f"the files of step {manifest.step} hold {found} numbers of {network}, "
            f"expected {expected}"
        )
    return pieces
