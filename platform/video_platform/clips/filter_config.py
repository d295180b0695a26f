"""What a clip must be to be taken: a list in the recipe, of which each refuses some clips.

    clips:
      filters:
        - {kind: min_size, pixels: 256}
        - {kind: min_motion, change: 1.0}
        - {kind: near_duplicate, bits: 4}

The kind is the reason of the clips that are refused. A new filter is a dataclass and a member of
`Filter` here, and a function in `filters.py`.
"""

import dataclasses
from typing import Annotated, Literal

import pydantic


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blank:
    """It is black, or of another single shade, for too long."""

    kind: Literal["blank"] = "blank"

    contrast: float = 5.0
    """A picture is blank when its luma, 0 to 255, deviates by less from its mean. Darkness alone is
    not: the earth at night deviates by 18."""

    share: float = 0.5
    """The share of its pictures that may be so at most."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaxLength:
    """The piece that it begins is too long."""

    kind: Literal["max_length"] = "max_length"

    seconds: float
    """Seconds that the piece lasts at most."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MinLength:
    """The piece that it begins is too short; images are exempt."""

    kind: Literal["min_length"] = "min_length"

    seconds: float
    """Seconds that the piece lasts at least."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MinMotion:
    """It moves too little; images are exempt."""

    kind: Literal["min_motion"] = "min_motion"

    change: float
    """Mean difference of luma, 0 to 255, between a look and the next that it has at least, on
    average over its looks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MinSize:
    """Its picture is too small."""

    kind: Literal["min_size"] = "min_size"

    pixels: int
    """Pixels of the shorter side, as displayed, that the video has at least."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NearDuplicate:
    """It looks like a clip before it at start, middle and end."""

    kind: Literal["near_duplicate"] = "near_duplicate"

    bits: int = 4
    """Bits, of the 64 of a picture's hash, in which the pictures of two clips differ at most, on
    average. 0 finds copies, 4 other encodings too: real videos at half their size and at crf 32
    differ from themselves in up to 3 bits, from each other in 24 and more. The first clip in the
    order of ids and times stays."""

    same_file: bool = False
    """Whether clips of one file are compared with each other too; a camera that stands still then
    leaves one clip of a scene."""

    def __post_init__(self) -> None:
        """Check the number."""
        if not 0 <= self.bits <= 8:
            raise ValueError(f"bits = {self.bits!r}; it must be 0 to 8, of 64")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoCaption:
    """Nothing says what it shows."""

    kind: Literal["no_caption"] = "no_caption"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Static:
    """Nothing in it ever moves; images are exempt."""

    kind: Literal["static"] = "static"

    change: float = 0.3
    """Mean difference of luma, 0 to 255, between a look and the next, reached at least once."""


Filter = Annotated[
    Blank | MaxLength | MinLength | MinMotion | MinSize | NearDuplicate | NoCaption | Static,
    pydantic.Field(discriminator="kind"),
]
"""Any of them."""
