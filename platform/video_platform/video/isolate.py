"""Decode in a process of its own, which may crash, hang or eat memory without harm.

A persistent child reads one request after the other, so that its start-up is paid once. When it
dies or takes too long it is killed, the call gets a typed reason, and the next call starts another.

    with IsolatedDecoder(MediaLimits(timeout_s=30)) as decoder:
        clip = decoder.decode(path, policy)

The child is a fresh interpreter, not a `multiprocessing` one: those import the caller's `__main__`
again, which in a Ray worker is all of Ray, and in a script without a guard is the script itself.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import weakref
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from video_platform.errors import SourceError
from video_platform.video.decode import BackendName, Clip
from video_platform.video.limits import MediaLimits, reject
from video_platform.video.media import Media
from video_platform.video.policy import PixelPolicy
from video_platform.video.probe import VideoInfo
from video_platform.video.scan import Scan, ScanConfig

START_TIMEOUT_S = 60.0


class IsolatedDecoder:
    """Probes, scans and decodes media in a child process; one call at a time.

    It may be shared between threads and copied to other processes, each of which starts a child
    of its own when it first needs one.
    """

    def __init__(self, limits: MediaLimits) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._child: _Child | None = None

    def decode(
        self,
        media: Media,
        policy: PixelPolicy,
        *,
        start_s: float = 0.0,
        backend: BackendName = "auto",
    ) -> Clip:
        """Decode the clip that begins `start_s` after a video's first frame; see `decode.decode`.

        Raises:
            MediaError: the file is refused, or it took too long, too much memory or crashed.
        """
        clip: Clip = self._call("decode", media, policy=policy, start_s=start_s, backend=backend)
        return clip

    def probe(self, media: Media) -> VideoInfo:
        """Say what a media file holds; see `probe.probe`.

        Raises:
            MediaError: the file is refused, or it took too long, too much memory or crashed.
        """
        info: VideoInfo = self._call("probe", media)
        return info

    def scan(self, media: Media, config: ScanConfig) -> Scan:
        """Look through a media file; see `scan.scan`.

        Raises:
            MediaError: the file is refused, or it took too long, too much memory or crashed.
        """
        timeout_s = self.limits.scan_timeout_s
        found: Scan = self._call("scan", media, timeout_s=timeout_s, config=config)
        return found

    def start(self) -> None:
        """Start the child now, so that the first call need not wait for it.

        Raises:
            SourceError: it does not start.
        """
        with self._lock:
            if self._child is None:
                self._child = _Child(self.limits)

    def close(self) -> None:
        """End the child; a later call starts another."""
        with self._lock:
            self._end_child()

    def _call(
        self, operation: str, media: Media, *, timeout_s: float | None = None, **arguments: Any
    ) -> Any:
        """Run one operation in the child and return its answer, or raise it."""
        timeout_s = self.limits.timeout_s if timeout_s is None else timeout_s
        if isinstance(media, Path):
            media = media.absolute()
        with self._lock:
            if self._child is None:
                self._child = _Child(self.limits)
            try:
                answer = self._child.ask((operation, media, timeout_s, arguments), timeout_s)
            except TimeoutError:
                self._end_child()
                name = "timeout_s" if timeout_s == self.limits.timeout_s else "scan_timeout_s"
                raise reject("timeout", f"{name} = {timeout_s}") from None
            except (EOFError, OSError):
                raise reject("crash", _describe(self._end_child())) from None
            except BaseException:
                self._end_child()  # interrupted: its late answer must not meet the next question
                raise
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _end_child(self) -> int | None:
        child, self._child = self._child, None
        return None if child is None else child.end()

    def __reduce__(self) -> tuple[type["IsolatedDecoder"], tuple[MediaLimits]]:
        return type(self), (self.limits,)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Child:
    """A running child process and the pipe to it."""

    def __init__(self, limits: MediaLimits) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  (our own interpreter and module)
                [sys.executable, "-P", "-m", "video_platform.video.child", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self.end = weakref.finalize(self, _end, self._process, self._pipe)
        try:
            self._pipe.send(limits)
            if not self._pipe.poll(START_TIMEOUT_S):
                raise EOFError
            self._pipe.recv()
        except (EOFError, OSError):
            raise SourceError(
                f"the decoder process did not start ({_describe(self.end())}); "
                f"{sys.executable} -m video_platform.video.child says why"
            ) from None

    def ask(self, question: object, timeout_s: float) -> Any:
        """Send a question and wait for the answer.

        Raises:
            TimeoutError: there was none in time.
            OSError: the child is dead; so says EOFError.
        """
        self._pipe.send(question)
        if not self._pipe.poll(timeout_s):
            raise TimeoutError
        return self._pipe.recv()


def _end(process: "subprocess.Popen[bytes]", pipe: Connection) -> int:
    """Kill a child if it still runs, and return its exit code."""
    pipe.close()
    process.kill()
    return process.wait()


def _describe(code: int | None) -> str:
    """Say how a process ended."""
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
