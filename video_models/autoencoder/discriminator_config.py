"""The size of a patch discriminator.

Importing this file needs no torch, so that recipes stay light.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Sizes of a `PatchDiscriminator`; the defaults are pix2pix's."""

    base_dim: int = 64
    """Channels of the first layer; each later one has twice as many, up to eight times."""

    num_layers: int = 3
    """Layers that halve height and width: a patch that is judged covers 34 pixels a side with 2,
    70 with 3, 142 with 4."""

    kernel_frames: int = 3
    """Frames that a kernel spans, an odd number; 1 judges each frame by itself."""

    def __post_init__(self) -> None:
        for name in ("base_dim", "num_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be at least 1")
        if self.kernel_frames < 1 or self.kernel_frames % 2 == 0:
            raise ValueError(f"kernel_frames is {self.kernel_frames!r}; it must be 1, 3, 5, ...")

    @property
    def smallest_side(self) -> int:
        """Least height and width, in pixels, that hold one patch."""
        return 3 << self.num_layers
