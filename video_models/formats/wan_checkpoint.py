"""Read and write Wan's own autoencoder files: a state dict under Wan's names, nothing else.

A `.pth` file is a pickle; it is opened with `weights_only`, which builds tensors and runs no code.
"""

import os
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from video_models.autoencoder.model import Autoencoder
from video_models.formats.folder import ModelFormatError, load_weights
from video_models.formats.tensor_file import SUFFIXES, read_tensors
from video_models.formats.wan_names import config_of, from_original, is_original, to_original

DOWNLOADS = "Wan*_VAE.*"
"""What the file is called in a folder that Wan published, beside a transformer and its config."""


def original_file(path: str | Path) -> Path | None:
    """Return the file of Wan's that a path is or holds; None where it is a model folder.

    Raises:
        ModelFormatError: the folder holds several.
    """
    path = Path(path)
    if path.is_file():
        return path
    found = sorted(file for file in path.glob(DOWNLOADS) if file.suffix in SUFFIXES)
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise ModelFormatError(f"{path} holds several autoencoders: {names}; name one of the files")
    return found[0] if found else None


def open_original(file: str | Path) -> Autoencoder:
    """Open a file of Wan's in float32, in evaluation mode; the config is read off the tensors.

    Raises:
        ModelFormatError: it is no such file, is damaged, or holds more than tensors.
    """
    file = Path(file)
    state = read_tensors(file)
    if not is_original(state):
        raise ModelFormatError(
            f"{file} does not hold the tensors of Wan's autoencoder; "
            "give such a file, or a folder with a config.json"
        )
    try:
        config = config_of(state)
        model = Autoencoder(config)
        return load_weights(model, from_original(state, config), where=file)
    except ValueError as error:
        raise ModelFormatError(f"{file}: {error}") from None


def save_original(model: Autoencoder, file: str | Path) -> None:
    """Write a file that Wan's own code opens; the normalisation is not part of it.

    Args:
        model: of a kind that Wan's code knows.
        file: ends in `.pth` or `.safetensors`.

    Raises:
        ModelFormatError: Wan's code has no such autoencoder, or the file's ending is another.
    """
    file = Path(file)
    if file.suffix not in SUFFIXES:
        raise ModelFormatError(f"{file} ends in {file.suffix!r}; allowed are {', '.join(SUFFIXES)}")
    state = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in to_original(model.state_dict(), model.config).items()
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    os.close(handle)
    try:
        if file.suffix == ".safetensors":
            save_file(state, scratch, metadata={"format": "pt"})
        else:
            torch.save(state, scratch)
        os.replace(scratch, file)
    finally:
        Path(scratch).unlink(missing_ok=True)
