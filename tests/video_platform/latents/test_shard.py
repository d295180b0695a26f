"""Tensors to safetensors and back."""

import dataclasses
import zlib

import pytest
import torch
from safetensors.torch import load

from video_platform.errors import CorruptCacheError
from video_platform.latents.shard import describe, pack, unpack

TENSORS = {
    "00000/a/logvar": torch.linspace(-1, 1, 24).reshape(2, 3, 4),
    "00000/a/mean": torch.linspace(0, 9, 24, dtype=torch.bfloat16).reshape(2, 3, 4),
    "00001/b/mean": torch.zeros(0, 5),
}


def pieces():
    key, data, records = pack(TENSORS, bucket="2x3x4", unit="0123456789abcdef")
    spans = {n: data[r.offset : r.offset + r.length] for n, r in records.items()}
    return key, data, records, spans


def test_a_shard_reads_back_bit_for_bit_in_both_precisions():
    _, _, records, spans = pieces()
    for name, tensor in TENSORS.items():
        back = unpack(spans[name], records[name], where="here")
        assert back.dtype == torch.float32
        assert torch.equal(back, tensor.float())


def test_any_reader_of_safetensors_reads_a_shard():
    _, data, _, _ = pieces()
    for name, tensor in load(data).items():
        assert torch.equal(tensor, TENSORS[name])


def test_the_key_follows_from_the_content():
    key, data, *_ = pieces()
    assert key == f"data/2x3x4/0123456789abcdef-{describe(data).sha256[:16]}.safetensors"
    assert describe(data).size_bytes == len(data)


@pytest.mark.parametrize("bit", [1, 128])
def test_a_flipped_bit_is_found_where_safetensors_finds_none(bit):
    key, data, records, spans = pieces()
    record = records["00000/a/mean"]
    damaged = bytearray(spans["00000/a/mean"])
    damaged[7] ^= bit
    with pytest.raises(CorruptCacheError, match=f"here: .* of {key} do not match"):
        unpack(bytes(damaged), record, where="here")
    whole = bytearray(data)
    whole[record.offset + 7] ^= bit
    load(bytes(whole))


def test_missing_bytes_are_found():
    _, _, records, spans = pieces()
    with pytest.raises(CorruptCacheError, match="truncated"):
        unpack(spans["00000/a/mean"][:-1], records["00000/a/mean"], where="here")


def test_the_checksum_is_that_of_zlib():
    _, _, records, spans = pieces()
    assert records["00000/a/mean"].crc32 == zlib.crc32(spans["00000/a/mean"])
    record = dataclasses.replace(records["00000/a/mean"], crc32=0)
    with pytest.raises(CorruptCacheError, match="checksum"):
        unpack(spans["00000/a/mean"], record, where="here")
