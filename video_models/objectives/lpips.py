"""The learned perceptual distance between images, LPIPS with VGG16.

Zhang et al. 2018, arXiv 1801.03924. Parameters carry the names of torchvision's VGG16
(`features.0.weight`) and of the authors' linear heads (`lin0.model.1.weight`); the weights come
from a local file, see `video_models.formats.lpips`.

Legend: B batch, C channels, T frames, H W rows and columns.
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512, 512)
"""Channels of VGG16's five groups of convolutions."""
DEPTHS = (2, 2, 3, 3, 3)
"""Convolutions of each group; features are taken behind the last one's ReLU."""
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
"""ImageNet's mean and deviation, for pixels in [-1, 1]."""
SMALLEST = 16
"""Least height and width: four times the features are halved."""
EPSILON = 1e-10


class Lpips(nn.Module):
    """The distance between two videos, frame by frame; frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.features = _vgg16()
        for index, width in enumerate(WIDTHS):
            head = nn.Sequential(nn.Identity(), nn.Conv2d(width, 1, 1, bias=False))
            self.add_module(f"lin{index}", nn.ModuleDict({"model": head}))
        self.requires_grad_(False).eval()

    def forward(self, reconstruction: Tensor, video: Tensor) -> Tensor:
        """Return the distance of each clip, a mean over its frames; (B,).

        Args:
            reconstruction: (B, 3, T, H, W), around [-1, 1].
            video: the same shape.

        Raises:
            ValueError: the frames are too small for VGG16.
        """
        B, _, _, H, W = video.shape
        if min(H, W) < SMALLEST:
            raise ValueError(
                f"LPIPS needs frames of at least {SMALLEST} x {SMALLEST} pixels, not {H} x {W}; "
                "set loss.lpips to 0"
            )
        pairs = zip(self._activations(reconstruction), self._activations(video), strict=True)
        total = video.new_zeros(B)
        for index, (one, other) in enumerate(pairs):
            difference = (_unit(one) - _unit(other)).square()
            head = self.get_submodule(f"lin{index}.model")
            total = total + head(difference).reshape(B, -1).mean(1)
        return total

    def _activations(self, video: Tensor) -> Iterator[Tensor]:
        """Yield the features of all frames, (B T, C, H', W'), one group after the other."""
        shift, scale = (video.new_tensor(v).view(-1, 1, 1) for v in (SHIFT, SCALE))
        x = (video.transpose(1, 2).flatten(0, 1) - shift) / scale
        for layer in self.features.children():
            if isinstance(layer, nn.MaxPool2d):
                yield x
            x = layer(x)
        yield x


def _vgg16() -> nn.Sequential:
    """Build VGG16's convolutions (Simonyan & Zisserman 2015) up to the last ReLU."""
    layers: list[nn.Module] = []
    before = (3, *WIDTHS)
    for (in_dim, width), depth in zip(pairwise(before), DEPTHS, strict=True):
        if layers:
            layers.append(nn.MaxPool2d(2))
        for i in range(depth):
            layers += [nn.Conv2d(in_dim if i == 0 else width, width, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)


def _unit(features: Tensor) -> Tensor:
    """Bring each position's features to length 1."""
    wide = features.to(torch.promote_types(features.dtype, torch.float32))
    length = torch.linalg.vector_norm(wide, dim=1, keepdim=True)
    unit: Tensor = wide / (length + EPSILON)
    return unit.type_as(features)
