"""How the values of an array are spread: thirty counts between its smallest and its largest value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 30
KINDS = ("weights", "biases", "scales", "shifts", "activations", "moving mean", "moving variance")
"""What a layer can hold or give; scales and shifts are a normalization's gamma and beta."""
_PARTS = ("_conv", "_norm", "_relu")


@dataclass(frozen=True)
class Histogram:
    """Counts of an array's finite values, in bins of equal width.

    Attributes:
        low, high: the smallest and the largest of them, where the first bin begins and the last ends; NaN
            where there are none.
        counts: one per bin; a value on an inner edge is in the upper bin. All in the first one where low
            and high are equal.
        mean, deviation: of the values themselves, not of the bins; the deviation divides by n.
        not_finite: how many infinite and NaN values there are beside them.
    """

    low: float
    high: float
    counts: tuple[int, ...]
    mean: float
    deviation: float
    not_finite: int = 0

    @property
    def n(self) -> int:
        """How many values are counted."""
        return sum(self.counts)

    @property
    def edges(self) -> np.ndarray:
        """The (bins + 1,) ends of the bins."""
        return np.linspace(self.low, self.high, len(self.counts) + 1)

    def quantiles(self, shares: Sequence[float]) -> np.ndarray:
        """Find the values below which these shares lie, as if values were spread evenly within a bin.

        >>> histogram(np.array([0.0, 1.0, 2.0, 4.0]), bins=2).quantiles([0, 0.25, 0.5, 1]).tolist()
        [0.0, 1.0, 2.0, 4.0]
        """
        return np.interp(shares, np.cumsum([0, *self.counts]) / max(self.n, 1), self.edges)


@dataclass(frozen=True)
class LayerHistogram:
    """One row: how something of a layer was spread at a step.

    Attributes:
        step: optimizer steps of the checkpoint.
        layer: its name in the model.
        kind: one of `KINDS`.
        histogram: of all its values.
        decay: of moving statistics; None for everything else.
    """

    step: int
    layer: str
    kind: str
    histogram: Histogram
    decay: float | None = None

    @property
    def key(self) -> tuple:
        """What it is a histogram of: a new row replaces the old one of its key."""
        return self.step, self.layer, self.kind, self.decay


def histogram(values: np.ndarray, bins: int = BINS) -> Histogram:
    """Count an array's values between its own extremes.

    Args:
        values: of any shape.
        bins: how many.

    >>> histogram(np.array([0.0, 0.5, 1.0, 4.0, np.nan]), bins=4)
    Histogram(low=0.0, high=4.0, counts=(2, 1, 0, 1), mean=1.375, deviation=1.55..., not_finite=1)
    """
    every = np.asarray(values, np.float64).ravel()
    finite = every[np.isfinite(every)]
    beside = every.size - finite.size
    if not finite.size:
        nothing = float("nan")
        return Histogram(nothing, nothing, (0,) * bins, nothing, nothing, beside)
    low, high = float(finite.min()), float(finite.max())
    counts = np.bincount(_places(finite, low, high, bins), minlength=bins)
    return Histogram(low, high, tuple(counts.tolist()), float(finite.mean()), float(finite.std()), beside)


def _places(values: np.ndarray, low: float, high: float, bins: int) -> np.ndarray:
    """Number each value's bin; numpy's own histogram refuses a range of a few roundings."""
    shares = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.minimum((shares * bins).astype(np.intp), bins - 1)


def block(layer: str) -> str:
    """Name the block that a layer is a part of: convolution, normalization and ReLU are one block.

    >>> block("block1_norm"), block("logits")
    ('block1', 'logits')
    """
    return next((layer.removesuffix(part) for part in _PARTS if layer.endswith(part)), layer)
