"""Drain what gives samples bit by bit: a tf.data.Dataset, a PyDataset, or a generator of batches."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

LIMIT = 4096
"""Samples that are taken of a stream, which may have no end."""


def is_stream(value: object) -> bool:
    """Tell whether a value gives samples one by one, or in batches."""
    return _is_dataset(value) or _is_py_dataset(value) or hasattr(value, "__next__")


def drain(stream: Any) -> tuple[Any, Any, tuple[str, ...]]:  # noqa: ANN401
    """Take the first samples of a stream, 4,096 at most.

    Args:
        stream: of x, (x, y) or (x, y, weights); x and y may be dicts or tuples. A tf.data.Dataset gives
            batches or single samples, everything else batches.

    Returns:
        x, y or None, and notes.

    Raises:
        ValueError: it gives nothing, or what it gives does not fit together.
    """
    parts: list[tuple[Any, ...]] = []
    notes: list[str] = []
    count = 0
    for batch in itertools.islice(_batches(stream, notes), LIMIT):
        x, y = _pair(batch)
        parts.append((x, y) if y is not None else (x,))
        count += len(_leaves(x)[0])
        if count >= LIMIT:
            notes.append(f"the first {LIMIT:,} samples were taken")
            break
    if not count:
        raise ValueError("it gives no samples")
    joined = _joined(parts)
    return joined[0], joined[1] if len(joined) > 1 else None, tuple(notes)


def _is_dataset(value: object) -> bool:
    tensorflow = sys.modules.get("tensorflow")  # whoever made a dataset has imported it
    return tensorflow is not None and isinstance(value, tensorflow.data.Dataset)


def _is_py_dataset(value: object) -> bool:
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(value, keras.utils.PyDataset)


def _batches(stream: Any, notes: list[str]) -> Iterator[Any]:  # noqa: ANN401
    if _is_py_dataset(stream):
        count = stream.num_batches
        return (stream[place] for place in (range(count) if count is not None else itertools.count()))
    if not _is_dataset(stream):
        return iter(stream)
    if not _batched(stream):
        notes.append("the dataset was taken to give single samples")
        stream = stream.batch(128)
    return stream.as_numpy_iterator()


def _batched(dataset: Any) -> bool:  # noqa: ANN401
    """Tell batches from single samples, by what the dataset was made of, or by its shapes.

    A single number is no batch; batches leave their size open unless a last smaller one was dropped.
    """
    import tensorflow as tf

    shapes = [spec.shape for spec in tf.nest.flatten(dataset.element_spec)]
    if any(shape.rank == 0 for shape in shapes):
        return False
    made = _made_of(dataset)
    return made if made is not None else all(shape.rank is None or shape[0] is None for shape in shapes)


def _made_of(dataset: Any) -> bool | None:  # noqa: ANN401
    """Look back to the last step that made batches, or took them apart."""
    while dataset is not None:
        name = type(dataset).__name__
        if "Unbatch" in name:
            return False
        if "Batch" in name:
            return True
        dataset = getattr(dataset, "_input_dataset", None)
    return None


def _pair(batch: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Take inputs and labels of a batch; weights of samples are left."""
    if isinstance(batch, tuple | list) and 1 <= len(batch) <= 3:
        return batch[0], batch[1] if len(batch) > 1 else None
    return batch, None


def _leaves(value: Any) -> list[Any]:  # noqa: ANN401
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in _leaves(part)]
    if isinstance(value, tuple | list):
        return [leaf for part in value for leaf in _leaves(part)]
    return [np.asarray(value)]


def _joined(parts: Iterable[Any]) -> Any:  # noqa: ANN401
    """Join batches end to end, whatever they are made of, and cut them to the limit."""
    parts = list(parts)
    first = parts[0]
    if isinstance(first, dict):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, tuple | list):
        return tuple(_joined(column) for column in zip(*parts, strict=True))
    return np.concatenate([np.asarray(part) for part in parts])[:LIMIT]
