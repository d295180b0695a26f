"""The decoder process: `python -m video_platform.video.child FD`, started by `isolate.py`.

It answers one question at a time over the pipe `FD` until the other side closes it. Its memory is
capped, it can write no file, and it dies by itself when a call lasts far too long, even if nobody
is left to kill it.
"""

import math
import multiprocessing.connection
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from video_platform.errors import MediaError, VdpError
from video_platform.video.decode import decode
from video_platform.video.limits import MediaLimits, reject
from video_platform.video.probe import probe
from video_platform.video.scan import scan

OPERATIONS: dict[str, Callable[..., Any]] = {"decode": decode, "probe": probe, "scan": scan}


def main(descriptor: int) -> None:
    """Serve questions until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends us
    # PyAV's log level stays None: at any other, FFmpeg's threads wait for Python's lock to log, and
    # whoever closes the decoder holds that lock while it waits for them.
    with multiprocessing.connection.Connection(descriptor) as pipe:
        limits: MediaLimits = pipe.recv()
        _confine(limits)
        pipe.send("ready")
        while True:
            try:
                operation, media, timeout_s, arguments = pipe.recv()
            except EOFError:
                return
            signal.alarm(math.ceil(timeout_s) + 10)
            answer = _answer(operation, media, limits, arguments)
            try:
                pipe.send(answer)
            except MemoryError:
                pipe.send(_too_much(limits))
            signal.alarm(0)


def _answer(operation: str, media: Any, limits: MediaLimits, arguments: dict[str, Any]) -> Any:
    """Return what an operation returns, or the error that it raises."""
    try:
        return OPERATIONS[operation](media, limits=limits, **arguments)
    except (VdpError, ValueError) as error:
        return error
    except MemoryError:
        return _too_much(limits)
    except Exception as error:  # the edge of this process: what we foresaw is typed above
        place = traceback.extract_tb(error.__traceback__)[-1]
        return reject("crash", f"{type(error).__name__}: {error}; {place.name}:{place.lineno}")


def _too_much(limits: MediaLimits) -> MediaError:
    return reject("too_much_memory", f"max_memory_bytes = {limits.max_memory_bytes}")


def _confine(limits: MediaLimits) -> None:
    """Cap the memory at so much above what the process has mapped by now; forbid files."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        mapped_bytes = int(statm.read().split()[0]) * resource.getpagesize()
    cap = mapped_bytes + limits.max_memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (cap, cap))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main(int(sys.argv[1]))
