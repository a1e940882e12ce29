"""A pickle that can build byte arrays and plain containers, nothing else.

CIFAR-10 is published as pickles, and a pickle is a program: unrestricted, loading one may run any command.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable

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
        return _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
    except _Refused as error:
        raise DataError(f"{file}: {error}") from error
    except Exception as error:  # unpickling garbage may raise any type at all
        raise DataError(f"{file}: not a sound pickle ({type(error).__name__})") from error


def _byte_dtype(code: str | bytes, *_: object) -> np.dtype:
    if code not in ("u1", b"u1"):
        raise _Refused(f"the pickle builds an array of {code!r}, only bytes (u1) are allowed")
    # A copy: the pickle goes on to set its state, which must not reach numpy's own uint8.
    return np.dtype("u1", copy=True)


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise _Refused(f"the pickle encodes text as {encoding!r}, only latin1 is allowed")
    return text.encode("latin1")


_RECONSTRUCT: Callable[..., np.ndarray] = np.empty(0).__reduce__()[0]  # type: ignore[index,assignment]

_ALLOWED: dict[tuple[str, str], object] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _byte_dtype,
    ("_codecs", "encode"): _latin1,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _ALLOWED:
            raise _Refused(f"the pickle asks for {module}.{name}, which no CIFAR-10 batch needs")
        return _ALLOWED[module, name]
