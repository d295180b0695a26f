"""How requests to S3 are sent: repeated where that may help, and bounded in time.

botocore repeats what it knows to be passing: lost connections, timeouts, 500, 503, throttling. Left
to its caller are a body that breaks off, two writers in each other's way, and the end of patience:
`persist` adds these.
"""

import asyncio
import contextlib
import functools
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from video_platform.errors import StorageError

PATIENCE_S = 300.0
"""A call that has not succeeded by then has failed; long transfers get more, see the next line."""
LEAST_BYTES_PER_S = 1 << 20
"""A transfer may take as long as it does at this rate, beyond the patience."""
LONGEST_PAUSE_S = 5.0
"""Pauses between attempts grow up to this; each is drawn at random below its bound."""
CONFLICTS = ("ConditionalRequestConflict", "OperationAborted", "409")
"""What S3 answers while another conditional put of the same key is under way: ask again."""
DAMAGED = ("BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody")
"""What S3 answers when what came is not what was sent: send it again."""
REFUSED = ("PreconditionFailed", "412", "NoSuchUpload")
"""What S3 answers when the key is taken, or the upload that should become it is not there."""


class BrokenAnswerError(OSError):
    """The answer ended before its length, or cannot be true any more."""


def persist(call: Callable[..., Awaitable[Any]], *arguments: Any, size_bytes: int = 0) -> Any:
    """Await a call of s3fs on its own loop, and repeat it where only that helps.

    Args:
        call: takes the file system and the arguments.
        arguments: passed on.
        size_bytes: how much it transfers at least.

    Raises:
        OSError: what S3 answered last, or that it took too long.
    """
    from fsspec.asyn import sync

    filesystem, attempts = connect()
    limit_s = PATIENCE_S + size_bytes / LEAST_BYTES_PER_S
    return sync(filesystem.loop, _persist, call, filesystem, arguments, attempts, limit_s)


async def _persist(
    call: Callable[..., Awaitable[Any]],
    filesystem: Any,
    arguments: tuple[Any, ...],
    attempts: int,
    limit_s: float,
) -> Any:
    from aiohttp import ClientPayloadError
    from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]  # no types

    async with _patience(limit_s):
        for attempt in range(1, attempts + 1):
            try:
                return await call(filesystem, *arguments)
            except (ClientPayloadError, ResponseParserError) as error:
                if attempt == attempts:
                    raise BrokenAnswerError(f"the answer broke off: {error}") from error
            except OSError as error:
                if attempt == attempts or not _is_passing(error):
                    raise
            pause_s = min(LONGEST_PAUSE_S, 0.1 * 2**attempt)
            await asyncio.sleep(random.uniform(0, pause_s))  # noqa: S311 (jitter)
    raise AssertionError("the last attempt returns or raises")


@contextlib.asynccontextmanager
async def _patience(limit_s: float) -> AsyncIterator[None]:
    """Give up what takes longer."""
    try:
        async with asyncio.timeout(limit_s) as timer:
            yield
    except TimeoutError as error:
        if not timer.expired():
            raise
        raise OSError(f"no success within {limit_s:.4g} s") from error


async def read_body(answer: dict[str, Any]) -> bytes:
    """Read the whole body of an answer.

    Raises:
        BrokenAnswerError: it ended early.
    """
    from aiohttp import ClientError
    from botocore.exceptions import HTTPClientError  # type: ignore[import-untyped]  # no types

    try:
        async with answer["Body"] as body:
            data: bytes = await body.read()
    except (ClientError, HTTPClientError) as error:
        raise BrokenAnswerError(f"the answer broke off: {error}") from error
    if len(data) != answer["ContentLength"]:
        raise BrokenAnswerError(f"{len(data)} of {answer['ContentLength']} bytes came")
    return data


def connect() -> tuple[Any, int]:
    """Return the file system of this process, and how often a request is tried.

    Raises:
        StorageError: the environment asks for something impossible.
    """
    setting = os.environ.get
    attempts = setting("AWS_MAX_ATTEMPTS", "6")
    if not attempts.isdecimal() or int(attempts) < 1:
        raise StorageError(f"AWS_MAX_ATTEMPTS is {attempts!r}; it must be a number from 1 on")
    filesystem = _open(
        os.getpid(), setting("AWS_ENDPOINT_URL"), setting("AWS_ACCESS_KEY_ID"), int(attempts)
    )
    return filesystem, int(attempts)


@functools.lru_cache(maxsize=8)
def _open(process: int, endpoint: str | None, access_key: str | None, attempts: int) -> Any:
    """Open a file system; whatever makes a connection unfit for another caller is an argument.

    `process` keeps a forked child away from its parent's event loop, which does not run there.
    """
    from s3fs import S3FileSystem

    filesystem = S3FileSystem(
        endpoint_url=endpoint,
        use_listings_cache=False,
        skip_instance_cache=True,
        config_kwargs={
            # "adaptive" would also hold requests back: with 5% of them answered 503, 300 small puts
            # took 35 s instead of 6.
            "retries": {"mode": "standard", "total_max_attempts": attempts},
            "connect_timeout": 10,
            "read_timeout": 60,
            "max_pool_connections": 32,
        },
    )
    filesystem.retries = 1  # botocore repeats already; twice nested would take minutes to give up
    return filesystem


def endpoint() -> str:
    """Name the server that requests go to."""
    return os.environ.get("AWS_ENDPOINT_URL", "the public AWS endpoint")


def error_code(error: BaseException) -> str:
    """Return S3's own word for an error that s3fs has translated."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _is_passing(error: OSError) -> bool:
    """Say whether to repeat what botocore does not."""
    return isinstance(error, BrokenAnswerError) or error_code(error) in (*CONFLICTS, *DAMAGED)
