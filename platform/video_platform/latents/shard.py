"""Tensors to the bytes of a safetensors file and back, with a checksum for each tensor.

The format has no checksum of its own, and its readers take a flipped byte without a word; so every
tensor is written down with its place and its CRC, and read back through `unpack`, which checks.
"""

import hashlib
import json
import struct
from collections.abc import Mapping

import torch
from safetensors.torch import save
from zlib_ng import zlib_ng

from video_platform.errors import CorruptCacheError
from video_platform.latents.records import Shard, TensorRecord

DTYPES = {
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "int32": torch.int32,
    "uint8": torch.uint8,
}
"""Types in which tensors are stored, by name."""


def pack(
    tensors: Mapping[str, torch.Tensor], *, bucket: str, unit: str, salt: str = ""
) -> tuple[str, bytes, dict[str, TensorRecord]]:
    """Write tensors as one safetensors file.

    Args:
        tensors: by name.
        bucket: the folder of its key.
        unit: the beginning of its name.
        salt: kept in the file; another one makes another name for the same tensors.

    Returns:
        its content-addressed key, its bytes, and where each tensor lies in them.
    """
    metadata = {"salt": salt} if salt else None
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)
    key = f"data/{bucket}/{unit}-{hashlib.sha256(data).hexdigest()[:16]}.safetensors"
    (header_bytes,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + header_bytes])
    records = {}
    for name, tensor in tensors.items():
        start, end = (8 + header_bytes + offset for offset in header[name]["data_offsets"])
        records[name] = TensorRecord(
            key=key,
            offset=start,
            length=end - start,
            crc32=zlib_ng.crc32(data[start:end]),
            shape=tuple(tensor.shape),
            dtype=str(tensor.dtype).removeprefix("torch."),
        )
    return key, data, records


def describe(data: bytes) -> Shard:
    """Return size and hash of a shard."""
    return Shard(size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def unpack(
    data: bytes | bytearray | memoryview,
    record: TensorRecord,
    *,
    where: str,
    as_stored: bool = False,
) -> torch.Tensor:
    """Return a tensor of its own from its bytes: floats in float32, whole numbers as they are.

    Args:
        data: its bytes.
        record: what was written down of it.
        where: what an error calls the cache.
        as_stored: whether floats keep the precision in which they are stored.

    Raises:
        CorruptCacheError: the bytes are too few, or not those that were written.
    """
    if len(data) != record.length:
        raise CorruptCacheError(
            f"{where}: {record.key} ends within the {record.length} bytes at {record.offset}; "
            "the shard is truncated, see `vdp cache verify`"
        )
    if zlib_ng.crc32(data) != record.crc32:
        raise CorruptCacheError(
            f"{where}: the {record.length} bytes at {record.offset} of {record.key} do not match "
            "their checksum; the shard is damaged, see `vdp cache verify`"
        )
    dtype = DTYPES[record.dtype]
    kind = torch.float32 if dtype.is_floating_point and not as_stored else dtype
    if not record.length:
        return torch.empty(record.shape, dtype=kind)
    if memoryview(data).readonly:
        data = bytearray(data)  # torch would warn that the tensor can be written and its bytes not
    return torch.frombuffer(data, dtype=dtype).reshape(record.shape).to(kind, copy=True)
