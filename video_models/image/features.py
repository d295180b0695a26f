"""What a frozen vision network sees in frames: its tokens after some of its blocks.

DINOv2 or the vision part of CLIP, from a local folder. Gradients flow through it to the frames.
Only safetensors weights are read and no code of a folder is run. transformers is imported when a
network is opened, not before.

Legend: B clips, T frames, H W pixels, R Q rows and columns of patches, D width.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_models.pick import pick

CLASSES = {
    "clip": "CLIPVisionModel",
    "clip_vision_model": "CLIPVisionModel",
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
}
"""Class in transformers, by the `model_type` of a folder's config.json."""

CLIP_PIXELS = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_PIXELS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of the pixels that a network was trained on, unless its folder says so."""

NUM_BLOCKS = 4
"""Blocks whose tokens are returned unless some are named."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a network saw in clips."""

    tokens: list[Tensor]
    """(B, T R Q, D) after each chosen block, in (frame, row, column) order."""

    summary: Tensor
    """(B, D): the class token after the last block, a mean over the frames."""

    grid: tuple[int, int, int]
    """T, R, Q."""


class FrameNetwork(nn.Module):
    """A frozen vision network that looks at every frame of a clip.

    Args:
        model: of transformers, one of `CLASSES`.
        pixels: mean and deviation of the pixels that it was trained on.
        blocks: after which blocks tokens are returned, from 0; empty spreads some.
        side: frames are resized to a square of so many pixels; None is the network's own.

    Raises:
        ValueError: there are no such blocks, or the side is no multiple of the patches'.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: Any,
        *,
        pixels: tuple[Sequence[float], Sequence[float]],
        blocks: Sequence[int] = (),
        side: int | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.blocks = tuple(blocks) or _spread(model.config.num_hidden_layers)
        self.side = side or model.config.image_size
        self._patch = model.config.patch_size
        self._check(model.config.num_hidden_layers)
        for name, values in zip(("mean", "std"), pixels, strict=True):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    @property
    def dim(self) -> int:
        """D."""
        width: int = self.model.config.hidden_size
        return width

    def forward(self, frames: Tensor) -> Seen:
        """Look at clips (B, 3, T, H, W) in [-1, 1]; frames are seen whole, whatever their shape."""
        B, _, T, _, _ = frames.shape
        images = frames.transpose(1, 2).flatten(0, 1)  # (B T, 3, H, W)
        small = F.interpolate(images, size=(self.side, self.side), mode="bilinear", antialias=True)
        pixels = ((small + 1) / 2 - self.mean) / self.std
        found = self.model(pixels, output_hidden_states=True, **self._positions())
        patches = (self.side // self._patch) ** 2
        tokens = [
            found.hidden_states[block + 1][:, -patches:].unflatten(0, (B, T)).flatten(1, 2)
            for block in self.blocks
        ]
        summary = found.pooler_output.unflatten(0, (B, T)).mean(dim=1)
        rows = self.side // self._patch
        return Seen(tokens=tokens, summary=summary, grid=(T, rows, rows))

    def _positions(self) -> dict[str, bool]:
        """Say that positions are stretched to another side; DINOv2 does so by itself."""
        stretched = self.side != self.model.config.image_size
        return {"interpolate_pos_encoding": True} if stretched and self._is_clip() else {}

    def _is_clip(self) -> bool:
        return str(self.model.config.model_type).startswith("clip")

    def _check(self, layers: int) -> None:
        if unknown := sorted(set(self.blocks) - set(range(layers))):
            raise ValueError(f"blocks name {unknown}; the vision network's last is {layers - 1}")
        if self.side % self._patch:
            raise ValueError(
                f"side is {self.side}; it must be a multiple of {self._patch}, the side of the "
                "vision network's patches"
            )


def open_frame_network(
    folder: str | Path, *, blocks: Sequence[int] = (), side: int | None = None
) -> FrameNetwork:
    """Open the vision network in a folder, frozen, in float32.

    Raises:
        ValueError: the folder does not hold one in safetensors, or see `FrameNetwork`.
    """
    import transformers

    kind = vision_kind(folder)
    try:
        model = getattr(transformers, CLASSES[kind]).from_pretrained(
            str(folder), use_safetensors=True, local_files_only=True, dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder} holds no {kind} network with safetensors weights: "
            f"{str(error).splitlines()[0]}"
        ) from error
    network = FrameNetwork(model, pixels=_pixels(Path(folder), kind), blocks=blocks, side=side)
    return network.eval().requires_grad_(False)


def vision_kind(folder: str | Path) -> str:
    """Return which network a folder holds, from its config.json alone.

    Raises:
        ValueError: none that is known.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} holds no config.json; name a local DINOv2 or CLIP folder")
    kind = str(json.loads(path.read_text(encoding="utf-8")).get("model_type"))
    pick(CLASSES, kind, "vision network")
    return kind


def _pixels(folder: Path, kind: str) -> tuple[Sequence[float], Sequence[float]]:
    path = folder / "preprocessor_config.json"
    tree = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    mean, std = CLIP_PIXELS if kind.startswith("clip") else IMAGENET_PIXELS
    return tree.get("image_mean", mean), tree.get("image_std", std)


def _spread(layers: int) -> tuple[int, ...]:
    """Return some blocks, evenly spread up to the last."""
    count = min(NUM_BLOCKS, layers)
    return tuple(layers * (place + 1) // count - 1 for place in range(count))
