"""Files under one folder of this machine, or of a disk that several machines share.

A write goes to a temporary file in the same folder, to the disk, and only then gets its name: by
`os.replace` to overwrite, by `os.link` to create, since that alone fails when the name is taken.
(`open(path, "x")` shows the name before the content is there.)
"""

import contextlib
import dataclasses
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from video_platform.errors import StorageError
from video_platform.stores.backend import MissingKeyError, Stat

PARTIAL = ".partial"
"""Ends the name of a file that is being written; such files are never listed."""
LASTING = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS),
    *(errno.EACCES, errno.EPERM, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG),
)
"""What does not pass by itself."""


@dataclasses.dataclass(frozen=True)
class LocalBackend:
    """A folder; it is made when the first key is put."""

    root: str

    @property
    def url(self) -> str:
        """Return the absolute path."""
        return self.root

    def child(self, key: str) -> Self:
        """Return a folder within this one."""
        return dataclasses.replace(self, root=str(self._locate(key)))

    def read(self, key: str, start: int, end: int | None) -> bytes:
        """Return part of a file."""
        with self._explained(key), self._locate(key).open("rb") as file:
            file.seek(start)
            return file.read() if end is None else file.read(max(0, end - start))

    def put(self, key: str, source: bytes | Path) -> None:
        """Write beside the old file, then take its name."""
        path = self._locate(key)
        with self._explained(key), self._written(path, source) as partial:
            os.replace(partial, path)

    def put_if_absent(self, key: str, source: bytes | Path) -> bool:
        """Write beside the name, then link it there, which fails if it is taken."""
        path = self._locate(key)
        with self._explained(key), self._written(path, source) as partial:
            try:
                os.link(partial, path)
            except FileExistsError:
                # NFS repeats a request whose answer got lost, and is told that our link exists.
                return partial.stat().st_nlink > 1
            except OSError as error:
                if error.errno in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                    raise StorageError(
                        f"the disk of {self.root!r} has no hard links ({error.strerror}), which "
                        "creating a file exactly once needs; choose a folder on another disk"
                    ) from None
                raise
            return True

    def scan(self, prefix: str) -> dict[str, Stat]:
        """Walk the folder; links to folders are not followed."""
        return {key: stat for key, stat in self._walk(prefix) if not _is_partial(key)}

    def stat(self, key: str) -> Stat:
        """Return size and times of a file."""
        with self._explained(key):
            return _stat(self._locate(key))

    def delete(self, key: str) -> None:
        """Unlink a file."""
        with self._explained(key):
            self._locate(key).unlink(missing_ok=True)

    def unfinished(self) -> dict[str, float]:
        """List the temporary files of writers that are at work, or died."""
        return {key: stat.modified_s for key, stat in self._walk("") if _is_partial(key)}

    def discard(self, name: str) -> None:
        """Unlink a temporary file."""
        self.delete(name)

    def local_path(self, key: str) -> Path:
        """Return the path of a key."""
        return self._locate(key)

    def _walk(self, prefix: str) -> Iterator[tuple[str, Stat]]:
        """Yield every file under a folder, those that are being written among them."""
        top = self._locate(prefix)
        with self._explained(prefix):
            for folder, _, names in os.walk(top, onerror=_raise_unless_gone):
                for name in names:
                    path = Path(folder, name)
                    key = path.relative_to(self.root).as_posix()
                    with contextlib.suppress(FileNotFoundError):  # gone since, or not a file
                        yield key, _stat(self._locate(key) if path.is_symlink() else path)

    def _locate(self, key: str) -> Path:
        """Return the path of a key, unless a link leads out of the root."""
        path = Path(self.root, key)
        real, root = os.path.realpath(path), os.path.realpath(self.root)
        if real != root and not real.startswith(root.rstrip("/") + "/"):
            raise StorageError(
                f"{key!r} in {self.root!r} is a link that leads out of that folder; "
                "copy what it names into the folder, or open a folder that holds both"
            )
        return path

    @contextlib.contextmanager
    def _written(self, path: Path, source: bytes | Path) -> Iterator[Path]:
        """Yield a temporary file that is safely on the disk; afterwards its name is gone."""
        _make_folder(path.parent)
        partial = path.parent / f".{secrets.token_hex(16)}{PARTIAL}"
        try:
            with partial.open("xb") as file:
                if isinstance(source, Path):
                    with source.open("rb") as original:
                        shutil.copyfileobj(original, file, 1 << 20)
                else:
                    file.write(source)
                file.flush()
                os.fsync(file.fileno())
            yield partial
        finally:
            partial.unlink(missing_ok=True)
        _sync_folder(path.parent)

    @contextlib.contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """Turn what the operating system says into a sentence."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError):
            raise MissingKeyError(f"there is no {key!r} in {self.root!r}") from None
        except OSError as error:
            hint, passing = "check the path and its permissions", error.errno not in LASTING
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                hint = "the disk is full: free some space, or choose a folder on another disk"
            elif error.errno == errno.EFBIG:
                hint = "files of this size are not allowed here: see `ulimit -f` and the disk"
            raise StorageError(
                f"cannot use {key!r} in {self.root!r}: {error.strerror or error}; {hint}",
                passing=passing,
            ) from error


def _is_partial(key: str) -> bool:
    name = key.rsplit("/", 1)[-1]
    return name.startswith(".") and name.endswith(PARTIAL)


def _stat(path: Path) -> Stat:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a folder, or a pipe that would never end
        raise FileNotFoundError(errno.ENOENT, "not a file", str(path))
    return Stat(
        size_bytes=status.st_size,
        identity=f"{status.st_mtime_ns}-{status.st_size}",
        modified_s=status.st_mtime,
    )


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it so that they outlive a power cut."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
