"""Masks of clips from files beside the videos: a video or a picture that is white where it counts.

A mask is decoded as its clip is, by the same policy, in a process of its own, so that both are cut
and resized alike; a picture counts for every frame.

Legend: B clips, T frames, H W pixels.
"""

import dataclasses
from collections.abc import Sequence

import torch

from video_platform.datasets.record import Record
from video_platform.errors import MediaError
from video_platform.latents.making import Frames, Made
from video_platform.storage import open_store
from video_platform.video.control import gray
from video_platform.video.isolate import IsolatedDecoder
from video_platform.video.limits import MediaLimits, reject
from video_platform.video.policy import PixelPolicy

WHITE = 128
"""Luma from which a pixel counts."""
MISSING = "no_mask"
"""Reason for which a clip is refused that has no mask."""


class MaskMaker:
    """Reads the mask of each clip.

    Args:
        suffix: what a mask's name has in place of the video's ending.
        policy: how pixels are made.
        limits: which media are refused.
    """

    def __init__(self, suffix: str, policy: PixelPolicy, limits: MediaLimits) -> None:
        self._suffix = suffix
        self._policy = dataclasses.replace(policy, short="repeat_last")
        self._limits = limits
        self._isolated = IsolatedDecoder(limits)

    def __call__(self, frames: Frames, records: Sequence[Record]) -> list[Made]:
        """Return `mask`, uint8 (1, T, H, W) of 0 and 1, of each clip; of the frames, the sizes."""
        return [self._make(record) for record in records]

    def _make(self, record: Record) -> Made:
        key = record.key.rsplit(".", 1)[0] + self._suffix
        store = open_store(record.url)
        if record.offset is not None or not store.exists(key):
            return Made(refusal=MediaError(MISSING, f"there is no mask {key!r} beside the video"))
        policy = self._policy.at(record.size) if record.size else self._policy
        try:
            if store.stat(key).size_bytes > self._limits.max_bytes:
                raise reject("too_large", f"mask {key!r}")
            clip = self._isolated.decode(store.read(key), policy, start_s=record.start_s)
        except MediaError as error:
            return Made(refusal=MediaError(error.reason, f"mask {key!r}: {error.message}"))
        luma = torch.stack([torch.from_numpy(gray(frame)) for frame in clip.frames])
        return Made(tensors={"mask": (luma >= WHITE).to(torch.uint8)[None]})
