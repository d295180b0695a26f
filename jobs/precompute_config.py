"""What `precompute` checks, forecasts, and makes besides latents and text.

Importing this file needs nothing heavy, so that recipes stay light.
"""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class FidelityConfig:
    """How closely latents are looked at while they are made."""

    share: float = 0.01
    """Share of the clips whose latents are decoded back; which ones follows from their ids."""

    least: int = 4
    """Fewest clips of a bucket that are looked at, as far as it has so many."""

    min_psnr_db: float | None = None
    """The run stops where the clips of a bucket decode to less on average; None only records."""

    max_chunk_difference: float = 0.02
    """The run stops where chunks or tiles change the latents of a clip by more: root mean square,
    relative to their standard deviation. Rounding in float32 makes 1e-6, in bfloat16 5e-3."""

    def __post_init__(self) -> None:
        """Check every number."""
        if not 0 <= self.share <= 1:
            raise ValueError(f"share = {self.share!r}; it must be in [0, 1]")
        if self.least < 0:
            raise ValueError(f"least = {self.least!r}; it must be at least 0")
        if self.max_chunk_difference <= 0:
            raise ValueError(f"max_chunk_difference = {self.max_chunk_difference!r}; it is above 0")


NEEDS = {"path": ("codes", "image"), "method": ("control",), "suffix": ("mask",)}
"""Which kinds of layers need a field; the others have none."""
TAKES = {"path": ("given",)}
"""Which kinds of layers may do without a field that others need."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerConfig:
    """One further layer: something that is stored of every clip, beside its latents."""

    kind: Literal["codes", "control", "given", "image", "mask"]
    """`codes`: tokens of a quantised autoencoder. `control`: a map computed from the frames.
    `given`: latents of the clip with all frames blank but some that image to video is given.
    `image`: the embedding of the first or last frame. `mask`: what a file beside the video
    marks."""

    path: str | None = None
    """A folder: of `codes` the token autoencoder, of `image` a CLIP model with a vision part; of
    `given` the autoencoder, None being the recipe's, which training on it needs."""

    first: int = 1
    """How many frames at the clip's beginning a `given` layer shows."""

    last: int = 0
    """How many frames at its end: 1 for first and last frame to video."""

    frame: Literal["first", "last"] = "first"
    """Which frame of the clip an `image` layer embeds."""

    method: Literal["edges", "gray"] | None = None
    """What a `control` layer holds, by name in `video_platform.video.control.METHODS`."""

    factor: int = 1
    """How many times smaller each side of a `control` map is than the frames."""

    output: Literal["tokens", "pooled"] = "tokens"
    """What an `image` layer holds: an embedding for each patch, or one for the whole frame."""

    suffix: str | None = None
    """What the name of a `mask` file has in place of the video's ending, such as `.mask.mp4` or
    `.mask.png`. A mask that changes is not noticed: give the layer another name then."""

    def __post_init__(self) -> None:
        """Check that each kind has what it needs and no more."""
        for name, kinds in NEEDS.items():
            value = getattr(self, name)
            if self.kind in kinds and value is None:
                raise ValueError(f"a {self.kind} layer needs {name}")
            if self.kind not in (*kinds, *TAKES.get(name, ())) and value is not None:
                raise ValueError(f"{name} is {value!r}; a {self.kind} layer has none")
        if self.factor < 1 or (self.factor > 1 and self.kind != "control"):
            raise ValueError(f"factor is {self.factor!r}; 1 or, of control, more")
        if self.output != "tokens" and self.kind != "image":
            raise ValueError(f"output is {self.output!r}; a {self.kind} layer has no choice")
        if self.frame != "first" and self.kind != "image":
            raise ValueError(f"frame is {self.frame!r}; a {self.kind} layer has no choice")
        if self.kind != "given" and (self.first, self.last) != (1, 0):
            raise ValueError(f"first and last belong to a given layer; this is a {self.kind} layer")
        if self.first < 0 or self.last < 0 or not self.first + self.last:
            raise ValueError(
                f"first is {self.first!r} and last {self.last!r}; a given layer shows at least one "
                "frame"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForecastConfig:
    """What `vdp precompute RECIPE --plan` looks at, and what things cost."""

    clips: int = 50
    """Clips that are really made for the forecast, drawn by their ids."""

    encoder_price_per_hour: float | None = None
    """Price of an hour of one encoder with its GPUs and CPUs; None leaves money out."""

    decoder_price_per_hour: float = 0.0
    """Price of an hour of one decoder, where it is not paid with the encoders."""

    storage_price_per_tb_month: float | None = None
    """Price of 10^12 stored bytes for a month; None leaves it out."""

    currency: str = "USD"
    """What prices are in."""

    def __post_init__(self) -> None:
        """Check every number."""
        if self.clips < 1:
            raise ValueError(f"clips is {self.clips!r}; it is at least 1")
        for name in (
            "encoder_price_per_hour",
            "decoder_price_per_hour",
            "storage_price_per_tb_month",
        ):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} is {value!r}; it is not below 0")
