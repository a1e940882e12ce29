"""Bytes become arrays, or a one-line error: nothing in a file is believed, and no code in it runs.

All functions are pure. `file` is only the name that an error message uses. They check what they read against
the shape that the caller expects, so a header can never make them allocate more than that.
"""

from __future__ import annotations

import gzip
import io
import math
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterable, Mapping

import numpy as np

from bnlab.data.datasets import DataError
from bnlab.data.unpickle import unpickle

NPY_HEADER_LIMIT = 4096
BATCH_FILE_LIMIT = 32 * 2**20
# The published archive unpacks to 186 MB.
ARCHIVE_LIMIT = 256 * 2**20

Shape = tuple[int, ...]


def decode_idx(packed: bytes, shape: Shape, file: str) -> np.ndarray:
    """A gzipped IDX file of bytes as a uint8 array.

    Args:
        packed: the file's bytes.
        shape: the shape that the file must have.
        file: the file's name.

    Raises:
        DataError: damaged or truncated gzip, wrong magic number, another shape, too few or too many bytes.

    >>> decode_idx(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1])), (3,), "labels.gz")
    array([7, 2, 1], dtype=uint8)

    """
    start = 4 + 4 * len(shape)
    data = _gunzip(packed, start + math.prod(shape), file)
    magic = bytes([0, 0, 8, len(shape)])
    if data[:4] != magic or len(data) < start:
        raise DataError(f"{file}: not an IDX file of bytes, it must start with {magic!r}, got {data[:4]!r}")
    claimed = tuple(np.frombuffer(data, ">u4", len(shape), 4).tolist())
    if claimed != shape:
        raise DataError(f"{file}: wrong shape, must be {shape}, got {claimed}")
    if len(data) != start + math.prod(shape):
        raise DataError(f"{file}: truncated, {shape} needs {math.prod(shape)} bytes, got {len(data) - start}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _gunzip(packed: bytes, limit: int, file: str) -> bytes:
    stream = zlib.decompressobj(wbits=31)
    try:
        data = stream.decompress(packed, limit + 1)
    except zlib.error as error:
        raise DataError(f"{file}: not a sound gzip file ({error})") from error
    if len(data) > limit:
        raise DataError(f"{file}: too long, must unpack to {limit} bytes at most")
    if not stream.eof or stream.unused_data:
        raise DataError(f"{file}: must be one whole gzip stream, it is truncated or goes on after its end")
    return data


def decode_npz(data: bytes, shapes: Mapping[str, Shape], file: str) -> dict[str, np.ndarray]:
    """The named uint8 arrays of an npz file; pickled arrays are refused.

    Args:
        data: the file's bytes.
        shapes: array name -> the shape that it must have. Other arrays in the file are not looked at.
        file: the file's name.

    Raises:
        DataError: not a zip file, a missing array, another dtype or shape, damaged content.

    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: _member(archive, name, shape) for name, shape in shapes.items()}
    except (_Refused, KeyError) as error:
        raise DataError(f"{file}: {error.args[0]}") from error
    except Exception as error:  # zip and npy parsers raise a dozen unrelated types on garbage
        raise DataError(f"{file}: not a sound npz file ({type(error).__name__})") from error


class _Refused(Exception):
    """Content that is well-formed, but not what was asked for."""


def _member(archive: zipfile.ZipFile, name: str, shape: Shape) -> np.ndarray:
    info = archive.getinfo(f"{name}.npy")
    if info.file_size > math.prod(shape) + NPY_HEADER_LIMIT:
        raise _Refused(f"array {name} is too long, must be {shape} bytes, got {info.file_size} bytes in all")
    if archive.namelist().count(info.filename) > 1:
        raise _Refused(
            f"array {name} must be there once, got {archive.namelist().count(info.filename)} of them"
        )
    with archive.open(
        info
    ) as member:  # told how much to read: by itself it unpacks more than a header claims
        stream = io.BytesIO(member.read(info.file_size))
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    found, _, dtype = header(stream)
    if found != shape or dtype != np.uint8:
        raise _Refused(f"array {name} must be uint8 of shape {shape}, got {dtype} of shape {found}")
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


def decode_batch(data: bytes, count: int, file: str) -> tuple[np.ndarray, np.ndarray]:
    """One pickled CIFAR-10 batch as pixels, uint8 (count, 32, 32, 3), and labels, int64 (count,).

    The pickle can build byte arrays and plain containers, nothing else: a planted call is refused, not made.

    Args:
        data: the file's bytes.
        count: the number of images that the batch must have.
        file: the file's name.

    Raises:
        DataError: a forbidden name in the pickle, damaged content, missing keys, another dtype or shape.

    """
    batch = unpickle(data, file)
    if not isinstance(batch, dict) or not {b"data", b"labels"} <= batch.keys():
        raise DataError(f"{file}: must hold a dict with the keys data and labels, got {_kind(batch)}")
    planes, labels = batch[b"data"], _labels(batch[b"labels"])
    if not isinstance(planes, np.ndarray) or planes.dtype != np.uint8 or planes.shape != (count, 3072):
        raise DataError(f"{file}: data must be uint8 of shape ({count}, 3072), got {_kind(planes)}")
    if labels is None or len(labels) != count:
        raise DataError(
            f"{file}: labels must be {count} integers from 0 to 255, got {_kind(batch[b'labels'])}"
        )
    return np.ascontiguousarray(planes.reshape(count, 3, 32, 32).transpose(0, 2, 3, 1)), labels


def _labels(values: object) -> np.ndarray | None:
    if not isinstance(values, list) or not all(type(value) is int and 0 <= value < 256 for value in values):
        return None
    return np.array(values, np.int64)


def _kind(value: object) -> str:
    if isinstance(value, dict | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def read_members(packed: bytes, names: Iterable[str], file: str) -> dict[str, bytes]:
    """The named members of a gzipped tar file, read in memory; nothing is written to disk.

    Args:
        packed: the file's bytes.
        names: members to read, each a regular file of 32 MiB at most.
        file: the file's name.

    Raises:
        DataError: damaged archive, a member missing, too long or not a regular file.

    """
    wanted = tuple(names)
    try:
        with _Archive(fileobj=io.BytesIO(packed)) as stream:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                found = _members(archive, wanted)
            stream.read_to_its_end()
    except _Refused as error:
        raise DataError(f"{file}: {error}") from error
    except Exception as error:  # gzip, zlib, tarfile and struct each have their own errors
        raise DataError(f"{file}: not a sound tar.gz file ({type(error).__name__})") from error
    if absent := sorted(set(wanted) - set(found)):
        raise DataError(f"{file}: lacks a regular file of at most 32 MiB named {', '.join(absent)}")
    return found


class _Archive(gzip.GzipFile):
    """A stream that unpacks no more than an archive may hold, and no more at once than one of its files."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= BATCH_FILE_LIMIT:
            raise _Refused(f"reads of {size} bytes at once are asked for, {BATCH_FILE_LIMIT} are allowed")
        return super().read(size)

    def read_to_its_end(self) -> None:
        """Reach the checksum: until then damage of the content goes unseen."""
        while super().read(2**20):
            if self.tell() > ARCHIVE_LIMIT:
                raise _Refused(f"too long, must unpack to {ARCHIVE_LIMIT} bytes at most")


def _members(archive: tarfile.TarFile, wanted: Collection[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for member in archive:
        if not 0 <= member.size <= ARCHIVE_LIMIT - member.offset_data:
            raise _Refused(
                f"{member.name} must have a size that fits into {ARCHIVE_LIMIT} bytes, got {member.size}"
            )
        if member.name in found:
            raise _Refused(f"must hold {member.name} once, it does so twice")
        if member.name in wanted and member.isreg() and member.size <= BATCH_FILE_LIMIT:
            found[member.name] = archive.extractfile(member).read()  # type: ignore[union-attr]
    return found
