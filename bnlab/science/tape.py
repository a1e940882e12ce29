"""The tape: the moments that every training step saw, layer by layer.

One row of a tape is one update of one layer - step, layer, call, mean, variance; a layer that is called
twice in a step is updated twice. Rows of a step lie side by side in one array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bnlab.science.averages import advance, zero_debiased
from bnlab.science.mixtures import Layers
from bnlab.science.moments import Moments
from bnlab.science.replicas import kept

# What Keras's moving statistics hold before the first update.
START_MEAN, START_VARIANCE = 0.0, 1.0


@dataclass(frozen=True)
class Column:
    """One update of one layer: where its moments stand in a step's row (means, then variances).

    Attributes:
        layer, call: the layer's name, and which of its updates in a step this is.
        channels: of the layer.
        epsilon: batch renormalization averages the deviation sqrt(variance + epsilon) (Ioffe, arXiv
            1702.03275, algorithm 1); None stands for an average of the variance.
        replica: the device that saw them; each takes a moving average of its own, beside the others'.
    """

    layer: str
    call: int
    channels: int
    epsilon: float | None = None
    replica: int = 0


@dataclass(frozen=True)
class Tape:
    """Moments of consecutive steps.

    Attributes:
        columns: the layout of a row.
        moments: (steps, sum over columns of 2 * channels) float32; a row of NaN is a step that updated
            nothing, with phase false or frozen statistics.
    """

    columns: tuple[Column, ...]
    moments: np.ndarray

    def updates(self, layer: str, replica: int = 0) -> np.ndarray:
        """List what a layer saw on a replica, oldest first: (updates, 2 * channels), means then variances."""
        parts, start = [], 0
        for column in self.columns:
            stop = start + 2 * column.channels
            if (column.layer, column.replica) == (layer, replica):
                parts.append(self.moments[:, start:stop])
            start = stop
        rows = np.stack(parts, axis=1).reshape(-1, parts[0].shape[1])
        return rows[~np.isnan(rows).all(axis=1)]


class MovingStatistics:
    """Moving statistics of every layer at several decays at once, carried along a tape.

    >>> tape = Tape((Column("norm", 0, 1),), np.array([[2.0, 3.0]], np.float32))
    >>> MovingStatistics(tape.columns, [0.5]).advance(tape).at(0.5)
    {'norm': (array([1.]), array([2.]))}
    """

    def __init__(self, columns: Sequence[Column], decays: Sequence[float]) -> None:
        """Begin at the start values: mean 0, variance 1, on every replica."""
        self.decays = tuple(decays)
        self.replicas = 1 + max((column.replica for column in columns), default=0)
        self._epsilons = {column.layer: column.epsilon for column in columns}
        channels = {column.layer: column.channels for column in columns}
        start = {layer: np.repeat([START_MEAN, START_VARIANCE], n) for layer, n in channels.items()}
        self._averages = [
            {layer: np.tile(row, (len(self.decays), 1)) for layer, row in start.items()}
            for _ in range(self.replicas)
        ]
        self._starts, self._updates = start, dict.fromkeys(start, 0)

    def advance(self, tape: Tape) -> MovingStatistics:
        """Carry every average over a further stretch of tape; returns itself."""
        for replica, averages in enumerate(self._averages):
            for layer, average in averages.items():
                updates = _averaged(tape.updates(layer, replica), self._epsilons[layer])
                averages[layer] = advance(average, updates, self.decays)
                self._updates[layer] += len(updates) if replica == 0 else 0
        return self

    def at(self, decay: float, how: str = "first") -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Read the statistics at one decay: layer -> (mean, variance), float64 of shape (channels,).

        Args:
            decay: one of those that are carried along.
            how: which of the replicas' statistics, as a key of `bnlab.science.replicas.KEPT`.
        """
        return self._kept(how, self.each(decay))

    def each(self, decay: float) -> list[dict[str, Moments]]:
        """Read the statistics of every replica at one decay, as `at`."""
        row = self.decays.index(decay)
        return [
            self._statistics({layer: average[row] for layer, average in averages.items()})
            for averages in self._averages
        ]

    @property
    def updates(self) -> dict[str, int]:
        """How often each layer was updated, on any one replica."""
        return dict(self._updates)

    def debiased(self, decay: float, how: str = "first") -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Read the statistics at one decay without what they still hold of their start, as `at`.

        Raises:
            ValueError: a layer was never updated, so that nothing else is in them.
        """
        row = self.decays.index(decay)
        return self._kept(how, [self._statistics(self._freed(own, row)) for own in self._averages])

    def _freed(self, averages: Mapping[str, np.ndarray], row: int) -> dict[str, np.ndarray]:
        """Take the start out of a replica's averages."""
        return {
            layer: zero_debiased(average[row], self._starts[layer], self.decays[row], self._updates[layer])
            for layer, average in averages.items()
        }

    @staticmethod
    def _kept(how: str, replicas: Sequence[Layers]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return {layer: (mean, variance) for layer, (mean, variance) in kept(replicas, how).items()}

    def _statistics(self, averages: Mapping[str, np.ndarray]) -> dict[str, Moments]:
        halves = {layer: np.split(average, 2) for layer, average in averages.items()}
        return {
            layer: Moments(mean, self._variance(layer, second)) for layer, (mean, second) in halves.items()
        }

    def _variance(self, layer: str, second: np.ndarray) -> np.ndarray:
        epsilon = self._epsilons[layer]
        # Rounding may leave a hair less than nothing once the start is taken out.
        return np.maximum(second if epsilon is None else second**2 - epsilon, 0.0)


def _averaged(updates: np.ndarray, epsilon: float | None) -> np.ndarray:
    """Turn variances into what is averaged in their place."""
    if epsilon is None:
        return updates
    mean, variance = np.split(updates.astype(np.float64), 2, axis=1)
    return np.concatenate([mean, np.sqrt(variance + epsilon)], axis=1)
