"""What runs inside the Ray actors that decode: a record goes in, frames or a refusal come out.

Nothing here needs torch, so a decoder takes a quarter of an encoder's memory to start.

Legend: T frames, H W pixels.
"""

import numpy as np
from numpy.typing import NDArray

from video_platform.datasets.record import Record
from video_platform.datasets.source import read_media
from video_platform.errors import MediaError
from video_platform.video.isolate import IsolatedDecoder
from video_platform.video.limits import MediaLimits, reject
from video_platform.video.policy import PixelPolicy


class Decoder:
    """Decodes one video after the other, in a child process that may crash."""

    def __init__(self, policy: PixelPolicy, limits: MediaLimits) -> None:
        self._policy = policy
        self._limits = limits
        self._isolated = IsolatedDecoder(limits)

    def ready(self) -> None:
        """Answer once the actor runs."""

    def decode(self, record: Record) -> NDArray[np.uint8] | MediaError:
        """Return the frames (T, H, W, 3) of a clip, or the error for which it is refused.

        Raises:
            SourceError: it is gone or has changed; another run may do better.
            StorageError: it cannot be read now.
        """
        if record.size_bytes > self._limits.max_bytes:
            return reject("too_large", f"{record.size_bytes} bytes")
        answer = self._try(record)
        return self._try(record) if _may_be_chance(answer) else answer

    def _try(self, record: Record) -> NDArray[np.uint8] | MediaError:
        try:
            policy = self._policy.at(record.size) if record.size else self._policy
            return self._isolated.decode(read_media(record), policy).frames
        except MediaError as error:
            return error


def _may_be_chance(answer: NDArray[np.uint8] | MediaError) -> bool:
    """Say whether a busy machine may be to blame: such a refusal has to come twice to last."""
    return isinstance(answer, MediaError) and answer.reason in ("crash", "timeout")
