"""A reader of the same samples in a process of its own: `python cache_contenders.py NAME FOLDER`.

Answers each seed that it reads from its input with the time that it took to read all samples once
in a random order, a JSON line. Imports nothing of ours unless it is to measure ours, so that it
runs in an environment that holds another library.

A sample is its id, its caption, and mean, log-variance and text embedding in float32; all of them
are stored in bfloat16.
"""

import json
import mmap
import random
import struct
import sys
import tarfile
import time
import types
import warnings
from pathlib import Path

import numpy as np
import torch

NAMES = ("mean", "logvar", "text")


def ours(folder: Path):
    """Our cache; checks every tensor against its CRC."""
    from video_platform.latents import open_cache

    cache = open_cache(str(folder))

    def read(index):
        sample = cache[index]
        return sample.id, sample.caption, sample.mean, sample.logvar, sample.text["toy"]

    return len(cache), read


def tar(folder: Path):
    """WebDataset's shards through an index of offsets, mapped: as fast as they can be read."""
    from safetensors.torch import load

    maps, places = [], []
    for path in sorted(folder.glob("*.tar")):
        with path.open("rb") as file:
            maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        members = {}
        with tarfile.open(path) as archive:
            for member in archive:
                key, _, kind = member.name.partition(".")
                members.setdefault(key, {})[kind] = (member.offset_data, member.size)
        places += [(len(maps) - 1, *members[key].values()) for key in members]

    def read(index):
        shard, (told, told_size), (start, size) = places[index]
        data = maps[shard]
        text = json.loads(data[told : told + told_size])
        tensors = load(data[start : start + size])
        return text["id"], text["caption"], *(tensors[name].float() for name in NAMES)

    return len(places), read


def tar_checked(folder: Path):
    """The same with `zlib.crc32` over every sample, the one that Python comes with."""
    import zlib

    count, read = tar(folder)

    def checked(index):
        sample = read(index)
        for tensor in sample[2:]:
            zlib.crc32(memoryview(tensor.bfloat16().view(torch.int16).numpy()).cast("B"))
        return sample

    return count, checked


def mds(folder: Path):
    """MosaicML Streaming's shards, read by its own dataset; checks nothing."""
    import_streaming()
    from streaming import LocalDataset

    dataset = LocalDataset(str(folder))

    def read(index):
        sample = dataset[index]
        with warnings.catch_warnings():
            tensors = [torch.from_numpy(sample[name]).view(torch.bfloat16) for name in NAMES]
        return sample["id"], sample["caption"], *(tensor.float() for tensor in tensors)

    return len(dataset), read


def import_streaming() -> None:
    """Import Streaming; torchvision, which it does not need to read, may be missing or broken."""

    class Blank(types.ModuleType):
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        import transformers.feature_extraction_utils  # noqa: F401  (looks for torchvision itself)

        for name in ("", ".datasets", ".transforms", ".transforms.functional"):
            sys.modules[f"torchvision{name}"] = Blank(f"torchvision{name}")
    import streaming  # noqa: F401


def write_mds(tars: Path, folder: Path) -> None:
    """Write the samples of tar shards as MDS shards; without bfloat16, which the format lacks."""
    import_streaming()
    from streaming import MDSWriter

    columns = {"id": "str", "caption": "str", **dict.fromkeys(NAMES, "ndarray")}
    with MDSWriter(out=str(folder), columns=columns) as writer:
        for path in sorted(tars.glob("*.tar")):
            with tarfile.open(path) as archive:
                told = None
                for member in archive:
                    data = archive.extractfile(member).read()
                    if member.name.endswith(".json"):
                        told = json.loads(data)
                    else:
                        writer.write({**told, **stored_arrays(data)})


def stored_arrays(data: bytes) -> dict[str, np.ndarray]:
    """Return the tensors of a safetensors file as arrays of 16-bit integers."""
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    arrays = {}
    for name in NAMES:
        start, end = header[name]["data_offsets"]
        flat = np.frombuffer(data[8 + length + start : 8 + length + end], np.int16)
        arrays[name] = flat.reshape(header[name]["shape"])
    return arrays


CONTENDERS = {"ours": ours, "tar": tar, "tar + crc": tar_checked, "mds": mds}


def serve(name: str, folder: Path) -> None:
    """Read all samples once for every seed."""
    torch.set_num_threads(1)
    count, read = CONTENDERS[name](folder)
    digest = sum(float(part.double().sum()) for i in range(count) for part in read(i)[2:])
    ids = sorted(read(index)[0] for index in range(count))
    print(json.dumps({"samples": count, "digest": digest, "ids": [ids[0], ids[-1]]}), flush=True)
    for line in sys.stdin:
        order = random.Random(int(line)).sample(range(count), count)
        times, cpu = [], time.process_time()
        for index in order:
            start = time.perf_counter()
            read(index)
            times.append(time.perf_counter() - start)
        cpu_ms = (time.process_time() - cpu) / count * 1e3
        print(json.dumps({"wall": float(np.median(times)) * 1e3, "cpu": cpu_ms}), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1] == "write-mds":
        write_mds(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        serve(sys.argv[1], Path(sys.argv[2]))
