"""How clips are judged: a function a filter, asked about every clip of a source in order."""

import typing
from collections.abc import Callable, Mapping
from typing import Any

from video_platform.clips.duplicates import DuplicateIndex
from video_platform.clips.filter_config import (
    Blank,
    Filter,
    MaxLength,
    MinLength,
    MinMotion,
    MinSize,
    NearDuplicate,
    NoCaption,
    Static,
)
from video_platform.clips.piece import Piece

Refuses = Callable[[Piece], bool]
"""Says whether a clip is refused; it may remember those that it was asked about before."""


def begin(config: Filter) -> Refuses:
    """Return the judgement of a filter for one source."""
    return FILTERS[config.kind](config)


def _blank(config: Blank) -> Refuses:
    def refuses(piece: Piece) -> bool:
        blank = [look.contrast < config.contrast for look in piece.looks]
        return sum(blank) > config.share * len(blank)

    return refuses


def _max_length(config: MaxLength) -> Refuses:
    return lambda piece: piece.seconds > config.seconds


def _min_length(config: MinLength) -> Refuses:
    return lambda piece: not piece.still and piece.seconds < config.seconds


def _min_motion(config: MinMotion) -> Refuses:
    return lambda piece: sum(piece.changes) < config.change * len(piece.changes)


def _min_size(config: MinSize) -> Refuses:
    return lambda piece: min(piece.scan.width, piece.scan.height) < config.pixels


def _near_duplicate(config: NearDuplicate) -> Refuses:
    index = DuplicateIndex(config.bits)

    def refuses(piece: Piece) -> bool:
        place = f"{piece.file.id}#{piece.start_s}" if config.same_file else piece.file.id
        return index.meets(piece.hashes, place)

    return refuses


def _no_caption(config: NoCaption) -> Refuses:
    return lambda piece: piece.file.caption is None


def _static(config: Static) -> Refuses:
    return lambda piece: max(piece.changes, default=config.change) < config.change


FILTERS: Mapping[str, Callable[[Any], Refuses]] = {
    "blank": _blank,
    "max_length": _max_length,
    "min_length": _min_length,
    "min_motion": _min_motion,
    "min_size": _min_size,
    "near_duplicate": _near_duplicate,
    "no_caption": _no_caption,
    "static": _static,
}
"""The judgement of each kind."""

MEANINGS: Mapping[str, str] = {
    kind.kind: f"{kind.__doc__[0].lower()}{kind.__doc__[1:]}".rstrip(".")
    for kind in typing.get_args(typing.get_args(Filter)[0])
}
"""What each kind says of the clips that it refuses."""
