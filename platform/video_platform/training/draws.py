"""Random numbers that depend on what they are for, not on who draws them or when.

Every draw names its purpose: `generator(seed, "noise", position)` gives the same numbers on one
rank or eight, before or after a resume. The generator lives on the CPU, so a GPU changes nothing.
"""

import hashlib

import torch


def generator(seed: int, *key: int | str) -> torch.Generator:
    """Return a CPU generator for one purpose.

    Args:
        seed: root of the run.
        key: what the numbers are for, for example `"noise", position`.
    """
    text = repr((seed, *key)).encode()
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
