"""MDS, the format of MosaicML Streaming, version 2.

Columns: `id`, `caption` (str), `program` (json), and each tensor as an `ndarray`. MDS knows no
bfloat16: such a tensor is stored as the uint16 numbers that its bits spell, without loss, and
`export.json` lists these columns. A reader turns them back: `torch.from_numpy(x.copy()).view(
torch.bfloat16)`.

A shard, little-endian: number of samples (uint32), where each begins and the last ends (uint32),
the columns as JSON, the samples. A sample: the length of each column of no fixed length (uint32),
then the columns. Format: https://github.com/mosaicml/streaming.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from video_platform.errors import CacheError
from video_platform.latents.export_format import Written
from video_platform.latents.reader import StoredSample
from video_platform.latents.sealed import canonical_json

PLAIN = {"caption": "str", "id": "str", "program": "json"}
"""How the columns that are no tensors are encoded."""
LARGEST = 1 << 32
"""Places in a shard are 32 bits."""


class MDS:
    """Shards of samples that all have the same tensors.

    Args:
        first: a sample; the others have tensors of the same names and types.
    """

    def __init__(self, first: StoredSample) -> None:
        tensors = {name: f"ndarray:{_dtype(tensor)}" for name, tensor in first.tensors.items()}
        self._columns = dict(sorted({**PLAIN, **tensors}.items()))

    def name(self, number: int) -> str:
        """Return the key of a shard."""
        return f"shard.{number:05d}.mds"

    def shard(self, samples: Iterable[StoredSample], first: int) -> bytes:
        """Return the bytes of a shard."""
        encoded = [self._encode(sample) for sample in samples]
        config = json.dumps(self._config(), sort_keys=True).encode()
        head = 4 + 4 * (len(encoded) + 1) + len(config)
        ends = head + np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        if ends[-1] >= LARGEST:
            raise CacheError(f"a shard of {ends[-1]} bytes is too large for MDS: lower shard_bytes")
        count = np.array([len(encoded)], "<u4")
        return b"".join([count.tobytes(), ends.astype("<u4").tobytes(), config, *encoded])

    def index(self, shards: Sequence[Written]) -> tuple[str, bytes]:
        """Return the list of the shards."""
        entries = [
            self._config()
            | {
                "raw_data": {
                    "basename": shard.name,
                    "bytes": shard.size_bytes,
                    "hashes": {"sha256": shard.sha256},
                },
                "samples": shard.samples,
                "zip_data": None,
            }
            for shard in shards
        ]
        tree = {"shards": entries, "version": 2}
        return "index.json", json.dumps(tree, sort_keys=True).encode()

    def _config(self) -> dict[str, Any]:
        return {
            "column_encodings": [*self._columns.values()],
            "column_names": [*self._columns],
            "column_sizes": [None] * len(self._columns),
            "compression": None,
            "format": "mds",
            "hashes": ["sha256"],
            "size_limit": None,
            "version": 2,
        }

    def _encode(self, sample: StoredSample) -> bytes:
        """Return the bytes of one sample."""
        data = {
            "caption": sample.caption.encode(),
            "id": sample.id.encode(),
            "program": canonical_json(sample.program),
        }
        encodings = {name: f"ndarray:{_dtype(t)}" for name, t in sample.tensors.items()} | PLAIN
        if encodings != self._columns:
            raise CacheError(
                f"{sample.id} has {', '.join(sorted(sample.tensors))}: not the tensors of the "
                "first sample, or of other types, which MDS cannot hold; export to webdataset"
            )
        data |= {name: _array(sample.id, tensor) for name, tensor in sample.tensors.items()}
        parts = [data[name] for name in self._columns]
        return np.array([*map(len, parts)], "<u4").tobytes() + b"".join(parts)


def _dtype(tensor: torch.Tensor) -> str:
    """Return the type in which a tensor is stored."""
    return "uint16" if tensor.dtype == torch.bfloat16 else str(tensor.dtype).removeprefix("torch.")


def _array(name: str, tensor: torch.Tensor) -> bytes:
    """Return number of axes and width of a length in one byte, the lengths, the values."""
    if not tensor.ndim or not tensor.numel():
        raise CacheError(f"{name} has a tensor of no values, which MDS cannot hold")
    width = next(n for n in range(3) if max(tensor.shape) < 1 << 8 * 2**n)
    shape = np.array(tensor.shape, f"<u{2**width}")
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    return bytes([tensor.ndim << 2 | width]) + shape.tobytes() + tensor.numpy().tobytes()
