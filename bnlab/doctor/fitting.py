"""Fit data to a model: the same inputs, in the shapes and under the names that the model asks for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bnlab.data import DataError
from bnlab.doctor.data import Arrays, Data

if TYPE_CHECKING:
    import keras


def fits(data: Data, model: keras.Model) -> Data:
    """Check data against a model's inputs, and give them as the model takes them.

    Args:
        data: any.
        model: any; one that does not say what it takes, takes everything.

    Returns:
        The same data: of several inputs, a dict where the model names them, else a tuple in its order. A last
        axis of one channel that lacks is added, with a note.

    Raises:
        DataError: the number, names or shapes of inputs differ.
    """
    if not getattr(model, "inputs", None):
        return data
    train, notes = _fitted("x_train", data.x_train, model)
    test, more = (None, []) if data.x_test is None else _fitted("x_test", data.x_test, model)
    labels = {part: _labels(part, getattr(data, part), model) for part in ("y_train", "y_test")}
    return dataclasses.replace(data, x_train=train, x_test=test, notes=(*data.notes, *notes, *more), **labels)


def _labels(part: str, value: Arrays, model: keras.Model) -> Arrays:
    """Order labels that bear names as the model's outputs are."""
    names = list(getattr(model, "output_names", None) or [])
    if not isinstance(value, Mapping) or isinstance(getattr(model, "output", None), Mapping) or not names:
        return value
    if set(value) != set(names):
        raise DataError(
            f"{part} must have the names of the model's outputs ({', '.join(names)}), got {', '.join(value)}"
        )
    return tuple(value[name] for name in names)


def _typed(array: np.ndarray, model: keras.Model) -> np.ndarray:
    """Turn whole numbers and truth values into what a model of floats makes of them anyway."""
    floats = all("float" in str(own.dtype) for own in model.inputs)
    return array.astype(np.float32) if floats and array.dtype.kind in "bui" else array


def _fitted(part: str, value: Arrays, model: keras.Model) -> tuple[Arrays, list[str]]:
    wanted = _wanted(model)
    arrays = [_typed(array, model) for array in _arranged(part, value, list(wanted))]
    several, notes = len(wanted) > 1, []
    found = {}
    for (name, shape), array in zip(wanted.items(), arrays, strict=True):
        label = f"{part}[{name!r}]" if several else part
        found[name], added = _shaped(label, array, shape)
        notes += [f"{label} was given a last axis of one channel"] if added else []
    if isinstance(_structure(model), Mapping):
        return found, notes
    return tuple(found.values()) if several else next(iter(found.values())), notes


def _structure(model: keras.Model) -> Any:  # noqa: ANN401
    """Give what a model takes, as it takes it: a tensor, or a list or dict of them."""
    import keras

    return model.inputs[0] if isinstance(model, keras.Sequential) else getattr(model, "input", model.inputs)


def _wanted(model: keras.Model) -> dict[str, tuple[int | None, ...]]:
    """List a model's inputs in its order: name -> shape of a sample."""
    structure = _structure(model)
    named = structure if isinstance(structure, Mapping) else {x.name: x for x in model.inputs}
    return {name: tuple(x.shape[1:]) for name, x in named.items()}


def _arranged(part: str, value: Arrays, names: Sequence[str]) -> list[np.ndarray]:
    """Put arrays into the order of a model's inputs."""
    arrays = value if isinstance(value, Mapping | tuple) else (value,)
    if isinstance(arrays, Mapping) and len(names) > 1 and set(arrays) != set(names):
        raise DataError(f"{part} must have the model's inputs {sorted(names)}, got {sorted(arrays)}")
    if len(arrays) != len(names):
        raise DataError(
            f"{part} must have {len(names)} inputs for this model, {list(names)}, got {len(arrays)}"
        )
    if isinstance(arrays, Mapping):
        return [arrays[name] for name in names] if len(names) > 1 else list(arrays.values())
    return list(arrays)


def _shaped(label: str, array: np.ndarray, shape: tuple[int | None, ...]) -> tuple[np.ndarray, bool]:
    if _agree(array.shape[1:], shape):
        return array, False
    if _agree((*array.shape[1:], 1), shape):
        return array[..., None], True
    sizes = ", ".join(["n", *("any" if size is None else str(size) for size in shape)])
    raise DataError(f"{label} must have shape ({sizes}) for this model, got {array.shape}")


def _agree(own: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(own) == len(wanted) and all(b in (a, None) for a, b in zip(own, wanted, strict=True))
