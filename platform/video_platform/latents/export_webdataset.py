"""WebDataset: tar files in which the files of one sample share their name up to the first dot.

    000000012.json           id, caption, program
    000000012.safetensors    every tensor in the precision in which it is stored
    000000012.txt            the caption

A reader needs no pickle: `safetensors.torch.load(sample["safetensors"])`. The index is that of
`wids`, for reading at random. Format: https://github.com/webdataset/webdataset.
"""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence

from safetensors.torch import save

from video_platform.latents.export_format import Written
from video_platform.latents.reader import StoredSample
from video_platform.latents.sealed import canonical_json


class WebDataset:
    """Tar shards.

    Args:
        first: a sample; any may follow.
    """

    def __init__(self, first: StoredSample) -> None:
        del first

    def name(self, number: int) -> str:
        """Return the key of a shard."""
        return f"shard-{number:06d}.tar"

    def shard(self, samples: Iterable[StoredSample], first: int) -> bytes:
        """Return the bytes of a tar file, which follow from the samples alone."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for place, sample in enumerate(samples, first):
                for ending, data in _files(sample).items():
                    entry = tarfile.TarInfo(f"{place:09d}.{ending}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
        return buffer.getvalue()

    def index(self, shards: Sequence[Written]) -> tuple[str, bytes]:
        """Return the index of `wids`."""
        listed = [
            {"url": shard.name, "nsamples": shard.samples, "filesize": shard.size_bytes}
            for shard in shards
        ]
        tree = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": listed}
        return "index.json", json.dumps(tree, indent=1).encode()


def _files(sample: StoredSample) -> Mapping[str, bytes]:
    """Return the files of a sample by what their names end in."""
    facts = {"id": sample.id, "caption": sample.caption, "program": sample.program}
    tensors = {name: tensor.contiguous() for name, tensor in sample.tensors.items()}
    return {
        "json": canonical_json(facts),
        "safetensors": save(tensors),
        "txt": sample.caption.encode(),
    }
