"""A pickle that can build byte arrays and plain containers, nothing else.

CIFAR-10 is published as pickles, and a pickle is a program: unrestricted, loading one may run any command.
"""

from __future__ import annotations

import io
import pickle
import pickletools

import numpy as np

from bnlab.data.datasets import DataError


class _Refused(Exception):
    """The pickle asks for something that byte arrays and containers do not need."""


def unpickle(data: bytes, file: str) -> object:
    """What a pickle holds, if it holds only uint8 arrays, bytes, text, numbers, lists and dicts.

    Text that Python 2 wrote comes back as bytes. A planted call is refused before it is made.

    Args:
        data: the file's bytes.
        file: the file's name, for the error message.

    Raises:
        DataError: a name in the pickle that is not allowed, or damaged content.

    >>> unpickle(pickle.dumps({"labels": [3, 8]}), "batch")
    {'labels': [3, 8]}
    >>> unpickle(pickle.dumps(print), "batch")
    Traceback (most recent call last):
    bnlab.data.datasets.DataError: batch: the pickle asks for builtins.print, which no CIFAR-10 batch needs

    """
    try:
        _check_memo(data)
        return _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
    except _Refused as error:
        raise DataError(f"{file}: {error}") from error
    except Exception as error:  # unpickling garbage may raise any type at all
        raise DataError(f"{file}: not a sound pickle ({type(error).__name__})") from error


class _ByteType:
    """Stands for numpy's dtype of bytes, whose own state could ask for any layout of memory."""

    def __init__(self, code: str | bytes, *_: object) -> None:
        if code not in ("u1", b"u1"):
            raise _Refused(f"the pickle builds an array of {code!r}, only bytes (u1) are allowed")

    def __setstate__(self, state: object) -> None:
        """Forget how the bytes are ordered: one byte has no order."""


class _Bytes(np.ndarray):
    """A byte array whose content comes from the pickle and nowhere else: numpy may leave memory as it was."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, by_column, content = state
        if not isinstance(kind, _ByteType) or by_column:
            raise _Refused("the pickle builds an array that is not one of bytes, row by row")
        super().__setstate__((1, shape, np.dtype("u1"), False, content))  # type: ignore[arg-type]


def _empty(*_: object) -> np.ndarray:
    return _Bytes((0,), np.uint8)


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise _Refused(f"the pickle encodes text as {encoding!r}, only latin1 is allowed")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], object] = {
    ("numpy.core.multiarray", "_reconstruct"): _empty,
    ("numpy._core.multiarray", "_reconstruct"): _empty,
    ("numpy", "ndarray"): "ndarray",  # named as an argument, never called
    ("numpy", "dtype"): _ByteType,
    ("_codecs", "encode"): _latin1,
}


def _check_memo(data: bytes) -> None:
    """Refuse places beyond the data in the list of what was read: unpickling makes it that long at once."""
    for opcode, place, _ in pickletools.genops(data):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= place <= len(data):  # type: ignore[operator]
            raise _Refused(f"the pickle keeps something at place {place} of {len(data)} bytes")


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _ALLOWED:
            raise _Refused(f"the pickle asks for {module}.{name}, which no CIFAR-10 batch needs")
        return _ALLOWED[module, name]
