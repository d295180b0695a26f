"""Ends a process that makes no progress, and says where it stood.

    with Watchdog(600, on_hang=tell) as dog:
        dog.alive("step 5")          # again within 600 s, or the process ends

A hang raises nothing: a rank waits for ever for one that is stopped, swapped out or lost. The
stacks of all threads are written to standard error and given to `on_hang`, then the process ends,
so that whoever started it can start it again. A second clock in C does the same where Python itself
stands still, as in a call that never gives the interpreter lock back.
"""

import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Self

from video_platform.errors import HungError

GRACE_S = 5.0
"""How much later the clock in C fires, and how long telling may take."""


class Watchdog:
    """A clock that must be wound up by progress; a context manager that stops it.

    Args:
        timeout_s: longest time between two calls of `alive`; None never fires.
        on_hang: given one line that says what hung, and the stacks, before the process ends.
        end: ends the process with an exit code.
    """

    def __init__(
        self,
        timeout_s: float | None,
        *,
        on_hang: Callable[[str, str], None] = lambda line, stacks: None,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self._timeout_s = timeout_s
        self._on_hang, self._end = on_hang, end
        self._doing, self._since_s = "starting", time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def alive(self, doing: str) -> None:
        """Note that there is progress, and what is begun now."""
        self._doing, self._since_s = doing, time.monotonic()
        if self._timeout_s is not None and not self._stop.is_set():
            later_s = self._timeout_s + 2 * GRACE_S
            faulthandler.dump_traceback_later(later_s, exit=True, file=2)

    def __enter__(self) -> Self:
        """Begin to watch."""
        if self._timeout_s is not None:
            self.alive(self._doing)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Watch no longer."""
        self._stop.set()
        if self._timeout_s is not None:
            faulthandler.cancel_dump_traceback_later()
            self._thread.join()

    def _watch(self) -> None:
        assert self._timeout_s is not None, "not started otherwise"  # noqa: S101
        while not self._stop.wait(min(1.0, self._timeout_s / 10)):
            waited_s = time.monotonic() - self._since_s
            if waited_s > self._timeout_s:
                self._fire(f"no progress for {waited_s:.0f} s in {self._doing}")
                return

    def _fire(self, line: str) -> None:
        stacks = all_stacks()
        print(f"watchdog: {line}\n{stacks}", file=sys.__stderr__, flush=True)  # a log may hang
        telling = threading.Thread(target=self._on_hang, args=(line, stacks), daemon=True)
        telling.start()
        telling.join(GRACE_S)
        self._end(HungError.exit_code)


def all_stacks() -> str:
    """Return the stacks of all threads of this process, the main one first.

    `faulthandler`, which writes them where Python stands still, leaves out all but a hundred.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    main = threading.main_thread().ident
    frames = sorted(sys._current_frames().items(), key=lambda item: item[0] != main)
    return "\n".join(
        f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in frames
    )
