"""Tries again what a store failed to do, for a bounded time.

    patience = Patience(600)
    patience.insist(lambda: store.put(key, data), doing="writing step 500")

A store repeats each request by itself for seconds, as long as a lost packet or a busy server takes.
What is left to whoever calls it is an outage of minutes: here the pauses are long, and few.
"""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from video_platform.errors import StorageError
from video_platform.storage import MissingKeyError

T = TypeVar("T")
PAUSES_S = (5.0, 15.0, 45.0)
"""Seconds before the second attempt at one thing, the third, and the last."""
log = logging.getLogger(__name__)


class Patience:
    """What is left of the time in which something may be tried again, from now on.

    Args:
        timeout_s: after half of it nothing is begun anew, so that what was begun may end in time.
    """

    def __init__(self, timeout_s: float) -> None:
        self._last_s = time.monotonic() + timeout_s / 2

    def insist(self, action: Callable[[], T], *, doing: str) -> T:
        """Do something, again where a store failed in a way that may pass.

        Args:
            action: may be done twice.
            doing: what it is, for the log.

        Raises:
            StorageError: of the last attempt; at once where only a person can help, as with a full
                disk.
        """
        for pause_s in PAUSES_S:
            try:
                return action()
            except StorageError as error:
                lasting = not error.passing or isinstance(error, MissingKeyError)
                if lasting or time.monotonic() + pause_s > self._last_s:
                    raise
                log.warning("%s failed; once more in %.4g s: %s", doing, pause_s, error)
            time.sleep(pause_s)
        return action()
