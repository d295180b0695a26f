"""What pixels a video becomes: the recorded policy from a file to frames of one size and rate.

The policy is part of what a latent cache is bound to: two caches made under different policies
hold different pixels. Everything that changes a pixel is here; limits, which only refuse, are in
`limits.py`.
"""

import dataclasses
import math
from typing import Any, Literal, NamedTuple

Fit = Literal["crop", "pad"]
Resize = Literal["box", "bilinear", "bicubic", "lanczos"]
Untagged = Literal["bt601", "bt709", "by_size"]
Hdr = Literal["reject", "tonemap"]
Short = Literal["reject", "repeat_last"]


class ClipSize(NamedTuple):
    """The size of a clip, which decides the bucket that it falls into."""

    frames: int
    """Frames; 1 is an image."""
    height: int
    """Height in pixels."""
    width: int
    """Width in pixels."""

    def __str__(self) -> str:
        """Spell it as frames x height x width."""
        return "x".join(map(str, self))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PixelPolicy:
    """How a video becomes `frames` RGB frames of `height` x `width` at `fps`."""

    frames: int
    """Frames in a clip, which begins with the first one that the video shows. An autoencoder that
    compresses time by 4 takes 1 + 4n."""

    height: int
    """Height of the clip in pixels."""

    width: int
    """Width of the clip in pixels."""

    fps: float
    """Frames a second: frame k is the one on screen k / fps seconds after the first."""

    fit: Fit = "crop"
    """`crop` covers the clip and cuts the centre out; `pad` fits inside it with black bars."""

    resize: Resize = "bicubic"
    """Filter of the one resampling; each widens when it shrinks, so nothing aliases."""

    untagged: Untagged = "bt601"
    """YUV matrix of a video that does not name its own; `by_size` takes BT.709 from 1280 columns
    or above 576 lines, as players do."""

    hdr: Hdr = "reject"
    """A video of high dynamic range (PQ, HLG): `reject` it, or `tonemap` it to BT.709 with a white
    of 203 cd/m2, by the curve of Report ITU-R BT.2390."""

    short: Short = "reject"
    """A video that ends before the clip does: `reject` it, or `repeat_last` shows its last frame
    until the clip is full."""

    @property
    def size(self) -> ClipSize:
        """The size of its clips."""
        return ClipSize(self.frames, self.height, self.width)

    @property
    def making(self) -> dict[str, Any]:
        """How pixels are made, whatever the size of the clip; JSON."""
        fields = dataclasses.asdict(self)
        return {name: fields[name] for name in fields if name not in ClipSize._fields}

    def at(self, size: ClipSize) -> "PixelPolicy":
        """Return the same policy for clips of another size."""
        return dataclasses.replace(self, **size._asdict())

    def __post_init__(self) -> None:
        """Check every number."""
        for name in ("frames", "height", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)!r}; it must be at least 1")
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps = {self.fps!r}; it must be a number above 0")
