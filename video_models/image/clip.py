"""The vision part of a published CLIP model, from a local folder: what a first frame shows.

Only safetensors weights are read and no code of a folder is run. transformers is imported when an
encoder is opened, not before.

Legend: B images, H W pixels, L tokens (the class and the patches), D width.
"""

import json
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from video_models.formats.fingerprint import fingerprint

Output = Literal["tokens", "pooled"]

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the pixels that CLIP was trained on, unless a folder says otherwise."""


class ImageEncoder:
    """A frozen encoder; tokens are its last but one hidden states, as video models take them.

    The whole image is resized to the encoder's square, so that nothing of it is cut off.
    """

    def __init__(self, model: Any, *, mean: Any, std: Any, output: Output):
        self._model = model
        self._output = output
        self._mean, self._std = (torch.tensor(each).view(-1, 1, 1) for each in (mean, std))
        self.identity = {
            "name": "clip",
            "weights": fingerprint(model),
            "mean": list(mean),
            "std": list(std),
            "output": output,
        }

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return embeddings (B, L, D) of uint8 images (B, 3, H, W); L is 1 when they are pooled."""
        weights = next(self._model.parameters())
        side = self._model.config.image_size
        pixels = F.interpolate(
            images.float() / 255, size=(side, side), mode="bicubic", antialias=True
        )
        pixels = (pixels.clamp(0, 1) - self._mean.to(pixels)) / self._std.to(pixels)
        found = self._model(pixels.to(weights), output_hidden_states=True)
        if self._output == "pooled":
            pooled: Tensor = found.pooler_output[:, None]
            return pooled
        tokens: Tensor = found.hidden_states[-2]
        return tokens


def open_image_encoder(
    folder: str, output: Output = "tokens", device: torch.device | str = "cpu"
) -> ImageEncoder:
    """Open the vision part of the CLIP model in a folder, frozen, in float32.

    Raises:
        ValueError: the folder does not hold one in safetensors.
    """
    import transformers

    try:
        model = transformers.CLIPVisionModel.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder} holds no CLIP vision model with safetensors weights: "
            f"{str(error).splitlines()[0]}"
        ) from error
    frozen = model.eval().requires_grad_(False).to(device)
    mean, std = _pixel_statistics(Path(folder) / "preprocessor_config.json")
    return ImageEncoder(frozen, mean=mean, std=std, output=output)


def _pixel_statistics(path: Path) -> tuple[Any, Any]:
    """Return mean and standard deviation of the pixels that a model was trained on."""
    tree = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return tuple(tree.get("image_mean", MEAN)), tuple(tree.get("image_std", STD))
