"""The identity of weights: a hash of the tensors, whatever file they came from."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def fingerprint(model: nn.Module | Mapping[str, Tensor]) -> str:
    """Return the SHA-256 (hex) over the sorted (name, dtype, shape, bytes) of a state dict.

    Saving a model again, or in other shards, does not change it; one bit of one weight does.
    """
    state = model.state_dict() if isinstance(model, nn.Module) else model
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
