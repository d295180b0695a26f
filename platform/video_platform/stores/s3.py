"""Objects under one prefix of an S3 bucket, through s3fs.

The endpoint, region and credentials come from the environment of whoever runs the process
(`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, ...), never from a recipe or a manifest. Listings are
never cached. botocore's adaptive policy repeats requests, up to `AWS_MAX_ATTEMPTS` times.
"""

import contextlib
import dataclasses
import functools
import os
import random
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from video_platform.errors import StorageError
from video_platform.stores.backend import MissingKeyError, Stat

PART_BYTES = 32 << 20
"""A larger object is sent in parts of this size, four at a time."""
WRITER = "writer"
"""Metadata that tells whose object it is, when the answer to a conditional put was lost."""
CONFLICTS = ("ConditionalRequestConflict", "OperationAborted", "409")
"""What S3 answers while another conditional put of the same key is under way: ask again."""


@dataclasses.dataclass(frozen=True)
class S3Backend:
    """A bucket and a prefix; safe in threads, and after a fork or in another process."""

    bucket: str
    prefix: str

    @property
    def url(self) -> str:
        """Return `s3://bucket/prefix`."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def child(self, key: str) -> Self:
        """Return a longer prefix."""
        return dataclasses.replace(self, prefix=self._name(key))

    def read(self, key: str, start: int, end: int | None) -> bytes:
        """Return part of an object in one request."""
        from fsspec.asyn import sync

        if end is not None and end <= start:
            return b""
        request = {"Bucket": self.bucket, "Key": self._name(key)}
        if start or end is not None:
            request["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        with self._explained(key):
            try:
                filesystem = _filesystem()
                data: bytes = _repeated(lambda: sync(filesystem.loop, _get, filesystem, request))
            except OSError as error:
                if _code(error) != "InvalidRange":
                    raise
                return b""
            return data

    def put(self, key: str, source: bytes | Path) -> None:
        """Send an object; S3 shows it when it is whole."""
        with self._explained(key):
            _repeated(lambda: self._send(key, source, mode="overwrite"))

    def put_if_absent(self, key: str, source: bytes | Path) -> bool:
        """Send an object with `If-None-Match: *`."""
        writer = secrets.token_hex(16)
        with self._explained(key):
            try:
                _repeated(lambda: self._send(key, source, mode="create", Metadata={WRITER: writer}))
            except OSError as error:
                if _code(error) not in ("PreconditionFailed", "412", "NoSuchUpload"):
                    raise
                # A request that was repeated because its answer got lost is refused by its own
                # success: the one who won is the one whose name stands in the object.
                winner: str | None = self._head(key)["Metadata"].get(WRITER)
                return winner == writer
        return True

    def scan(self, prefix: str) -> dict[str, Stat]:
        """List every object, a thousand a request."""
        start = self._name(prefix)
        request: dict[str, Any] = {"Bucket": self.bucket, "Prefix": start and start + "/"}
        skip = len(self.prefix) + 1 if self.prefix else 0
        found: dict[str, Stat] = {}
        with self._explained(prefix):
            while True:
                page = _repeated(lambda: _filesystem().call_s3("list_objects_v2", **request))
                for item in page.get("Contents", []):
                    if not item["Key"].endswith("/"):  # a marker that stands for an empty folder
                        found[item["Key"][skip:]] = _stat(item, item["Size"])
                if not page.get("IsTruncated"):
                    return found
                request["ContinuationToken"] = page["NextContinuationToken"]

    def stat(self, key: str) -> Stat:
        """Return size, ETag and time of an object."""
        with self._explained(key):
            head = self._head(key)
        return _stat(head, head["ContentLength"])

    def delete(self, key: str) -> None:
        """Delete an object."""
        with self._explained(key):
            _repeated(
                lambda: _filesystem().call_s3(
                    "delete_object", Bucket=self.bucket, Key=self._name(key)
                )
            )

    def local_path(self, key: str) -> None:
        """Return None: there is no file."""

    def _name(self, key: str) -> str:
        """Return the key within the bucket."""
        return f"{self.prefix}/{key}".strip("/")

    def _head(self, key: str) -> dict[str, Any]:
        answer: dict[str, Any] = _repeated(
            lambda: _filesystem().call_s3("head_object", Bucket=self.bucket, Key=self._name(key))
        )
        return answer

    def _send(self, key: str, source: bytes | Path, **options: Any) -> None:
        path = f"{self.bucket}/{self._name(key)}"
        parts = {"chunksize": PART_BYTES, "max_concurrency": 4}
        if isinstance(source, Path):
            _filesystem().put_file(str(source), path, **parts, **options)
        else:
            _filesystem().pipe_file(path, source, **parts, **options)

    @contextlib.contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """Turn what S3 and botocore say into a sentence that names the knob."""
        from botocore.exceptions import (  # type: ignore[import-untyped]  # it ships no types
            BotoCoreError,
            NoCredentialsError,
            PartialCredentialsError,
        )
        from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]  # the same

        try:
            yield
        except (NoCredentialsError, PartialCredentialsError) as error:
            hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            raise StorageError(f"no credentials for {self.url!r}: {error}; {hint}") from error
        except PermissionError as error:
            hint = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy"
            raise StorageError(f"{self.url!r} refuses {key!r}: {error}; {hint}") from error
        except FileNotFoundError as error:
            if _code(error) == "NoSuchBucket":
                raise StorageError(
                    f"there is no bucket {self.bucket!r} at {_endpoint()}; make it, or set the URL "
                    "or AWS_ENDPOINT_URL"
                ) from None
            raise MissingKeyError(f"there is no {key!r} in {self.url!r}") from None
        except (OSError, BotoCoreError, ResponseParserError) as error:
            raise StorageError(
                f"cannot use {key!r} in {self.url!r} at {_endpoint()}: {error}; check the network "
                "and AWS_ENDPOINT_URL (AWS_MAX_ATTEMPTS says how often a request is tried)"
            ) from error


def _endpoint() -> str:
    return os.environ.get("AWS_ENDPOINT_URL", "the public AWS endpoint")


def _filesystem() -> Any:
    """Return the connection of this process to the endpoint that the environment names."""
    setting = os.environ.get
    attempts = setting("AWS_MAX_ATTEMPTS", "6")
    if not attempts.isdecimal() or int(attempts) < 1:
        raise StorageError(f"AWS_MAX_ATTEMPTS is {attempts!r}; it must be a number from 1 on")
    return _connect(
        os.getpid(), setting("AWS_ENDPOINT_URL"), setting("AWS_ACCESS_KEY_ID"), int(attempts)
    )


@functools.lru_cache(maxsize=8)
def _connect(process: int, endpoint: str | None, access_key: str | None, attempts: int) -> Any:
    """Open a file system; whatever makes a connection unfit for another caller is an argument.

    `process` keeps a forked child away from its parent's event loop, which does not run there.
    """
    from s3fs import S3FileSystem

    filesystem = S3FileSystem(
        endpoint_url=endpoint,
        use_listings_cache=False,
        skip_instance_cache=True,
        config_kwargs={
            "retries": {"mode": "adaptive", "total_max_attempts": attempts},
            "connect_timeout": 10,
            "read_timeout": 60,
            "max_pool_connections": 32,
        },
    )
    filesystem.retries = 1  # botocore repeats already; twice nested would take minutes to give up
    return filesystem


class _BrokenAnswerError(OSError):
    """The body of an answer ended before its length."""


async def _get(filesystem: Any, request: dict[str, Any]) -> bytes:
    from aiohttp import ClientPayloadError
    from botocore.exceptions import HTTPClientError

    answer = await filesystem._call_s3("get_object", **request)
    try:
        async with answer["Body"] as body:
            data: bytes = await body.read()
    except (ClientPayloadError, HTTPClientError, TimeoutError) as error:
        raise _BrokenAnswerError(f"the answer broke off: {error}") from error
    return data


def _repeated(call: Callable[[], Any], *, attempts: int = 6) -> Any:
    """Repeat what botocore leaves to us: a body that broke off, and a conflict of two writers."""
    for attempt in range(attempts):
        try:
            return call()
        except OSError as error:
            again = isinstance(error, _BrokenAnswerError) or _code(error) in CONFLICTS
            if not again or attempt == attempts - 1:
                raise
        time.sleep(random.uniform(0, min(5.0, 0.1 * 2**attempt)))  # noqa: S311 (jitter)
    raise AssertionError("the last attempt returns or raises")


def _code(error: BaseException) -> str:
    """Return S3's own word for an error that s3fs has translated."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _stat(item: dict[str, Any], size_bytes: int) -> Stat:
    return Stat(
        size_bytes=size_bytes,
        identity=item["ETag"].strip('"'),
        modified_s=item["LastModified"].timestamp(),
    )
