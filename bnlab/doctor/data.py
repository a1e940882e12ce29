"""The data that a model is examined on: from a file, a data set, or a function of theirs; and checked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from bnlab.data import DATASETS, DataError, load, locate
from bnlab.doctor.named import NamedError, call
from bnlab.doctor.streams import drain, is_stream
from bnlab.errors import first_line

Arrays: TypeAlias = Any  # an array, or a dict or tuple of arrays

PARTS = ("x_train", "y_train", "x_test", "y_test")
FEWEST = 8
_SHORT = {"x": "x_train", "y": "y_train"}


@dataclass(frozen=True, eq=False)
class Data:
    """Inputs and labels; each an array, or a dict or tuple of arrays with one length.

    Attributes:
        x_train, x_test: inputs, (samples, ...).
        y_train, y_test: labels of them.
        name: what it was read from.
        notes: what was changed or found in them.
    """

    x_train: Arrays
    y_train: Arrays = None
    x_test: Arrays = None
    y_test: Arrays = None
    name: str = "data"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part in PARTS:
            object.__setattr__(self, part, _as_arrays(part, getattr(self, part)))
        found = [note for part in PARTS for note in _check_part(part, getattr(self, part))]
        for split in ("train", "test"):
            _check_split(split, getattr(self, f"x_{split}"), getattr(self, f"y_{split}"))
        object.__setattr__(self, "notes", tuple(dict.fromkeys((*self.notes, *found))))


def read(word: str) -> Data:
    """Read the data that a word names.

    Args:
        word: `<name>.npz` with `x_train` and, at will, `y_train`, `x_test`, `y_test` (of several inputs
            `x_train.<input>` or `x_train.0`, ...); `<name>.npy` with inputs; `mnist` or `cifar`; or
            `module:function`, which returns arrays `x`, `(x, y)`, `((x, y), (x, y))`, a dict with the keys of
            the .npz, a tf.data.Dataset, a PyDataset, a generator of batches, or two of these.

    Raises:
        DataError: there is none, or it cannot be used; the message says what to do.
    """
    try:
        return _read(word)
    except DataError as error:
        known = str(error)
        raise DataError(known if word in known else f"{word}: {known}") from None
    except NamedError as error:
        raise DataError(str(error)) from None
    except (Exception, MemoryError) as error:  # a file or function of theirs may hold anything
        raise DataError(f"{word} cannot be read as data: {first_line(error)[:200]}") from None


def _read(word: str) -> Data:
    suffix = Path(word).suffix
    if suffix in (".npz", ".npy"):
        if not Path(word).is_file():
            raise DataError(f"{word} must be a file, and there is none; check the path")
        return Data(**_of_file(Path(word)), name=word)
    if word in DATASETS:
        return _of_set(word)
    if ":" not in word:
        sets = " or ".join(DATASETS)
        raise DataError(f"--data must be a .npz or .npy file, {sets}, or module:function, got {word}")
    parts, notes = _of_result(call(word, "--data"))
    return Data(**parts, name=word, notes=notes)


def _of_file(path: Path) -> dict[str, Arrays]:
    with path.open("rb") as file:
        found = np.load(file, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return {"x_train": found}
        return _grouped({name: found[name] for name in found.files if _part(name) in PARTS}, found.files)


def _part(key: str) -> str:
    first = key.partition(".")[0]
    return _SHORT.get(first, first)


def _grouped(found: Mapping[str, Any], names: Any) -> dict[str, Arrays]:  # noqa: ANN401
    """Sort arrays into parts: `x_train.image` is an input of its name, `x_train.0` the first of several."""
    parts: dict[str, Any] = {}
    for key, value in found.items():
        part, rest = _part(key), key.partition(".")[2]
        if part in parts and not (rest and isinstance(parts[part], dict)):
            raise DataError(f"{part} must be there once, got {sorted(map(str, names))}")
        parts[part] = parts.get(part, {}) | {rest: value} if rest else value
    if "x_train" not in parts:
        raise DataError(
            f"it must have x_train, and may have {', '.join(PARTS[1:])}; got {sorted(map(str, names))}"
        )
    return {part: _in_order(value) for part, value in parts.items()}


def _in_order(value: Arrays) -> Arrays:
    """Make a tuple of arrays that are numbered from 0."""
    numbers = [str(number) for number in range(len(value))] if isinstance(value, dict) else []
    return tuple(value[number] for number in numbers) if numbers and set(numbers) == set(value) else value


def _of_set(name: str) -> Data:
    """Load MNIST or CIFAR-10, as most models are fed."""
    root = os.environ.get("BNLAB_DATA")
    source = locate(name, Path(root) if root else None)
    images = load(source)
    scaled = [np.float32(x) / np.float32(255) for x in (images.train_x, images.test_x)]
    notes = (source.description, "pixels are divided by 255, so they lie in [0, 1]")
    return Data(scaled[0], images.train_y, scaled[1], images.test_y, name, notes)


def _of_result(result: Any) -> tuple[dict[str, Arrays], tuple[str, ...]]:  # noqa: ANN401
    """Sort out what a function gave."""
    if isinstance(result, Mapping):
        known = {key: value for key, value in result.items() if _part(str(key)) in PARTS}
        return _grouped(known, list(result)), ()
    if isinstance(result, list) and len(result) > 2:  # an array, as lists have it
        result = (result,)
    if not isinstance(result, tuple | list):
        return _split("train", result)
    if len(result) == 2 and all(is_stream(part) or _is_pair(part) for part in result):
        (train, first), (test, second) = _split("train", result[0]), _split("test", result[1])
        return train | test, first + second
    if not 1 <= len(result) <= 2:
        raise DataError(f"the function must return x, (x, y) or ((x, y), (x, y)), got {len(result)} things")
    return _split("train", tuple(result))


def _is_pair(value: Any) -> bool:  # noqa: ANN401
    """Tell (x, y) from an array, which a list of numbers may be too."""
    return isinstance(value, tuple | list) and len(value) == 2 and all(np.ndim(part) for part in _of(value))


def _of(value: Any) -> list[Any]:  # noqa: ANN401
    """List the arrays of a part."""
    parts = (
        value.values()
        if isinstance(value, Mapping)
        else value
        if isinstance(value, tuple | list)
        else [value]
    )
    return list(parts)


def _split(split: str, value: Any) -> tuple[dict[str, Arrays], tuple[str, ...]]:  # noqa: ANN401
    notes: tuple[str, ...] = ()
    if is_stream(value):
        x, y, notes = drain(value)
    else:
        x, y = (*value, None)[:2] if isinstance(value, tuple | list) else (value, None)
    return {f"x_{split}": x, f"y_{split}": y}, tuple(f"{split}: {note}" for note in notes)


def _as_arrays(part: str, value: Any) -> Arrays:  # noqa: ANN401
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {str(key): _as_array(part, own) for key, own in value.items()}
    if isinstance(value, tuple):
        return tuple(_as_array(part, own) for own in value)
    return _as_array(part, value)


def _as_array(part: str, value: Any) -> np.ndarray:  # noqa: ANN401
    try:
        array = np.asarray(value)
    except Exception as error:
        raise DataError(f"{part} must be an array of numbers, got {type(value).__name__}: {error}") from None
    if array.dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        return array.astype(np.float32)
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{part} must be numbers, got {array.dtype} of {type(value).__name__}; encode it first"
        )
    if not array.ndim or not array.size:
        raise DataError(f"{part} must have samples, got an array of shape {array.shape}")
    return array


def _check_part(part: str, value: Arrays) -> Iterator[str]:
    """Check lengths; note numbers that are not finite, which are a finding."""
    arrays = [] if value is None else _of(value)
    if len(lengths := {len(array) for array in arrays}) > 1:
        raise DataError(f"{part} must be arrays of one length, got {sorted(lengths)}")
    if value is not None and not arrays:
        raise DataError(f"{part} must have an array, got an empty {type(value).__name__}")
    for array in arrays:
        if array.dtype.kind == "f" and (bad := array.size - int(np.isfinite(array).sum())):
            yield f"{bad:,} of {array.size:,} numbers of {part} are not finite"


def _check_split(split: str, x: Arrays, y: Arrays) -> None:
    if x is None and (split == "train" or y is not None):
        raise DataError(f"x_{split} must be there" + (f" where y_{split} is" if y is not None else ""))
    if x is None:
        return
    count = len(_of(x)[0])
    if count < FEWEST:
        raise DataError(f"x_{split} must have at least {FEWEST} samples, got {count}")
    if y is not None and len(_of(y)[0]) != count:
        raise DataError(f"y_{split} must have a label for each of {count} samples, got {len(_of(y)[0])}")
