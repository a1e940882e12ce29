"""A fixed random sample of somebody's data, in whole batches: what a model is measured on while it trains."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from bnlab.doctor.subject import Structure, joined, length, take

_SEED = 20_204
# What `fit` takes unless it is told otherwise.
_USUAL = 32


class Sample(NamedTuple):
    """Samples to measure on.

    Attributes:
        x: inputs, arrays of one length.
        y: labels, or None.
        size: samples in a batch; it divides their number.
    """

    x: Structure
    y: Structure | None
    size: int

    @property
    def groups(self) -> int:
        """Number of batches."""
        return length(self.x) // self.size


def check(x: Any, y: Any | None) -> None:  # noqa: ANN401
    """Refuse what no sample can be drawn from.

    Raises:
        ValueError: they are no arrays of one length, or labels stand beside a Dataset.
    """
    if isinstance(x, tf.data.Dataset):
        if y is not None:
            raise ValueError("y must be left out beside a tf.data.Dataset, whose elements are (x, y)")
        return
    parts = [np.shape(part) for part in tree.flatten((x, y)) if part is not None]
    if () in parts:
        found = [type(part).__name__ for part in tree.flatten((x, y))]
        raise ValueError(
            f"x and y must be arrays, nests of them, or a tf.data.Dataset, got {', '.join(found)}"
        )
    if len({shape[0] for shape in parts}) > 1 or not parts[0][0]:
        raise ValueError(f"x and y must be arrays of one length > 0, got shapes {', '.join(map(str, parts))}")


def draw(x: Any, y: Any | None, samples: int, batch_size: int | None, steps: int | None) -> Sample:  # noqa: ANN401
    """Draw the same samples each time; of a Dataset, its first ones.

    Args:
        x, y: as `fit` takes them.
        samples: about how many; at least one batch, and whole ones.
        batch_size: None for that of the Dataset's first batch, or the one that makes so many steps of x.
        steps: of an epoch, where it is known.
    """
    if isinstance(x, tf.data.Dataset):
        x, y, first = _beginning(x, samples)
        batch_size, rows = batch_size or first, np.arange(length(x))
    else:
        rows = np.random.default_rng(_SEED).permutation(length(x))
    size = min(batch_size or guess(len(rows), steps), len(rows))
    rows = rows[: max(size, min(samples, len(rows)) // size * size)]
    return Sample(_taken(x, rows), _taken(y, rows), size)


def guess(count: int, steps: int | None) -> int:
    """Find a batch size that makes so many steps of so many samples: the usual one, a power of 2, or another.

    >>> guess(1000, 32), guess(1000, 8), guess(1000, 10), guess(1000, 2000)
    (32, 128, 100, 32)
    """
    if not steps or steps > count:  # it is not these samples that `fit` goes through
        return _USUAL
    likely = [_USUAL, *(2**power for power in range(16)), -(-count // steps)]
    return next(size for size in likely if -(-count // size) == steps or size == likely[-1])


def _beginning(data: tf.data.Dataset, samples: int) -> tuple[Structure, Structure | None, int]:
    parts: list[tuple[Structure, Structure | None]] = []
    for element in data:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(tree.map_structure(np.asarray, element))
        parts.append((x, y))
        if sum(length(part) for part, _ in parts) >= samples:
            break
    if not parts:
        raise ValueError("x must be a tf.data.Dataset with samples in it, got an empty one")
    x = joined([part for part, _ in parts])
    return x, None if parts[0][1] is None else joined([part for _, part in parts]), length(parts[0][0])


def _taken(whole: Structure | None, rows: np.ndarray) -> Structure | None:
    return None if whole is None else take(tree.map_structure(_array, whole), rows)


def _array(part: Any) -> np.ndarray:  # noqa: ANN401
    """Read an array as `fit` does: numbers with a fraction in Keras's own precision."""
    array = np.asarray(part)
    return array.astype(keras.config.floatx()) if array.dtype == np.float64 else array
