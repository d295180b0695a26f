"""Weights of LPIPS with VGG16, from local files as they were published.

One file may hold all, such as the state dict of `lpips.LPIPS(net="vgg")`, or two files a part each:
torchvision's VGG16 (`features.0.weight` ...) and the authors' heads (`lin0.model.1.weight` ...).
Safetensors, or a torch file that holds nothing but tensors.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from video_models.formats.folder import ModelFormatError
from video_models.objectives.lpips import Lpips

SLICES = re.compile(r"^net\.slice[1-5]\.(?=\d)")
"""What the authors' package puts before the number of a VGG16 layer."""


def open_lpips(files: Sequence[str | Path]) -> Lpips:
    """Open the perceptual distance, frozen, in float32.

    Raises:
        ModelFormatError: a file cannot be read, or together they lack a weight of VGG16 or a head.
    """
    network = Lpips()
    given: dict[str, Tensor] = {}
    for file in files:
        given |= {SLICES.sub("features.", name): t for name, t in _read(Path(file)).items()}
    wanted = network.state_dict()
    names = ", ".join(str(file) for file in files) or "no file"
    missing = sorted(wanted.keys() - given.keys())
    if missing:
        raise ModelFormatError(
            f"{names}: {len(missing)} of the {len(wanted)} weights of LPIPS are missing, such as "
            f"{missing[0]!r}; loss.lpips_weights names torchvision's VGG16 and the heads of LPIPS, "
            "or one file with both"
        )
    for name, tensor in wanted.items():
        if given[name].shape != tensor.shape:
            raise ModelFormatError(
                f"{names}: {name!r} has shape {tuple(given[name].shape)}, VGG16's has "
                f"{tuple(tensor.shape)}; loss.lpips_weights takes the VGG16 variant only"
            )
    network.load_state_dict({name: given[name].float() for name in wanted})
    return network


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, by name."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tree = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, UnpicklingError, safetensors.SafetensorError) as error:
        raise ModelFormatError(f"{path} cannot be read as weights: {error}") from None
    if not isinstance(tree, dict):
        raise ModelFormatError(f"{path} holds a {type(tree).__name__}, not tensors by name")
    return {name: value for name, value in tree.items() if isinstance(value, Tensor)}
