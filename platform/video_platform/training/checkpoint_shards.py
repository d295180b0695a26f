"""The tensors of a checkpoint in pieces: each rank writes what it holds, and reads a share.

A piece is a run of elements of one tensor, flat, called `engine/kind/name/first element` in a
safetensors file. Over all ranks the pieces of a save make up every tensor exactly once, so whoever
reads them need not know at what ZeRO stage or by how many ranks they were written.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import safetensors.torch
import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor

from video_platform.errors import CheckpointError
from video_platform.storage import MissingKeyError, Store
from video_platform.training.checkpoint_manifest import Manifest, Tensors

FILE_BYTES = 64 << 20
"""About the size of a file; so much is encoded in memory at one time."""
MISSING = " is missing"
Pieces = list[tuple[str, Tensor]]


class Restorable(Protocol):
    """What a checkpoint needs of an engine."""

    @property
    def kinds(self) -> tuple[Any, ...]:
        """What to write."""
        ...

    def describe(self, kind: Any) -> dict[str, list[Any]]:
        """Return type and whole shape of every tensor of a kind, such as `["float32", 3, 4]`."""
        ...

    def fragments(self, kind: Any) -> Iterator[tuple[str, int, Tensor]]:
        """Yield what this rank writes: name, first element, and elements, flat and live."""
        ...

    def restore(self, kind: Any, tensors: Mapping[str, Tensor]) -> None:
        """Take over whole tensors, each asked for once, in the same order on every rank."""
        ...

    def counters(self) -> dict[str, float]:
        """Return what is no tensor."""
        ...

    def restore_counters(self, counters: Mapping[str, float]) -> None:
        """Take it over."""
        ...


class HostCopy:
    """A copy of this rank's pieces in memory that is used again by the next save."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def take(self, engines: Mapping[str, Restorable]) -> Pieces:
        """Copy what this rank holds of the engines."""
        pieces = {}
        for engine, kind in _kinds(engines):
            for name, start, live in engines[engine].fragments(kind):
                if not live.numel():
                    continue
                key = f"{engine}/{kind}/{name}/{start}"
                held = self._held.get(key)
                if held is None or held.shape != live.shape or held.dtype != live.dtype:
                    held = torch.empty(live.shape, dtype=live.dtype, pin_memory=live.is_cuda)
                pieces[key] = held.copy_(live.detach(), non_blocking=True)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._held = pieces
        return list(pieces.items())


def tensors_of(engines: Mapping[str, Restorable]) -> Tensors:
    """Return type and shape of all that the engines hold."""
    return {
        name: {kind: engine.describe(kind) for kind in engine.kinds}
        for name, engine in engines.items()
    }


def count_elements(tensors: Tensors) -> int:
    """Count the elements of all tensors."""
    return sum(
        math.prod(described[1:])
        for kinds in tensors.values()
        for names in kinds.values()
        for described in names.values()
    )


def write_pieces(
    put: Callable[[str, bytes], None], pieces: Pieces, *, rank: int
) -> dict[str, dict[str, Any]]:
    """Write a rank's pieces by name and content; return the size and SHA-256 of each file."""
    files = {}
    for number, part in enumerate(_parts(pieces)):
        name = f"rank-{rank:05d}-{number:05d}.safetensors"
        data = safetensors.torch.save(dict(part))
        put(name, data)
        files[name] = {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return files


def read_pieces(store: Store, names: Sequence[str], manifest: Manifest) -> Pieces:
    """Read files of a checkpoint.

    Args:
        store: where they are.
        names: which of the manifest's.
        manifest: says what they must be.

    Raises:
        CheckpointError: one is missing, cut off or altered.
    """
    pieces: Pieces = []
    for name in names:
        place, expected = f"{store.url}/{name}", manifest.files[name]
        try:
            data = store.read(name)
        except MissingKeyError:
            raise CheckpointError(place + MISSING) from None
        if len(data) != expected["size_bytes"]:
            raise CheckpointError(
                f"{place} has {len(data)} bytes, expected {expected['size_bytes']}"
            )
        if hashlib.sha256(data).hexdigest() != expected["sha256"]:
            raise CheckpointError(f"{place} does not match its checksum")
        try:
            pieces += safetensors.torch.load(data).items()
        except SafetensorError as error:
            raise CheckpointError(f"{place} cannot be read: {error}") from None
    return pieces


class Whole(Mapping[str, Tensor]):
    """Whole tensors of one kind of one engine, put together as they are asked for. Collective.

    Args:
        pieces: what this rank read.
        prefix: `engine/kind`.
        described: type and shape of the tensors by name.
    """

    def __init__(self, pieces: Pieces, prefix: str, described: Mapping[str, list[Any]]) -> None:
        self._described = described
        self._pieces: dict[str, list[tuple[int, Tensor]]] = {}
        for key, tensor in pieces:
            if key.startswith(prefix + "/"):
                name, start = key.removeprefix(prefix + "/").rsplit("/", 1)
                self._pieces.setdefault(name, []).append((int(start), tensor))

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor; it is the same on every rank."""
        dtype, *shape = self._described[name]
        flat = torch.zeros(math.prod(shape), dtype=getattr(torch, dtype))
        for start, piece in self._pieces.get(name, []):
            flat[start : start + piece.numel()] = piece
        return _sum_bits(flat).view(shape)

    def __iter__(self) -> Iterator[str]:
        """Iterate over names."""
        return iter(self._described)

    def __len__(self) -> int:
        """Count the tensors."""
        return len(self._described)


def _kinds(engines: Mapping[str, Restorable]) -> Iterator[tuple[str, Any]]:
    for name, engine in engines.items():
        for kind in engine.kinds:
            yield name, kind


def _parts(pieces: Pieces) -> Iterator[Pieces]:
    """Divide pieces among files of about `FILE_BYTES`; a larger piece has one for itself."""
    part: Pieces = []
    size_bytes = 0
    for key, tensor in pieces:
        if part and size_bytes + tensor.nbytes > FILE_BYTES:
            yield part
            part, size_bytes = [], 0
        part.append((key, tensor))
        size_bytes += tensor.nbytes
    if part:
        yield part


def _sum_bits(flat: Tensor) -> Tensor:
    """Add over the ranks what is not zero on one of them only, as integers: exact, and -0 stays."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return flat
    device = torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
    bits = flat.view(torch.int32 if flat.element_size() == 4 else torch.uint8).to(device)
    dist.all_reduce(bits)
    return bits.cpu().view(flat.dtype)
