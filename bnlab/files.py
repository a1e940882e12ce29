"""Files that appear whole or not at all, and that tell when they were damaged.

A file is written aside, synced, and renamed. What must not be believed when it is damaged bears a seal, the
SHA-256 of its content: an archive in its comment, where every reader of zip files skips it, and a table in
a last line that begins with `#`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import IO, Any

_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EROFS: "the disk must allow writing, or the store must lie elsewhere",
    errno.EACCES: "you must be allowed to write there",
    errno.EPERM: "you must be allowed to write there",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise this machine's limit of open files",
    errno.EIO: "check the disk",
}
_CHUNK = 2**20
_MARK = b"sha256 "
_SEAL = len(_MARK) + 64
_LINE = "# sha256 "


class FileError(Exception):
    """A file cannot be written; the message is one line: the path, why, and what is needed."""


class DamagedError(Exception):
    """A file is not what was written; the message says how that shows."""


@contextmanager
def replacing(path: Path, mode: str = "wb", sync: bool = True) -> Iterator[IO[Any]]:
    """Open a file that takes `path`'s place when the block ends without an error.

    A reader, or a run after a power cut, sees the old file or the new one, never a part.

    Raises:
        FileError: the disk is full or cannot be written to, or no more files can be opened.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open(mode) as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        aside.replace(path)
        if sync:
            _sync_folder(path.parent)
    except OSError as error:
        raise FileError(f"{path} cannot be written: {explained(error, path.parent)}") from error
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def explained(error: OSError, folder: Path | None = None) -> str:
    """Say what went wrong with a file, and what is needed.

    >>> explained(OSError(errno.EACCES, "Permission denied"))
    'Permission denied; you must be allowed to write there, then the same command goes on'
    """
    place = f"{error.filename}: " if error.filename and folder is None else ""
    advice = _ADVICE.get(error.errno or 0, "mend it")
    return (
        f"{place}{error.strerror or error}{_figure(error, folder)}; {advice}, then the same command goes on"
    )


def _figure(error: OSError, folder: Path | None) -> str:
    """Give the number that tells how bad it is."""
    if error.errno == errno.EMFILE:
        return f" ({resource.getrlimit(resource.RLIMIT_NOFILE)[0]} are allowed)"
    if error.errno == errno.ENOSPC and folder is not None:
        with suppress(OSError):
            return f" ({shutil.disk_usage(folder).free / 2**20:.1f} MiB left)"
    return ""


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, value: Any, sync: bool = True) -> None:  # noqa: ANN401
    """Write a JSON file, whole or not at all."""
    with replacing(path, "w", sync) as file:
        json.dump(value, file, indent=1)


def read_json(path: Path) -> Any:  # noqa: ANN401
    """Read a JSON file."""
    return json.loads(path.read_text())


def seal(archive: IO[Any]) -> None:
    """Put the checksum of a zip archive into its comment; the archive has none yet.

    Args:
        archive: open for reading and writing; its last two bytes are the length of its comment, zero.
    """
    body = archive.seek(-2, os.SEEK_END)
    mark = _MARK + _digest(archive, body).encode()
    archive.seek(body)
    archive.write(len(mark).to_bytes(2, "little") + mark)


def check_seal(archive: IO[Any]) -> None:
    """Compare a zip archive with its checksum, and go back to its beginning.

    Raises:
        DamagedError: it is torn, changed, or was never sealed.
    """
    size = archive.seek(0, os.SEEK_END)
    body = max(0, size - _SEAL - 2)
    archive.seek(body)
    end = archive.read()
    if end[:2] != _SEAL.to_bytes(2, "little") or not end[2:].startswith(_MARK):
        raise DamagedError("it is torn, it does not end in its checksum")
    if end[2 + len(_MARK) :].decode("latin1") != _digest(archive, body):
        raise DamagedError("its checksum does not match")
    archive.seek(0)


def _digest(archive: IO[Any], body: int) -> str:
    """Hash an archive as it was without a comment: its first `body` bytes, and a comment's length of zero."""
    content = hashlib.sha256()
    archive.seek(0)
    while body and (part := archive.read(min(_CHUNK, body))):
        content.update(part)
        body -= len(part)
    content.update(b"\0\0")
    return content.hexdigest()


def sealed(table: str) -> str:
    r"""Add a table's checksum as its last line.

    >>> sealed("a,b\n")[:21]
    'a,b\n# sha256 5be08c96'
    """
    return f"{table}{_LINE}{hashlib.sha256(table.encode()).hexdigest()}\n"


def unsealed(text: str) -> str:
    """Take the checksum off a table again.

    Raises:
        DamagedError: the table is torn, changed, or was never sealed.
    """
    table, line, _ = text.rpartition(_LINE)
    if not line:
        raise DamagedError("it is torn, it does not end in its checksum")
    if sealed(table) != text:
        raise DamagedError("its checksum does not match")
    return table


def set_aside(path: Path) -> Path:
    """Rename a damaged file so that it is never read again, and can still be looked at."""
    names = (path.with_name(f"{path.name}.damaged{number or ''}") for number in count())
    free = next(name for name in names if not name.exists())
    path.rename(free)
    return free
