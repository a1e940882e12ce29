"""Statistics of a model that was trained on several devices, each with a moving average of its own.

Each replica sees its part of every batch, so their averages differ. A checkpoint keeps one set of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bnlab.science.mixtures import Layers, apart
from bnlab.science.moments import Moments, averaged, merged


def first(replicas: Moments) -> Moments:
    """Keep the first replica's: what Keras's variables do, which are read from the first device.

    Its batch normalization asks for no aggregation (`keras/src/layers/layer.py`, `add_weight`, takes "none"
    unless told), so every replica updates a copy of its own, and reading or saving takes the first one.

    Args:
        replicas: (replicas, channels) each.

    >>> one = first(Moments(np.array([[0.0], [4.0]]), np.array([[1.0], [3.0]])))
    >>> float(one.mean[0]), float(one.variance[0])
    (0.0, 1.0)
    """
    mean, variance = (np.asarray(part, np.float64)[0] for part in replicas)
    return Moments(mean, variance)


def mean(replicas: Moments) -> Moments:
    """Average means and variances over the replicas, as an aggregation by the mean does.

    The variance lacks what the replicas' means differ by.

    >>> one = mean(Moments(np.array([[0.0], [4.0]]), np.array([[1.0], [3.0]])))
    >>> float(one.mean[0]), float(one.variance[0])
    (2.0, 2.0)
    """
    return averaged(replicas)


def merge(replicas: Moments) -> Moments:
    """Merge the replicas as equal parts of one population: E[var_r] + Var[mean_r], the law of total variance.

    Moving averages have averaged out most of what the means of single batches differ by: of batches' moments
    this is their common variance, of averages it adds little.

    >>> one = merge(Moments(np.array([[0.0], [4.0]]), np.array([[1.0], [3.0]])))
    >>> float(one.mean[0]), float(one.variance[0])
    (2.0, 6.0)
    """
    return merged(replicas)


KEPT: Mapping[str, Callable[[Moments], Moments]] = {"first": first, "mean": mean, "merged": merge}
"""What a checkpoint keeps of the replicas' statistics, by name."""


def kept(replicas: Sequence[Layers], how: str) -> Layers:
    """Make one set of statistics of all replicas'.

    Args:
        replicas: of each, layer -> moments, (channels,).
        how: a key of `KEPT`.
    """
    return {layer: KEPT[how](_rows(replicas, layer)) for layer in replicas[0]}


def spread(replicas: Sequence[Layers], epsilons: Mapping[str, float]) -> float:
    """Measure how far the replicas lie from their merge: mean of `mixtures.apart` over them.

    Args:
        replicas: of each, layer -> moments, (channels,).
        epsilons: layer -> its epsilon.

    >>> two = [{"a": Moments(np.array([value]), np.array([3.0]))} for value in (0.0, 2.0)]
    >>> bool(np.isclose(spread(two, {"a": 0.0}), 2 / 7 + np.log(3 / 4) ** 2 / 2))  # from mean 1, variance 4
    True
    """
    whole = kept(replicas, "merged")
    return float(np.mean([apart(own, whole, epsilons) for own in replicas]))


def _rows(replicas: Sequence[Layers], layer: str) -> Moments:
    means, variances = zip(*(own[layer] for own in replicas), strict=True)
    return Moments(np.stack(means), np.stack(variances))
