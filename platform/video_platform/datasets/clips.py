"""A dataset's clips as pixels, decoded when they are asked for.

For training on pixels. A clip that cannot be decoded never stops a run: the next one that can
stands in for it, always the same one, and the reject is counted with its reason.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from video_platform.datasets.record import Record
from video_platform.datasets.source import read_media
from video_platform.errors import MediaError, SourceError
from video_platform.video.isolate import IsolatedDecoder
from video_platform.video.limits import MediaLimits
from video_platform.video.policy import PixelPolicy


class DecodedClips:
    """A sequence of clips: uint8 RGB, (T, H, W, 3).

    Attributes:
        rejects: reason by record id, of the clips that were asked for and could not be decoded.
    """

    def __init__(
        self, records: Sequence[Record], *, policy: PixelPolicy, limits: MediaLimits
    ) -> None:
        if not records:
            raise SourceError("there is no clip to decode; check source.url")
        self.rejects: dict[str, str] = {}
        self._records = list(records)
        self._policy = policy
        self._decoder = IsolatedDecoder(limits)

    def __len__(self) -> int:
        """Return how many clips the source lists, readable or not."""
        return len(self._records)

    def name(self, index: int) -> str:
        """Return the id of the record of clip `index`."""
        return self._records[index].id

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Decode clip `index`, or the next one that can be decoded.

        Raises:
            SourceError: no clip of the source can be decoded.
        """
        for offset in range(len(self)):
            record = self._records[(index + offset) % len(self)]
            if record.id in self.rejects:
                continue
            try:
                media = read_media(record)
                return self._decoder.decode(media, self._policy, start_s=record.start_s).frames
            except MediaError as error:
                self.rejects[record.id] = error.reason
        reasons = Counter(self.rejects.values()).most_common()
        raise SourceError(
            f"none of the {len(self)} clips can be decoded: "
            + ", ".join(f"{count} x {reason}" for reason, count in reasons)
            + "; `vdp inspect` shows each"
        )

    def close(self) -> None:
        """End the decoder's process."""
        self._decoder.close()
