"""One file of named tensors: safetensors, or a pickle that is opened without running its code."""

import pickle
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from video_models.formats.folder import ModelFormatError

SUFFIXES = (".pth", ".pt", ".safetensors")

DAMAGES = (
    safetensors.SafetensorError,
    *(OSError, EOFError, RuntimeError, LookupError, ValueError),  # what torch's reader meets
)
"""What reading raises where a file is cut off, or none of tensors."""


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    Raises:
        ModelFormatError: it has another ending, is damaged, or holds more than tensors.
    """
    if file.suffix not in SUFFIXES:
        raise ModelFormatError(f"{file} ends in {file.suffix!r}; read are {', '.join(SUFFIXES)}")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ModelFormatError(
            f"{file} was not opened: it holds more than tensors, which could run code; "
            "ask for a safetensors file"
        ) from None
    except DAMAGES as error:
        raise ModelFormatError(f"{file} is damaged: {error}") from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelFormatError(f"{file} holds a {type(state).__name__}, not named tensors")
    return state
