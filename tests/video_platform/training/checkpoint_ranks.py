"""What the tests of checkpoints run on real ranks: each scenario returns a report from rank 0.

Launched like `ranks.py`.
"""

import resource
import sys
import time
from pathlib import Path

import torch.distributed as dist

from tests.video_platform.training import ranks
from tests.video_platform.training.saved_network import Network, checkpoints, load, save
from video_platform.errors import CheckpointError
from video_platform.storage import Store, open_store
from video_platform.training.ranks import from_all


def fails(folder):
    """Rank 1 has no room."""
    url = folder / "fails"
    save(url, 1)
    store = checkpoints(url)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if dist.get_rank() == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    store.save({"net": Network(2)}, step=2, state={})
    message, start_s = "", time.monotonic()
    try:
        store.save({"net": Network(3)}, step=3, state={})
    except CheckpointError as error:
        message = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    seconds = time.monotonic() - start_s
    return {"messages": from_all(message), "goes on at": load(url)[0], "seconds": seconds}


def torn(folder):
    """A file that rank 1 reads is altered; what each rank reads of the other one is counted."""
    url = folder / "torn"
    save(url, 1, 2)
    files = open_store(url / "step-00000002")
    if dist.get_rank() == 0:
        (key,) = (key for key in files.list() if key.endswith("rank-00001-00000.safetensors"))
        files.put(key, files.read(key)[:-1] + b"x")
    dist.barrier()
    read, plain = [], Store.read

    def counted(store, key, **place):
        read.append(f"{store.url}/{key}")
        return plain(store, key, **place)

    Store.read = counted
    step, network = load(url)
    Store.read = plain
    assert network.equals(Network(1)) and network.state["ema"]["w"].signbit()[0, 1]
    mine = sum("step-00000001/" in key and key.endswith(".safetensors") for key in read)
    told = files.read("quarantined.json").decode()
    return {"steps": from_all(step), "reason": told, "files read": from_all(mine)}


def hidden(folder):
    """Rank 1 does not see the files."""
    url = folder / "hidden"
    save(url, 1)
    store = checkpoints(url if dist.get_rank() == 0 else folder / "elsewhere")
    message = ""
    try:
        store.restore({"net": Network()})
    except CheckpointError as error:
        message = str(error)
    return {"messages": from_all(message), "steps": [load(url)[0]]}


if __name__ == "__main__":
    ranks.main(Path(sys.argv[1]), sys.argv[2:], globals())
