"""Objects under one prefix of an S3 bucket, through s3fs.

The endpoint, region and credentials come from the environment of whoever runs the process
(`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, ...), never from a recipe or a manifest. Listings are
never cached. Requests that fail are repeated up to `AWS_MAX_ATTEMPTS` times, by botocore and, where
it leaves that to its caller, by `s3_requests.py`.
"""

import contextlib
import dataclasses
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from video_platform.errors import StorageError
from video_platform.stores.backend import MissingKeyError, Stat
from video_platform.stores.s3_requests import (
    REFUSED,
    BrokenAnswerError,
    endpoint,
    error_code,
    persist,
    read_body,
)

PART_BYTES = 32 << 20
"""A larger object is sent in parts of this size, four at a time."""
WRITER = "writer"
"""Metadata that tells whose object it is, when the answer to a put was lost."""


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
        """Return part of an object in one request, in full or not at all."""
        if end is not None and end <= start:
            return b""
        with self._explained(key):
            size_bytes = 0 if end is None else end - start
            data: bytes = persist(self._get, self._name(key), start, end, size_bytes=size_bytes)
        return data

    def put(self, key: str, source: bytes | Path) -> None:
        """Send an object; S3 shows it when it is whole."""
        with self._explained(key):
            self._persist_send(key, source, mode="overwrite")

    def put_if_absent(self, key: str, source: bytes | Path) -> bool:
        """Send an object with `If-None-Match: *`."""
        with self._explained(key):
            return self._persist_send(key, source, mode="create")

    def scan(self, prefix: str) -> dict[str, Stat]:
        """List every object, a thousand a request."""
        start = self._name(prefix)
        skip = len(self.prefix) + 1 if self.prefix else 0
        request = {"Prefix": start and start + "/"}
        found: dict[str, Stat] = {}
        with self._explained(prefix):
            while True:
                page = persist(self._call, "list_objects_v2", request)
                for item in page.get("Contents", []):
                    if not item["Key"].endswith("/"):  # a marker that stands for an empty folder
                        found[item["Key"][skip:]] = _stat(item, item["Size"])
                if not page.get("IsTruncated"):
                    return found
                request["ContinuationToken"] = page["NextContinuationToken"]

    def stat(self, key: str) -> Stat:
        """Return size, ETag and time of an object."""
        with self._explained(key):
            head = persist(self._call, "head_object", {"Key": self._name(key)})
        return _stat(head, head["ContentLength"])

    def delete(self, key: str) -> None:
        """Delete an object."""
        with self._explained(key):
            persist(self._call, "delete_object", {"Key": self._name(key)})

    def unfinished(self) -> dict[str, float]:
        """List the uploads in parts that were begun and neither finished nor given up."""
        found: dict[str, float] = {}
        request = {"Prefix": self.prefix and self.prefix + "/"}
        with self._explained(""):
            while True:
                page = persist(self._call, "list_multipart_uploads", request)
                for item in page.get("Uploads", []):
                    found[f"{item['UploadId']}@{item['Key']}"] = item["Initiated"].timestamp()
                if not page.get("IsTruncated"):
                    return found
                request["KeyMarker"] = page["NextKeyMarker"]
                request["UploadIdMarker"] = page["NextUploadIdMarker"]

    def discard(self, name: str) -> None:
        """Give up an upload; S3 drops its parts."""
        upload, _, key = name.partition("@")
        with self._explained(key), contextlib.suppress(FileNotFoundError):  # finished or given up
            persist(self._call, "abort_multipart_upload", {"Key": key, "UploadId": upload})

    def local_path(self, key: str) -> None:
        """Return None: there is no file."""

    def _name(self, key: str) -> str:
        """Return the key within the bucket."""
        return f"{self.prefix}/{key}".strip("/")

    def _persist_send(self, key: str, source: bytes | Path, *, mode: str) -> bool:
        size_bytes = source.stat().st_size if isinstance(source, Path) else len(source)
        writer = secrets.token_hex(16)
        won: bool = persist(
            self._send, self._name(key), source, writer, mode, size_bytes=size_bytes
        )
        return won

    async def _call(self, filesystem: Any, method: str, request: dict[str, Any]) -> Any:
        return await filesystem._call_s3(method, Bucket=self.bucket, **request)

    async def _get(self, filesystem: Any, name: str, start: int, end: int | None) -> bytes:
        """Read a range, and check that all of it came."""
        request = {"Key": name}
        if start or end is not None:
            request["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        try:
            answer = await self._call(filesystem, "get_object", request)
        except OSError as error:
            if error_code(error) != "InvalidRange":  # it begins behind the end
                raise
            return b""
        data = await read_body(answer)
        if "Range" in request and "ContentRange" not in answer:  # not all servers know ranges
            return data[start:end]
        return data

    async def _send(
        self, filesystem: Any, name: str, source: bytes | Path, writer: str, mode: str
    ) -> bool:
        """Send an object, and say whether what stands there now is ours.

        A request that was repeated because its answer got lost is refused by its own success: the
        one who won is the one whose name stands in the object.
        """
        path = f"{self.bucket}/{name}"
        options: dict[str, Any] = {"chunksize": PART_BYTES, "max_concurrency": 4, "mode": mode}
        options["Metadata"] = {WRITER: writer}
        try:
            if isinstance(source, Path):
                await filesystem._put_file(str(source), path, **options)
            else:
                await filesystem._pipe_file(path, source, **options)
        except OSError as error:
            if error_code(error) not in REFUSED:
                raise
            try:
                head = await self._call(filesystem, "head_object", {"Key": name})
            except FileNotFoundError:
                raise BrokenAnswerError("the object that stood in the way is gone") from error
            if head["Metadata"].get(WRITER) == writer:
                return True
            if mode == "overwrite":
                raise BrokenAnswerError("an upload in parts was lost") from error
            return False
        return True

    @contextlib.contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """Turn what S3 and botocore say into a sentence that names the knob."""
        from botocore.exceptions import (  # type: ignore[import-untyped]  # it ships no types
            BotoCoreError,
            NoCredentialsError,
            PartialCredentialsError,
        )

        try:
            yield
        except (NoCredentialsError, PartialCredentialsError) as error:
            hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            raise StorageError(
                f"no credentials for {self.url!r}: {error}; {hint}", passing=False
            ) from error
        except PermissionError as error:
            hint = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy"
            raise StorageError(
                f"{self.url!r} refuses {key!r}: {error}; {hint}", passing=False
            ) from error
        except FileNotFoundError as error:
            if error_code(error) == "NoSuchBucket":
                raise StorageError(
                    f"there is no bucket {self.bucket!r} at {endpoint()}; make it, or set the URL "
                    "or AWS_ENDPOINT_URL",
                    passing=False,
                ) from None
            raise MissingKeyError(f"there is no {key!r} in {self.url!r}") from None
        except (OSError, BotoCoreError) as error:
            raise StorageError(
                f"cannot use {key!r} in {self.url!r} at {endpoint()}: {error}; check the network "
                "and AWS_ENDPOINT_URL (AWS_MAX_ATTEMPTS says how often a request is tried)"
            ) from error


def _stat(item: dict[str, Any], size_bytes: int) -> Stat:
    return Stat(
        size_bytes=size_bytes,
        identity=item["ETag"].strip('"'),
        modified_s=item["LastModified"].timestamp(),
    )
