"""Which layers a gap comes from: found by putting layers, one after another, on other statistics.

A layer's part is what the metric loses when this layer joins those that were put right before it, the mean
of two orders: from the input to the output, and back. In either order the parts add up to the gap, so
their mean does. (All orders would give Shapley's value; two cost 2 L measurements instead of 2^L.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from bnlab.science.gap import Difference, contrast
from bnlab.science.scores import Scores

# Rows of 0 (as it is) and 1 (put right), a column for each layer -> scores of each row.
Intervene: TypeAlias = Callable[[np.ndarray], Sequence[Scores]]


class LayerPart(NamedTuple):
    """What one layer has to do with a gap; metric -> value and paired standard error.

    Attributes:
        layer: its name.
        part: of the gap; over all layers they add up to it.
        alone: what goes when this layer alone is put right.
        left: what is left when every other layer is.
    """

    layer: str
    part: dict[str, Difference]
    alone: dict[str, Difference]
    left: dict[str, Difference]


class Attribution(NamedTuple):
    """The whole gap, and each layer's part of it, in the model's order."""

    whole: dict[str, Difference]
    layers: tuple[LayerPart, ...]


def attribute(intervene: Intervene, layers: Sequence[str], batch_size: int) -> Attribution:
    """Find each layer's part of a gap.

    Args:
        intervene: measures the model with some layers put right, on the same images each time.
        layers: names, from input to output.
        batch_size: images that shared their statistics, as for `bnlab.science.gap.gap`.
    """
    count = len(layers)
    rows = np.unique(np.concatenate([*_orders(count), np.eye(count), 1 - np.eye(count)]), axis=0)
    found = {row.tobytes(): scores for row, scores in zip(rows, intervene(rows), strict=True)}

    def against(*terms: tuple[float, np.ndarray]) -> dict[str, Difference]:
        return contrast([(weight, found[row.tobytes()]) for weight, row in terms], batch_size)

    none, every = np.zeros(count), np.ones(count)
    parts = tuple(
        LayerPart(
            layer,
            against(*_steps(number, count)),
            against((1.0, none), (-1.0, np.eye(count)[number])),
            against((1.0, every - np.eye(count)[number]), (-1.0, every)),
        )
        for number, layer in enumerate(layers)
    )
    return Attribution(against((1.0, none), (-1.0, every)), parts)


def _orders(count: int) -> Iterator[np.ndarray]:
    """List the rows on the way from no layer to all of them, in both orders."""
    forth = np.tril(np.ones((count + 1, count)), -1)
    yield forth
    yield forth[:, ::-1]


def _steps(number: int, count: int) -> Iterator[tuple[float, np.ndarray]]:
    """Weigh the measurements before and after a layer joins, half for each order."""
    for rows, at in zip(_orders(count), (number, count - 1 - number), strict=True):
        yield 0.5, rows[at]
        yield -0.5, rows[at + 1]
