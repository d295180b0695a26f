"""What runs inside the Ray actors that decode: a clip's record goes in, its frames come out.

Nothing here needs torch, so a decoder takes a quarter of an encoder's memory to start.

Legend: T frames, H W pixels.
"""

import dataclasses
import time

import numpy as np
from numpy.typing import NDArray

from video_platform.datasets.record import Record
from video_platform.errors import MediaError
from video_platform.latents.fetching import Fetcher
from video_platform.video.decode import Clip
from video_platform.video.isolate import IsolatedDecoder
from video_platform.video.limits import MediaLimits, reject
from video_platform.video.policy import PixelPolicy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Note:
    """What came of decoding one clip, beside its frames."""

    seconds: float
    """Wall time that the decoder spent on it."""
    decoder: str = ""
    """What made its pictures, and why; empty for a clip that was refused."""
    reason: str = ""
    """Why it is refused, a reason of `video.limits.REASONS`; empty for one that is not."""
    error: str = ""
    """The refusal in words."""


def machine() -> str:
    """Return the id of the machine on which the calling actor runs."""
    import ray

    node: str = ray.get_runtime_context().get_node_id()
    return node


class Decoder:
    """Decodes one clip after the other, in a child process that may crash."""

    def __init__(self, policy: PixelPolicy, limits: MediaLimits) -> None:
        self._policy = policy
        self._limits = limits
        self._isolated = IsolatedDecoder(limits)
        self._fetcher = Fetcher()

    def ready(self) -> tuple[str, None]:
        """Return the machine, once the actor and its child run."""
        self._isolated.start()
        return machine(), None

    def decode(self, record: Record) -> tuple[NDArray[np.uint8] | None, Note]:
        """Return the frames (T, H, W, 3) of a clip, None if it is refused; and a note about it.

        Raises:
            SourceError: it is gone or has changed; another run may do better.
            StorageError: it cannot be read now.
        """
        started_s = time.perf_counter()
        answer = self._answer(record)
        seconds = time.perf_counter() - started_s
        if isinstance(answer, MediaError):
            note = Note(seconds=seconds, reason=answer.reason, error=str(answer))
            return None, note
        return answer.frames, Note(seconds=seconds, decoder=f"{answer.backend}: {answer.why}")

    def _answer(self, record: Record) -> Clip | MediaError:
        if record.size_bytes > self._limits.max_bytes:
            return reject("too_large", f"{record.size_bytes} bytes")
        answer = self._try(record)
        return self._try(record) if _may_be_chance(answer) else answer

    def _try(self, record: Record) -> Clip | MediaError:
        try:
            policy = self._policy.at(record.size) if record.size else self._policy
            media = self._fetcher.media(record)
            return self._isolated.decode(media, policy, start_s=record.start_s)
        except MediaError as error:
            return error


def _may_be_chance(answer: Clip | MediaError) -> bool:
    """Say whether a busy machine may be to blame: such a refusal has to come twice to last."""
    return isinstance(answer, MediaError) and answer.reason in ("crash", "timeout")
