"""The gap: a metric with phase false minus the same metric with phase true, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bnlab.science.scores import Scores

METRICS = ("rmse", "accuracy", "loss")


class Difference(NamedTuple):
    """A difference of two measurements on the same images, with its paired standard error."""

    value: float
    standard_error: float


def gap(moving: Scores, batch: Scores, batch_size: int) -> dict[str, Difference]:
    """Compare phase false with phase true on the same images, metric by metric.

    Args:
        moving: scores with moving statistics (phase false).
        batch: scores with batch statistics (phase true), same images in the same order.
        batch_size: how many consecutive images shared their statistics in phase true.

    Returns:
        metric -> difference, for `rmse`, `accuracy` and `loss`.
    """
    return contrast(((1.0, moving), (-1.0, batch)), batch_size)


def contrast(terms: Sequence[tuple[float, Scores]], batch_size: int) -> dict[str, Difference]:
    """Weigh measurements on the same images against one another: sum_k weight_k * metric_k.

    Args:
        terms: (weight, scores), all of the same images in the same order; weights add up to zero.
        batch_size: as for `gap`.

    Returns:
        metric -> value and paired standard error, for `rmse`, `accuracy` and `loss`.
    """
    # d sqrt(m) = dm / (2 sqrt(m)): the delta method makes the RMSE's root a mean over images.
    each = {
        "rmse": sum(weight * _linearized(scores) for weight, scores in terms),
        "accuracy": sum(weight * scores.correct for weight, scores in terms),
        "loss": sum(weight * scores.losses for weight, scores in terms),
    }
    return {
        name: Difference(
            sum(weight * getattr(scores, name) for weight, scores in terms),
            paired_standard_error(np.asarray(images), batch_size),
        )
        for name, images in each.items()
    }


def paired_standard_error(differences: np.ndarray, batch_size: int = 1) -> float:
    """Estimate the standard error of a mean of paired differences, batches being the independent units.

    Images that were normalized together share their statistics' noise, so their differences are not
    independent; batches are. This is the cluster-robust estimator (Liang & Zeger, Biometrika 1986):

        sqrt(G / (G - 1) * sum_g (sum_(i in g) (d_i - mean d))^2) / n      over G batches g

    With batches of one it is the usual standard deviation over the root of n.

    Args:
        differences: (images,) in evaluation order.
        batch_size: consecutive images per batch, >= 1; the last batch may be smaller.

    Returns:
        The standard error; NaN when fewer than two batches leave nothing to compare.

    >>> paired_standard_error(np.array([1.0, 3.0]))
    1.0
    """
    starts = np.arange(0, len(differences), batch_size)
    if len(starts) < 2:
        return float("nan")
    sums = np.add.reduceat(differences - differences.mean(), starts)
    spread = len(starts) / (len(starts) - 1) * (sums**2).sum()
    return float(np.sqrt(spread) / len(differences))


def _linearized(scores: Scores) -> np.ndarray:
    """Each image's share of the RMSE; a perfect score has a root of zero and no slope."""
    return np.zeros_like(scores.squared) if scores.rmse == 0 else scores.squared / (2 * scores.rmse)
